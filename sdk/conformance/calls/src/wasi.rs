//! What WASI offers, as a standard library uses it: what needs no grant works, everything else is not there.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Answer;

/// The start of 2025.
const NOT_BEFORE_S: u64 = 1_735_689_600;

#[expect(clippy::disallowed_methods, reason = "what a guest's clocks show is what this is about")]
pub(crate) fn make(name: &str) -> Answer {
    let is_random = |seed: &RandomState| seed.build_hasher().finish();
    Ok(match name {
        "wasi.clocks.wall" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            json!(now.as_secs() > NOT_BEFORE_S)
        }
        "wasi.clocks.monotonic" => {
            let before = Instant::now();
            json!(before.elapsed().as_nanos() < 60_000_000_000)
        }
        "wasi.random" => json!(is_random(&RandomState::new()) != 0),
        "wasi.environment" => json!(std::env::vars_os().count()),
        "wasi.arguments" => json!(std::env::args_os().count()),
        "wasi.stdin" => {
            let mut text = String::new();
            let read = std::io::stdin().read_line(&mut text);
            json!(read.unwrap_or_default())
        }
        "wasi.stdout" => return printed(&mut std::io::stdout(), "a line on standard output"),
        "wasi.stderr" => return printed(&mut std::io::stderr(), "a line on standard error"),
        "wasi.filesystem" => refused(std::fs::read_dir("/").err()),
        "wasi.sockets.connect" => refused(TcpStream::connect("127.0.0.1:9092").err()),
        "wasi.sockets.listen" => refused(TcpListener::bind("127.0.0.1:0").err()),
        _ => return Err(("no-such-call", String::new())),
    })
}

fn printed(stream: &mut dyn std::io::Write, line: &str) -> Answer {
    writeln!(stream, "{line}").map(|()| Value::Null).map_err(|error| ("io", error.to_string()))
}

fn refused(error: Option<std::io::Error>) -> Value {
    json!(if error.is_some() { "refused" } else { "allowed" })
}
