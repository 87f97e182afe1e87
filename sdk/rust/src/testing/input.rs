//! Records to test with.

use millstream_record::varint::{put_varint, put_varlong};

use crate::record::Message;

/// A record to test with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(super) timestamp: i64,
}

impl Input {
    /// A record of that value: no key, no headers, timestamp 0.
    #[must_use]
    pub fn value(value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(value.as_ref().to_vec()), ..Self::default() }
    }

    /// A record without a value.
    #[must_use]
    pub fn null() -> Self {
        Self::default()
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((key.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// Adds a header whose value is null.
    #[must_use]
    pub fn null_header(mut self, key: &str) -> Self {
        self.headers.push((key.to_owned(), None));
        self
    }

    /// Sets the timestamp, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    pub(super) fn timestamp_ms(&self) -> i64 {
        self.timestamp
    }
}

impl From<&str> for Input {
    fn from(value: &str) -> Self {
        Self::value(value)
    }
}

impl From<String> for Input {
    fn from(value: String) -> Self {
        Self::value(value)
    }
}

/// The records section of a batch.
pub(super) fn section(inputs: &[Input], base_timestamp: i64) -> Vec<u8> {
    let mut section = Vec::new();
    for (offset_delta, input) in (0..).zip(inputs) {
        let mut record = vec![0];
        put_varlong(&mut record, input.timestamp - base_timestamp);
        put_varint(&mut record, offset_delta);
        put_nullable(&mut record, input.key.as_deref());
        put_nullable(&mut record, input.value.as_deref());
        put_length(&mut record, input.headers.len());
        for (key, value) in &input.headers {
            put_nullable(&mut record, Some(key.as_bytes()));
            put_nullable(&mut record, value.as_deref());
        }
        put_length(&mut section, record.len());
        section.extend(record);
    }
    section
}

/// The same for the plain form.
pub(super) fn messages(inputs: &[Input], base_offset: i64) -> Vec<Message> {
    let message = |(offset, input): (i64, &Input)| Message {
        offset,
        timestamp: input.timestamp,
        key: input.key.clone(),
        value: input.value.clone(),
        headers: input.headers.clone(),
    };
    (base_offset..).zip(inputs).map(message).collect()
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, i32::try_from(length).expect("a test's record is smaller than 2 GiB"));
}
