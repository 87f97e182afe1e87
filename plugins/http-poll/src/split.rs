//! From an answer to records.

use millstream_sdk::prelude::*;
use serde::Deserialize;
use serde_json::Value;

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

pub(crate) struct Found {
    pub(crate) value: Vec<u8>,
    pub(crate) key: Option<String>,
    pub(crate) cursor: Option<String>,
}

pub(crate) fn split(body: &[u8], split: Split, pointers: &Pointers<'_>) -> Result<Vec<Found>> {
    match split {
        Split::None => Ok(vec![found(body.to_vec(), serde_json::from_slice(body).ok().as_ref(), pointers)]),
        Split::Lines => {
            let lines = body.split(|&byte| byte == b'\n');
            let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let lines = lines.filter(|line| !line.is_empty());
            let of = |line: &[u8]| found(line.to_vec(), serde_json::from_slice(line).ok().as_ref(), pointers);
            Ok(lines.map(of).collect())
        }
        Split::Json => {
            let answer: Value = serde_json::from_slice(body)
                .map_err(|error| Error::stop(format!("the answer is no JSON: {error}")))?;
            match answer.pointer(pointers.items) {
                Some(Value::Array(items)) => {
                    let of = |item: &Value| found(item.to_string().into_bytes(), Some(item), pointers);
                    Ok(items.iter().map(of).collect())
                }
                Some(_) => {
                    Err(Error::stop(format!("the answer has no array at \"items\": {:?}", pointers.items)))
                }
                None => {
                    Err(Error::stop(format!("the answer has nothing at \"items\": {:?}", pointers.items)))
                }
            }
        }
    }
}

fn found(value: Vec<u8>, item: Option<&Value>, pointers: &Pointers<'_>) -> Found {
    let at = |pointer: Option<&str>| match item?.pointer(pointer?)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Found { value, key: at(pointers.key), cursor: at(pointers.cursor) }
}
