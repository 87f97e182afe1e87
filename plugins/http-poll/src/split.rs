//! From an answer to records.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// What a record is.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Split {
    /// An element of an array.
    #[default]
    Json,
    /// A line that is not empty.
    Lines,
    /// The whole answer.
    None,
}

/// Where things lie, as JSON pointers.
pub(crate) struct Pointers<'a> {
    pub(crate) items: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) cursor: Option<&'a str>,
}

/// A part of the answer, byte by byte.
pub(crate) struct Found<'a> {
    pub(crate) value: &'a [u8],
    pub(crate) key: Option<String>,
    pub(crate) cursor: Option<String>,
}

/// The error says what is wrong with the answer.
pub(crate) fn split<'a>(
    body: &'a [u8],
    split: Split,
    pointers: &Pointers<'_>,
) -> Result<Vec<Found<'a>>, String> {
    match split {
        Split::None => Ok(vec![found(body, serde_json::from_slice(body).ok(), pointers)]),
        Split::Lines => {
            let lines = body.split(|&byte| byte == b'\n');
            let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let lines = lines.filter(|line| !line.is_empty());
            Ok(lines.map(|line| found(line, serde_json::from_slice(line).ok(), pointers)).collect())
        }
        Split::Json => {
            let answer: &RawValue =
                serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
            let Some(items) = at(answer, pointers.items) else {
                return Err(format!("the answer has nothing at \"items\": {:?}", pointers.items));
            };
            let items: Vec<&RawValue> = serde_json::from_str(items.get())
                .map_err(|_| format!("the answer has no array at \"items\": {:?}", pointers.items))?;
            Ok(items.into_iter().map(|item| found(item.get().as_bytes(), Some(item), pointers)).collect())
        }
    }
}

fn found<'a>(value: &'a [u8], item: Option<&RawValue>, pointers: &Pointers<'_>) -> Found<'a> {
    let text = |pointer: Option<&str>| match at(item?, pointer?)?.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        // A number may have more digits than fit into one.
        other => Some(other.to_owned()),
    };
    Found { value, key: text(pointers.key), cursor: text(pointers.cursor) }
}

/// What lies at a JSON pointer (RFC 6901), as it stands there.
fn at<'a>(mut value: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    if pointer.is_empty() {
        return Some(value);
    }
    for token in pointer.strip_prefix('/')?.split('/') {
        let token = token.replace("~1", "/").replace("~0", "~");
        value = if value.get().starts_with('{') {
            serde_json::from_str::<HashMap<String, &RawValue>>(value.get()).ok()?.remove(&token)?
        } else {
            let is_index = token == "0" || !token.starts_with(['0', '+']);
            let index: usize = is_index.then(|| token.parse().ok())??;
            *serde_json::from_str::<Vec<&RawValue>>(value.get()).ok()?.get(index)?
        };
    }
    Some(value)
}
