//! Reading what a call is to be made with, and showing what it has answered.

use serde_json::{Value, json};

use crate::bindings::millstream::plugin::consumer;
use crate::bindings::millstream::plugin::producer;

/// Text is itself, null is null, `{repeat: TEXT, times: N}` is a long one, and `{noise: N}` so many bytes that can't be
/// compressed.
pub(crate) fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::Object(object) if object.contains_key("noise") => {
            let mut state = 0x9e37_79b9_7f4a_7c15u64;
            let noise = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            });
            Some(noise.take(usize::try_from(object["noise"].as_u64()?).ok()?).collect())
        }
        Value::Object(object) => {
            let times = object.get("times").and_then(Value::as_u64).unwrap_or(1);
            let text = object.get("repeat").and_then(Value::as_str).unwrap_or_default();
            Some(text.repeat(usize::try_from(times).unwrap_or_default()).into_bytes())
        }
        value => Some(text(value).into_bytes()),
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn u32_of(value: &Value) -> u32 {
    value.as_u64().and_then(|number| number.try_into().ok()).unwrap_or_default()
}

/// Bytes as text, and null as null.
pub(crate) fn shown(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| String::from_utf8_lossy(bytes).into())
}

pub(crate) fn outgoing(value: &Value) -> producer::Message {
    let headers = value["headers"].as_array().into_iter().flatten();
    producer::Message {
        topic: value["topic"].as_str().map(str::to_owned),
        partition: value["partition"].as_u64().and_then(|number| number.try_into().ok()),
        timestamp: value["timestamp"].as_i64(),
        key: bytes(&value["key"]),
        value: bytes(&value["value"]),
        headers: headers
            .map(|header| producer::Header { key: text(&header["key"]), value: bytes(&header["value"]) })
            .collect(),
    }
}

pub(crate) fn partition(value: &Value) -> consumer::TopicPartition {
    consumer::TopicPartition { topic: text(&value["topic"]), partition: u32_of(&value["partition"]) }
}

pub(crate) fn partitions(value: &Value) -> Vec<consumer::TopicPartition> {
    value.as_array().into_iter().flatten().map(partition).collect()
}

pub(crate) fn seek_to(value: &Value) -> consumer::SeekTo {
    match (value.as_str(), value["offset"].as_i64(), value["timestamp"].as_i64()) {
        (Some("beginning"), ..) => consumer::SeekTo::Beginning,
        (Some("end"), ..) => consumer::SeekTo::End,
        (_, Some(offset), _) => consumer::SeekTo::Offset(offset),
        (_, _, Some(timestamp)) => consumer::SeekTo::Timestamp(timestamp),
        _ => consumer::SeekTo::Committed,
    }
}

pub(crate) fn message(message: &consumer::Message) -> Value {
    let consumer::Message { topic, partition, offset, timestamp, key, value, headers } = message;
    let header =
        |header: &consumer::Header| json!({"key": header.key, "value": shown(header.value.as_deref())});
    json!({
        "topic": topic, "partition": partition, "offset": offset, "timestamp": timestamp,
        "key": shown(key.as_deref()), "value": shown(value.as_deref()),
        "headers": headers.iter().map(header).collect::<Vec<_>>(),
    })
}

/// A batch, whose records stay packed: in hexadecimal digits.
pub(crate) fn batch(batch: &consumer::Batch) -> Value {
    let consumer::Batch { topic, partition, base_offset, base_timestamp, append_time, record_count, records } =
        batch;
    json!({
        "topic": topic, "partition": partition, "base_offset": base_offset, "base_timestamp": base_timestamp,
        "append_time": append_time, "record_count": record_count,
        "records": records.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

pub(crate) fn hexadecimal(value: &Value) -> Vec<u8> {
    let digits: Vec<u8> = text(value).bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.chunks(2).filter_map(byte).collect()
}
