//! An input record, read in place.

use std::iter::FusedIterator;

pub use millstream_record::Header;
use serde::Deserialize;

use crate::Result;

/// Where a transform stands in the way of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// Behind a topic: what comes of its records is written to topics.
    #[default]
    Stream,
    /// In front of a topic: of what producers send, before it is stored. Records have no offsets yet, and each may
    /// have one output.
    Ingest,
    /// Behind a topic, for its readers: nothing is stored, and each record may have one output.
    View,
}

/// Where a batch comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) position: Position,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) base_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) append_time: Option<i64>,
}

/// An input record, borrowed from its batch.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    batch: &'a Batch,
    pub(crate) index: u32,
    offset: i64,
    timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
}

/// A record's headers that are still to come, in their order. A key may occur more than once.
#[derive(Clone, Debug)]
pub struct Headers<'a>(Source<'a>);

#[derive(Clone, Debug)]
enum Source<'a> {
    Packed(millstream_record::Headers<'a>),
    Typed(std::slice::Iter<'a, (String, Option<Vec<u8>>)>),
}

/// A record of the typed form, which owns its parts.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl<'a> Record<'a> {
    pub(crate) fn from_packed(batch: &'a Batch, index: u32, record: millstream_record::Record<'a>) -> Self {
        Self {
            batch,
            index,
            offset: batch.base_offset.wrapping_add(record.offset_delta.into()),
            timestamp: batch
                .append_time
                .unwrap_or_else(|| batch.base_timestamp.wrapping_add(record.timestamp_delta)),
            key: record.key,
            value: record.value,
            headers: Headers(Source::Packed(record.headers)),
        }
    }

    pub(crate) fn from_typed(batch: &'a Batch, index: u32, message: &'a Message) -> Self {
        Self {
            batch,
            index,
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key.as_deref(),
            value: message.value.as_deref(),
            headers: Headers(Source::Typed(message.headers.iter())),
        }
    }

    /// Where the transform stands: the same plugin can do its work in several places.
    #[must_use]
    pub fn position(&self) -> Position {
        self.batch.position
    }

    /// The topic that the record was read from.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        &self.batch.topic
    }

    /// Its partition in the topic.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.batch.partition
    }

    /// Its offset in the partition. Behind another plugin of the same stage, several records may share one.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key; none if it is null.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; none if it is null, as a tombstone's is.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers, in order.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }

    /// The last header of that key, which is the one that counts.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<Header<'a>> {
        self.headers().filter(|header| header.key == key.as_bytes()).last()
    }

    /// The value, which must not be null.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        Ok(self.value.ok_or("the value is null")?)
    }

    /// The value, which must be UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|error| format!("the value is not UTF-8: {error}").into())
    }

    /// The value, which must be JSON. Strings can be borrowed from it: `&str` where it has no escapes,
    /// `#[serde(borrow)] Cow<str>` in any case.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes()?)
            .map_err(|error| format!("the value is not the JSON it should be: {error}").into())
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        match &mut self.0 {
            Source::Packed(headers) => headers.next(),
            Source::Typed(headers) => {
                headers.next().map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Source::Packed(headers) => headers.size_hint(),
            Source::Typed(headers) => headers.size_hint(),
        }
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}
