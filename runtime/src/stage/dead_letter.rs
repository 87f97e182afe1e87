//! What was rejected, as a dead letter: the record as it came, and what happened to it in its headers. A letter
//! always fits its topic: where the whole record does not, its value is cut, and a header says so.

use millstream_record::varint::{put_varint, varint_bytes};
use millstream_record::{Header, Headers, RecordBatch};

use super::letter_headers::{
    BATCH_RECORDS, OFFSET, PARTITION, PLUGIN, PLUGIN_SHA256, REASON, STAGE, TIMESTAMP, TOPIC, TRUNCATED,
};
use super::spec::{StagePlugin, StageSpec};
use crate::batch::{InputBatch, InputRecord};

/// In the place of the offset of a record that was never stored.
const NO_OFFSET: i64 = -1;

/// What was rejected, and from where.
pub(crate) struct Original<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(super) timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// Read again where they are wanted: a record has room for millions of them.
    headers: Option<Headers<'a>>,
    /// Records of a batch that could not be opened.
    batch_records: Option<i32>,
}

impl<'a> Original<'a> {
    pub(crate) fn record(input: &'a InputBatch, record: &InputRecord) -> Self {
        let (key, value, headers) = input.fields(record).fields();
        Self {
            topic: &input.topic,
            partition: input.partition,
            offset: input.offset(record),
            timestamp: record.timestamp,
            key,
            value,
            headers: Some(headers),
            batch_records: None,
        }
    }

    /// A record that a producer sends, which lies nowhere yet.
    pub(crate) fn unstored(input: &'a InputBatch, index: u32) -> Self {
        Self { offset: NO_OFFSET, ..Self::record(input, &input.records[index as usize]) }
    }

    /// A batch that nobody can open, from `offset` on.
    pub(crate) fn batch(topic: &'a str, partition: i32, offset: i64, batch: &RecordBatch<'a>) -> Self {
        Self {
            topic,
            partition,
            offset,
            timestamp: batch.max_timestamp(),
            key: None,
            value: Some(batch.bytes()),
            headers: None,
            batch_records: Some(batch.records_count()),
        }
    }
}

/// What the headers say.
pub(crate) struct Cause<'a> {
    pub(super) reason: &'a str,
    /// Name and version.
    pub(super) plugin: Option<String>,
    /// The hash of its component.
    pub(super) plugin_sha256: Option<String>,
    /// Pipeline and stage.
    pub(super) stage: String,
}

impl<'a> Cause<'a> {
    /// None, if it was no plugin that rejected it.
    pub(crate) fn of(spec: &StageSpec, reason: &'a str, plugin: Option<&StagePlugin>) -> Self {
        Self {
            reason,
            plugin: plugin.map(StagePlugin::label),
            plugin_sha256: plugin.map(|plugin| crate::engine::hex(plugin.plugin.sha256())),
            stage: format!("{}.{}", spec.pipeline, spec.name),
        }
    }
}

/// The letter's encoded body: whole if `fits` says so, else cut to `bytes_max`. None if not even the headers have
/// room.
pub(super) fn body(
    original: &Original<'_>,
    cause: &Cause<'_>,
    bytes_max: usize,
    fits: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let (partition, offset) = (original.partition.to_string(), original.offset.to_string());
    let timestamp = original.timestamp.to_string();
    let value_bytes = original.value.map_or(0, <[u8]>::len).to_string();
    let batch_records = original.batch_records.map(|records| records.to_string());
    let mut added = vec![header(REASON, cause.reason)];
    added.extend(cause.plugin.as_ref().map(|plugin| header(PLUGIN, plugin)));
    added.extend(cause.plugin_sha256.as_ref().map(|sha256| header(PLUGIN_SHA256, sha256)));
    added.push(header(STAGE, &cause.stage));
    added.push(header(TOPIC, original.topic));
    added.push(header(PARTITION, &partition));
    added.push(header(OFFSET, &offset));
    added.push(header(TIMESTAMP, &timestamp));
    added.extend(batch_records.as_ref().map(|records| header(BATCH_RECORDS, records)));
    let whole = encoded(original.key, original.value, original.headers.clone(), &added);
    if fits(&whole) {
        return Some(whole);
    }
    added.push(header(TRUNCATED, &value_bytes));
    let cut = |key: Option<&[u8]>, headers: Option<Headers<'_>>| {
        let without_value = encoded(key, Some(&[]), headers.clone(), &added).len();
        // The length in front of the value grows with it.
        let room = bytes_max.checked_sub(without_value + varint_bytes(i32::MAX))?;
        let value = original.value.map(|value| &value[..value.len().min(room)]);
        Some(encoded(key, value, headers, &added))
    };
    cut(original.key, original.headers.clone()).or_else(|| cut(None, None))
}

fn header<'a>(key: &'a str, value: &'a str) -> Header<'a> {
    Header { key: key.as_bytes(), value: Some(value.as_bytes()) }
}

/// The record's own headers, and those that were added behind them.
fn encoded(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    own: Option<Headers<'_>>,
    added: &[Header<'_>],
) -> Vec<u8> {
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, bytes: Option<&[u8]>| {
        let length =
            bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("parts of a record fit an i32"));
        put_varint(out, length);
        out.extend_from_slice(bytes.unwrap_or_default());
    };
    put(&mut out, key);
    put(&mut out, value);
    let count = own.as_ref().map_or(0, ExactSizeIterator::len) + added.len();
    put_varint(&mut out, i32::try_from(count).expect("headers are counted by an i32"));
    for Header { key, value } in own.into_iter().flatten().chain(added.iter().copied()) {
        put(&mut out, Some(key));
        put(&mut out, value);
    }
    out
}
