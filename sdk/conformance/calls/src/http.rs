//! Requests to hosts that are granted.

use serde_json::{Map, Value, json};

use crate::Answer;
use crate::arguments::{bytes, shown, text};
use crate::bindings::millstream::plugin::http;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    (name == "http.send").then(|| send(call))
}

fn send(call: &Value) -> Answer {
    let header =
        |header: &Value| http::Header { name: text(&header["name"]), value: long_text(&header["value"]) };
    let request = http::Request {
        method: text(&call["method"]),
        url: text(&call["url"]),
        headers: call["headers"].as_array().into_iter().flatten().map(header).collect(),
        body: bytes(&call["body"]),
        timeout_ms: call["timeout_ms"].as_u64().and_then(|millis| millis.try_into().ok()),
    };
    let http::Response { status, headers, body } = http::send(&request).map_err(error)?;
    let headers: Map<String, Value> =
        headers.into_iter().map(|http::Header { name, value }| (name, value.into())).collect();
    Ok(json!({"status": status, "headers": headers, "body": shown(Some(&body))}))
}

/// As bytes are, for a value that is too long.
fn long_text(value: &Value) -> String {
    String::from_utf8(bytes(value).unwrap_or_default()).unwrap_or_default()
}

fn error(error: http::Error) -> (&'static str, String) {
    match error {
        http::Error::Stopping => ("stopping", String::new()),
        http::Error::NotGranted(says) => ("not-granted", says),
        http::Error::Invalid(says) => ("invalid", says),
        http::Error::Unavailable(says) => ("unavailable", says),
    }
}
