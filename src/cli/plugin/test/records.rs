//! Records in cases: those that go in, and what is expected of those that come out.

use std::collections::BTreeMap;

use millstream_runtime::trial::TrialRecord;
use serde::Deserialize;
use serde_json::Value;

/// A record that goes in. A value that is no text is written as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    timestamp: i64,
}

/// A record that should come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    #[serde(default, deserialize_with = "present")]
    key: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    timestamp: Option<i64>,
    topic: Option<String>,
    partition: Option<i32>,
}

/// Null is a value to be compared with, too.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A record that came out.
pub(super) struct Made<'a> {
    pub(super) topic: &'a str,
    /// None: chosen from the key.
    pub(super) partition: Option<i32>,
    pub(super) record: &'a TrialRecord,
}

/// What differs from what is expected, in this order.
pub(super) fn compare_outputs(expected: &[Expected], made: Vec<Made<'_>>, problems: &mut Vec<String>) {
    if made.len() != expected.len() {
        problems.push(format!("{} outputs instead of {}", made.len(), expected.len()));
        let unexpected = made.iter().skip(expected.len());
        problems.extend(unexpected.map(|made| format!("not expected: {}", shown(made.record))));
    }
    for (number, (expected, made)) in expected.iter().zip(&made).enumerate() {
        expected.compare(made, |problem| problems.push(format!("output {number}: {problem}")));
    }
}

impl Input {
    pub(super) fn to_record(&self) -> TrialRecord {
        let header = |(key, value): (&String, &Value)| (key.clone(), bytes(value));
        TrialRecord {
            timestamp: self.timestamp,
            key: bytes(&self.key),
            value: bytes(&self.value),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// Text is itself, null is null, and whatever else is JSON.
pub(super) fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        value => Some(value.to_string().into_bytes()),
    }
}

impl Expected {
    fn compare(&self, made: &Made<'_>, mut differs: impl FnMut(String)) {
        let Made { topic, partition, record } = made;
        for (what, expected, found) in
            [("key", &self.key, &record.key), ("value", &self.value, &record.value)]
        {
            if let Some(expected) = expected
                && !is_same(expected, found.as_deref())
            {
                differs(format!(
                    "{what} is {}, not {}",
                    text(found.as_deref()),
                    text(bytes(expected).as_deref())
                ));
            }
        }
        if let Some(expected) = &self.headers {
            let found: BTreeMap<&str, Option<&[u8]>> =
                record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let same = expected.len() == found.len()
                && expected
                    .iter()
                    .all(|(key, value)| found.get(key.as_str()).is_some_and(|found| is_same(value, *found)));
            if !same {
                let found: Vec<_> =
                    found.iter().map(|(key, value)| format!("{key}={}", text(*value))).collect();
                differs(format!("headers are {}", found.join(", ")));
            }
        }
        if let Some(expected) = self.timestamp.filter(|expected| *expected != record.timestamp) {
            differs(format!("timestamp is {}, not {expected}", record.timestamp));
        }
        if let Some(expected) = self.topic.as_ref().filter(|expected| expected.as_str() != *topic) {
            differs(format!("topic is {topic:?}, not {expected:?}"));
        }
        if let Some(expected) = self.partition.filter(|expected| Some(*expected) != *partition) {
            differs(format!("partition is {partition:?}, not {expected}"));
        }
    }
}

/// JSON is compared as JSON: the order of an object's keys does not count.
pub(super) fn is_same(expected: &Value, found: Option<&[u8]>) -> bool {
    match (expected, found) {
        (Value::Null, found) => found.is_none(),
        (_, None) => false,
        (Value::String(text), Some(found)) => text.as_bytes() == found,
        (expected, Some(found)) => {
            serde_json::from_slice::<Value>(found).is_ok_and(|found| found == *expected)
        }
    }
}

pub(super) fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)))
}

fn shown(record: &TrialRecord) -> String {
    format!("key {}, value {}", text(record.key.as_deref()), text(record.value.as_deref()))
}
