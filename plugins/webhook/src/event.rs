//! A record as a server gets it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_sdk::prelude::*;
use serde_json::{Map, Value, json};

/// An array of events, or an event a line.
pub(crate) fn body(messages: &[Message], lines: bool) -> String {
    let events: Vec<String> = messages.iter().map(|message| event(message).to_string()).collect();
    if lines {
        events.iter().map(|event| format!("{event}\n")).collect()
    } else {
        format!("[{}]", events.join(","))
    }
}

fn event(message: &Message) -> Value {
    let headers: Map<_, _> = message.headers().map(|(key, value)| (key.to_owned(), text(value))).collect();
    let value = match serde_json::from_slice(message.value()) {
        Ok(value) if !message.is_tombstone() => value,
        _ => text((!message.is_tombstone()).then(|| message.value())),
    };
    json!({
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "timestamp": message.timestamp,
        "key": text(message.key()),
        "value": value,
        "headers": headers,
    })
}

/// Text where it is text; otherwise `{"base64": …}`.
fn text(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}
