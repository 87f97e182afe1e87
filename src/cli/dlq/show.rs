//! `millstream dlq show`: letters, to be read.

use std::collections::BTreeMap;
use std::ops::Range;

use clap::Args;
use millstream_runtime::printable::printable;
use serde::Serialize;

use super::letter::{Error, Letter};
use super::reader::{self, Next};
use crate::cli::cluster::Cluster;
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::cli::position::Position;
use crate::cli::timestamp;
use crate::record_json::{self, RecordHeader, key, value};

/// What of a key, a value or a header is shown to people; JSON has all of it.
const SHOWN_BYTES_MAX: usize = 4096;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    connection: Connection,

    /// A dead letter topic: `millstream dlq list` shows them
    topic: String,

    /// Show letters of this partition only
    #[arg(long, short, value_name = "P")]
    partition: Option<i32>,

    /// Show the letter at this offset
    #[arg(long, short, value_name = "O", requires = "partition", conflicts_with_all = ["max", "from"])]
    offset: Option<i64>,

    /// How many letters
    #[arg(long, short = 'n', value_name = "N", default_value = "10",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    max: u64,

    /// Where to begin: beginning, an offset, or @TIME (ms since 1970, or RFC 3339) [default: with the newest letters]
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,
}

/// A letter as JSON. Bytes that are not UTF-8 go into the `_base64` twin of their field.
#[derive(Serialize)]
struct Shown<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    /// Null where no stage has written it.
    error: Option<ShownError<'a>>,
    #[serde(flatten, serialize_with = "key")]
    key: Option<&'a [u8]>,
    #[serde(flatten, serialize_with = "value")]
    value: Option<&'a [u8]>,
    headers: Vec<RecordHeader<'a>>,
    /// How many more there are, whose names are not UTF-8.
    unreadable_headers: usize,
}

#[derive(Serialize)]
struct ShownError<'a> {
    reason: &'a str,
    stage: &'a str,
    plugin: Option<&'a str>,
    version: Option<&'a str>,
    sha256: Option<&'a str>,
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    truncated: Option<u64>,
    batch_records: Option<u64>,
}

pub(super) fn run(args: &ShowArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let cluster = Cluster::connect(&args.connection)?;
    let held = reader::held(&cluster, &args.topic, args.partition)?;
    if let (Some(partition), Some(offset)) = (args.partition, args.offset) {
        return one(args, &held, partition, offset, &interrupt, output);
    }
    if let Some(position) = args.from {
        let ranges = reader::from(&cluster, &args.topic, held, position)?;
        let mut left = args.max;
        reader::read(&args.connection, &args.topic, &ranges, &interrupt, |letter| {
            show(&args.topic, &letter, output)?;
            left -= 1;
            Ok(if left == 0 { Next::End } else { Next::Letter })
        })?;
        return Ok(());
    }
    // The newest may all be in one partition.
    let ranges = reader::newest(&held, args.max.saturating_mul(held.len() as u64));
    let mut newest = BTreeMap::new();
    reader::read(&args.connection, &args.topic, &ranges, &interrupt, |letter| {
        newest.insert((letter.timestamp, letter.partition, letter.offset), letter);
        if newest.len() as u64 > args.max {
            newest.pop_first();
        }
        Ok(Next::Letter)
    })?;
    if newest.is_empty() && !output.json() {
        return output.line(format_args!("{} holds no letters", args.topic));
    }
    newest.values().try_for_each(|letter| show(&args.topic, letter, output))
}

fn one(
    args: &ShowArgs,
    held: &BTreeMap<i32, Range<i64>>,
    partition: i32,
    offset: i64,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut found = None;
    if held.get(&partition).is_some_and(|range| range.contains(&offset)) {
        let ranges = BTreeMap::from([(partition, offset..offset + 1)]);
        reader::read(&args.connection, &args.topic, &ranges, interrupt, |letter| {
            found = Some(letter);
            Ok(Next::End)
        })?;
    }
    match found {
        Some(letter) => show(&args.topic, &letter, output),
        None => {
            let action = format!("read {}", args.topic);
            let reason = format!("there is no letter at partition {partition} offset {offset}");
            Err(Failure::Client { action, reason })
        }
    }
}

fn show(topic: &str, letter: &Letter, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return output.document(&shown(topic, letter));
    }
    lines(topic, letter).iter().try_for_each(|line| output.line(line))
}

fn shown<'a>(topic: &'a str, letter: &'a Letter) -> Shown<'a> {
    let error = letter.error.as_ref().map(|error| ShownError {
        reason: &error.reason,
        stage: &error.stage,
        plugin: error.plugin.as_deref(),
        version: error.version.as_deref(),
        sha256: error.sha256.as_deref(),
        topic: &error.topic,
        partition: error.partition,
        offset: error.offset,
        timestamp: error.timestamp,
        truncated: error.truncated,
        batch_records: error.batch_records,
    });
    let header = |(key, value): &'a (String, Option<Vec<u8>>)| RecordHeader { key, value: value.as_deref() };
    Shown {
        topic,
        partition: letter.partition,
        offset: letter.offset,
        timestamp: letter.timestamp,
        error,
        key: letter.key.as_deref(),
        value: letter.value.as_deref(),
        headers: letter.headers.iter().map(header).collect(),
        unreadable_headers: letter.unreadable,
    }
}

/// A letter for people, with an empty line behind it.
fn lines(topic: &str, letter: &Letter) -> Vec<String> {
    let time =
        |ms: Option<i64>| ms.filter(|ms| *ms >= 0).map_or_else(|| "no time".to_owned(), timestamp::format);
    let mut lines = vec![format!("{topic} {}, {}", letter.place(), time(letter.timestamp))];
    let mut add = |name: &str, text: String| lines.push(format!("  {name:<10}{text}"));
    match &letter.error {
        None => add("letter", "no: no stage has written it".to_owned()),
        Some(error) => {
            let Error { reason, plugin, version, sha256, stage, topic, partition, offset, .. } = error;
            add("reason", text(reason.as_bytes()));
            add(
                "from",
                format!(
                    "{topic} partition {partition} offset {offset}, {}",
                    time(letter.original_timestamp())
                ),
            );
            add("stage", text(stage.as_bytes()));
            let optional = [("plugin", plugin), ("version", version), ("sha256", sha256)];
            for (name, value) in optional {
                if let Some(value) = value {
                    add(name, text(value.as_bytes()));
                }
            }
            if let Some(bytes) = error.truncated {
                add("cut", format!("the value had {bytes} bytes"));
            }
            if let Some(records) = error.batch_records {
                add("batch", format!("the value is a batch of {records} records that can't be opened"));
            }
        }
    }
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or_else(|| "null".to_owned(), text);
    add("key", bytes(&letter.key));
    add("value", bytes(&letter.value));
    for (name, value) in &letter.headers {
        add("header", format!("{}={}", text(name.as_bytes()), bytes(value)));
    }
    if letter.unreadable > 0 {
        add("headers", format!("{} more can't be read: their names are not UTF-8", letter.unreadable));
    }
    lines.push(String::new());
    lines
}

/// Bytes that a terminal can stand: text, or base64.
fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let cut = if shown.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    // The cut may be inside of a character.
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text, SHOWN_BYTES_MAX) + &cut,
        Err(_) => format!("base64 {}{cut}", record_json::base64(shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dlq::letter::tests::letter;

    #[test]
    fn a_letter_is_readable_and_safe_to_print() {
        let mut letter = letter("not\x1b[31m JSON");
        letter.key = Some(b"\xff\x00".to_vec());
        letter.headers = vec![("h".to_owned(), Some("ä".into())), ("none".to_owned(), None)];
        letter.unreadable = 2;
        let expected = [
            "dead partition 0 offset 7, 1970-01-01T00:00:02Z",
            "  reason    not\u{fffd}[31m JSON",
            "  from      orders partition 2 offset 42, 1970-01-01T00:00:01Z",
            "  stage     p.s",
            "  plugin    a@b",
            "  version   v3:0f1e",
            "  sha256    0f1e2d",
            "  key       base64 /wA=",
            "  value     null",
            "  header    h=ä",
            "  header    none=null",
            "  headers   2 more can't be read: their names are not UTF-8",
            "",
        ];
        assert_eq!(lines("dead", &letter), expected);
        let json = serde_json::to_value(shown("dead", &letter)).unwrap();
        assert_eq!((&json["key_base64"], &json["error"]["offset"]), (&"/wA=".into(), &42.into()), "{json}");
    }

    #[test]
    fn no_header_reaches_the_terminal_as_it_is() {
        use crate::cli::dlq::letter::tests::poisoned;
        for poisoned in poisoned() {
            let shown = lines("dead", &poisoned).join("\n");
            assert!(!shown.contains(['\x1b', '\x07', '\r', '\u{202e}']), "{shown:?}");
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = text("ä".repeat(SHOWN_BYTES_MAX).as_bytes());
        assert!(long.ends_with("ä... (8192 bytes)"), "{long}");
        assert_eq!(
            text(&[0xff; SHOWN_BYTES_MAX + 1]).len(),
            "base64 ".len() + 5464 + "... (4097 bytes)".len()
        );
    }
}
