//! A consumer that does what its configuration says, to see what the host makes of it.

use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run::{Partition, SeekTo};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    mode: String,
    /// Records of one poll.
    #[serde(default)]
    max: Option<u32>,
}

#[sink]
fn runner(sink: &mut Sink, config: &Config) -> Result<()> {
    let max = config.max.unwrap_or(100);
    log::info(format!("mode {}", config.mode));
    if begin(sink, &config.mode)? {
        return Ok(());
    }
    let wait = if matches!(&*config.mode, "long-poll" | "hoard") { 3600 * 1000 } else { 200 };
    let (mut is_sought, mut gathered) = (false, Vec::new());
    loop {
        let messages = sink.poll(max, Duration::from_millis(wait))?;
        for message in &messages {
            match &*config.mode {
                "crash-on-poison" | "seek-away" | "hoard" if message.value() == b"poison" => panic!("poison"),
                "crash-at-commit" => gathered.push(message.value().to_vec()),
                "reject" if message.value() == b"bad" => sink.reject(message, "it says so")?,
                // It goes on, whatever it is told.
                "reject-all" if message.value() == b"bad" => drop(sink.reject(message, "it says so")),
                "pause" => obey(sink, message)?,
                // For longer than half a second on any machine.
                "busy" => {
                    compute(500_000_000);
                    sink.send(Outgoing::new(message.value()))?;
                }
                _ => sink.send(Outgoing::new(message.value()))?,
            }
        }
        match &*config.mode {
            "never-commit" => continue,
            // It has told what it polls, and that a poll for an hour has ended.
            "hoard" => {
                if messages.is_empty() {
                    sink.send(Outgoing::new("nothing"))?;
                }
                sink.sleep(Duration::ZERO)?;
                continue;
            }
            // What it writes to takes several records at once.
            "crash-at-commit" if gathered.len() < 3 && !messages.is_empty() => continue,
            _ => {}
        }
        assert!(!gathered.iter().any(|value| value == b"poison"), "poison");
        for value in gathered.drain(..) {
            sink.send(Outgoing::new(value))?;
        }
        sink.commit()?;
        if config.mode == "twice" && !is_sought && !messages.is_empty() {
            is_sought = true;
            for partition in sink.assignment() {
                sink.seek(&partition, SeekTo::Beginning)?;
            }
        }
    }
}

/// What some modes do before they poll, or instead of it: true if that was all.
fn begin(sink: &mut Sink, mode: &str) -> Result<bool> {
    match mode {
        "done" => return Ok(true),
        "retry" => return Err(Error::retry("not now")),
        "stop" => return Err(Error::stop("a person should look")),
        // Each turn of these is short, and none of them polls.
        "spin-and-count" => loop {
            compute(1000);
            millstream_sdk::metrics::counter("turns", 1)?;
        },
        "spin-and-look" => loop {
            compute(1000);
            sink.assignment();
        },
        "spin-and-nap" => loop {
            compute(1_000_000);
            std::thread::sleep(Duration::from_millis(1));
        },
        "spin-and-retry" => {
            compute(100_000_000);
            return Err(Error::retry("not now"));
        }
        "spin" => loop {
            std::hint::black_box(0);
        },
        "foreign-topic" => sink.send(Outgoing::new("x").to("no-such-topic"))?,
        "seek-foreign" => {
            let nobody = Partition { topic: "in".to_owned(), partition: 99 };
            let owned = sink.seek(&nobody, SeekTo::Beginning)?;
            sink.send(Outgoing::new(format!("owned {owned}")))?;
            sink.commit()?;
        }
        // Away from what is committed.
        "seek-away" => {
            while sink.assignment().is_empty() {
                sink.poll(1, Duration::from_millis(200))?;
            }
            sink.seek(&Partition { topic: "in".to_owned(), partition: 0 }, SeekTo::Offset(2))?;
        }
        "subscribe-other" => sink.subscribe(&["other"])?,
        "subscribe-foreign" => sink.subscribe(&["in", "no-such-topic"])?,
        _ => {}
    }
    Ok(false)
}

fn compute(turns: u64) {
    let step =
        |last: u64, turn| last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn).rotate_left(7);
    std::hint::black_box((0..std::hint::black_box(turns)).fold(1, step));
}

/// `pause N` and `resume N` are for partition N of its topic; anything else is passed on.
fn obey(sink: &mut Sink, message: &Message) -> Result<()> {
    let of =
        |number: &str| Partition { topic: message.topic.clone(), partition: number.parse().unwrap_or(0) };
    let done = match message.text()?.split_once(' ') {
        Some(("pause", number)) => sink.pause(&of(number))?,
        Some(("resume", number)) => sink.resume(&of(number))?,
        _ => return sink.send(Outgoing::new(message.value())),
    };
    sink.send(Outgoing::new(format!("{}: {done}", message.text()?)))
}
