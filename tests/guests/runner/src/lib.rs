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
    match &*config.mode {
        "done" => return Ok(()),
        "retry" => return Err(Error::retry("not now")),
        "stop" => return Err(Error::stop("a person should look")),
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
        _ => {}
    }
    let mut is_sought = false;
    loop {
        let messages = sink.poll(max, Duration::from_millis(200))?;
        for message in &messages {
            match &*config.mode {
                "crash-on-poison" if message.value() == b"poison" => panic!("poison"),
                _ => sink.send(Outgoing::new(message.value()))?,
            }
        }
        if config.mode != "never-commit" {
            sink.commit()?;
        }
        if config.mode == "twice" && !is_sought && !messages.is_empty() {
            is_sought = true;
            for partition in sink.assignment() {
                sink.seek(&partition, SeekTo::Beginning)?;
            }
        }
    }
}
