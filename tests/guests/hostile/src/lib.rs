//! Does what a record's value says, all of it things that a host must survive. Other values are passed on. With the
//! configuration `never_start: true`, it never starts.

use std::time::{Duration, Instant};

use millstream_sdk::prelude::*;

#[derive(serde::Deserialize)]
#[serde(from = "Told")]
struct Config;

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Told {
    never_start: bool,
}

impl From<Told> for Config {
    fn from(told: Told) -> Self {
        if told.never_start {
            loop {
                std::hint::black_box(());
            }
        }
        Self
    }
}

#[transform]
fn hostile(record: Record, out: &mut Output, _config: &Config) -> Result<()> {
    match record.value().unwrap_or_default() {
        b"panic" => panic!("told to panic"),
        b"loop" => loop {
            std::hint::black_box(());
        },
        b"eat memory" => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        b"recurse" => log::info(recurse(1).to_string()),
        b"flood outputs" => loop {
            out.record(&record).value("flood").emit()?;
        },
        b"giant output" => (0..40).try_for_each(|_| out.record(&record).value(vec![1; 1 << 20]).emit())?,
        b"trap half way" => {
            out.record(&record).value("half").emit()?;
            log::error("half way");
            std::process::abort();
        }
        b"flood handles" => flood_handles(),
        b"sleep" => std::thread::sleep(Duration::from_secs(24 * 60 * 60)),
        b"a million calls" => {
            (0..1_000_000).for_each(|_| call_host());
        }
        b"call for ever" => loop {
            call_host();
        },
        b"huge argument" => log::info("x".repeat(128 << 20)),
        b"flood log" => (0..100_000).for_each(|line| log::error(format!("\u{1b}[31mline {line}"))),
        b"abort" => std::process::abort(),
        b"reject" => return Err(Error::reject("told to reject")),
        b"retry" => return Err(Error::retry("told to retry")),
        b"stop" => return Err(Error::stop("told to stop")),
        _ => {}
    }
    out.keep(&record);
    Ok(())
}

#[expect(unconditional_recursion, reason = "it is to exhaust the stack")]
fn recurse(depth: u64) -> u64 {
    recurse(std::hint::black_box(depth) + 1) + 1
}

#[expect(clippy::disallowed_methods, reason = "it is the call that counts, not the time")]
fn call_host() {
    std::hint::black_box(Instant::now());
}

/// Asks for one thing to wait for after the other, and lets go of none.
#[cfg(target_family = "wasm")]
fn flood_handles() {
    let mut held = Vec::new();
    loop {
        held.push(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX));
    }
}

#[cfg(not(target_family = "wasm"))]
fn flood_handles() {
    panic!("there is no host to flood");
}
