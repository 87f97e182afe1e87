//! Records, one after the other.

use core::iter::FusedIterator;

use super::body::RecordBody;
use super::headers::Headers;
use super::parse::{RecordError, take_record};

/// One record, borrowed from its section.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// No bit of it has a meaning yet.
    pub attributes: i8,
    /// The record's timestamp, less the batch's: see `RecordBatch::timestamp_of`.
    pub timestamp_delta: i64,
    /// The record's offset, less the batch's: see `RecordBatch::offset_of`.
    pub offset_delta: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone where the topic is compacted.
    pub value: Option<&'a [u8]>,
    /// The headers, read as they are asked for.
    pub headers: Headers<'a>,
    /// Key, value and headers, encoded.
    pub body: RecordBody<'a>,
    /// The whole record, its length first.
    pub raw: &'a [u8],
}

/// The records of an uncompressed section. After an error it ends.
///
/// It goes by the section's bytes: `RecordBatch::validate_records` compares the number of records with the
/// header's.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    index: i32,
    failed: bool,
}

impl<'a> RecordIter<'a> {
    /// The records of `uncompressed`.
    #[must_use]
    pub fn new(uncompressed: &'a [u8]) -> Self {
        Self { rest: uncompressed, index: 0, failed: false }
    }

    /// What has not been taken yet; after an error, what it is about.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let index = self.index;
        // Saturating, because a section of a guest need not fit a batch; the index only names a bad record.
        self.index = index.saturating_add(1);
        let record = take_record(&mut self.rest).map_err(|fault| RecordError { index, fault });
        self.failed = record.is_err();
        Some(record)
    }
}

impl FusedIterator for RecordIter<'_> {}
