//! A rejected record as a dead letter: the record as it came, and what happened to it in its headers.

use millstream_record::Header;

use crate::batch::{InputBatch, InputRecord};

pub(super) const REASON: &str = "millstream.error.reason";
pub(super) const PLUGIN: &str = "millstream.error.plugin";
pub(super) const STAGE: &str = "millstream.error.stage";
pub(super) const TOPIC: &str = "millstream.error.topic";
pub(super) const PARTITION: &str = "millstream.error.partition";
pub(super) const OFFSET: &str = "millstream.error.offset";

/// What the headers say.
pub(super) struct Cause<'a> {
    pub(super) reason: &'a str,
    /// Name and version.
    pub(super) plugin: String,
    /// Pipeline and stage.
    pub(super) stage: String,
}

/// Appends the dead letter's encoded body to `out`.
pub(super) fn put_body(out: &mut Vec<u8>, input: &InputBatch, record: &InputRecord, cause: &Cause<'_>) {
    use millstream_record::varint::put_varint;
    let put = |out: &mut Vec<u8>, bytes: Option<&[u8]>| {
        let length =
            bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("parts of a record fit an i32"));
        put_varint(out, length);
        out.extend_from_slice(bytes.unwrap_or_default());
    };
    let (key, value, headers) = input.fields(record).fields();
    let (partition, offset) = (input.partition.to_string(), input.offset(record).to_string());
    let added = [
        (REASON, cause.reason),
        (PLUGIN, &cause.plugin),
        (STAGE, &cause.stage),
        (TOPIC, &input.topic),
        (PARTITION, &partition),
        (OFFSET, &offset),
    ];
    put(out, key);
    put(out, value);
    put_varint(out, i32::try_from(headers.len() + added.len()).expect("headers are counted by an i32"));
    let added = added.map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) });
    for Header { key, value } in headers.chain(added) {
        put(out, Some(key));
        put(out, value);
    }
}
