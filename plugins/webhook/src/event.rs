//! A record as a server gets it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_sdk::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;

/// An array of events, or an event a line.
pub(crate) fn body(messages: &[Message], lines: bool) -> String {
    let events: Vec<String> = messages.iter().map(event).collect();
    if lines {
        // In JSON these stand between tokens and nowhere else.
        events.iter().map(|event| format!("{}\n", event.replace(['\n', '\r'], " "))).collect()
    } else {
        format!("[{}]", events.join(","))
    }
}

#[derive(Serialize)]
struct Event<'a> {
    topic: &'a str,
    partition: u32,
    offset: i64,
    timestamp: i64,
    key: Field<'a>,
    value: Field<'a>,
    headers: Vec<Header<'a>>,
}

/// A record may have several of one key, and their order counts.
#[derive(Serialize)]
struct Header<'a> {
    key: &'a str,
    value: Field<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Null,
    /// As it stands in the record: what a number's digits or a key that is there twice mean is the server's to know.
    Json(&'a RawValue),
    Text(&'a str),
    Bytes {
        base64: String,
    },
}

impl<'a> Field<'a> {
    fn text(bytes: Option<&'a [u8]>) -> Self {
        let Some(bytes) = bytes else { return Self::Null };
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Bytes { base64: STANDARD.encode(bytes) },
        }
    }

    fn json(bytes: Option<&'a [u8]>) -> Self {
        match bytes.map(serde_json::from_slice) {
            Some(Ok(json)) => Self::Json(json),
            _ => Self::text(bytes),
        }
    }
}

fn event(message: &Message) -> String {
    let value = (!message.is_tombstone()).then(|| message.value());
    let event = Event {
        topic: &message.topic,
        partition: message.partition,
        offset: message.offset,
        timestamp: message.timestamp,
        key: Field::text(message.key()),
        value: Field::json(value),
        headers: message.headers().map(|(key, value)| Header { key, value: Field::text(value) }).collect(),
    };
    serde_json::to_string(&event).expect("all of its keys are texts")
}
