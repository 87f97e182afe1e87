//! The borrowed view over one batch.

use thiserror::Error;

use super::attributes::{Attributes, TimestampType};
use super::iter::Batches;
use crate::compression::{Compression, UnknownCompression};
use crate::layout::{self, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, MAGIC_AT, field};
use crate::record::Record;

/// Why there is no batch at the start of the bytes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end inside the batch. A fetch response may end so; a produce request must not.
    #[error("batch is incomplete: {available} of at least {needed} bytes")]
    Incomplete {
        /// How many bytes are known to be needed: the batch's size, or what it takes to learn it.
        needed: usize,
        /// How many there are.
        available: usize,
    },
    /// A version of the format that is not spoken here.
    #[error("unsupported magic {0}")]
    UnsupportedMagic(i8),
    /// `batch_length` is negative or less than a header.
    #[error("invalid batch length {0}")]
    InvalidLength(i32),
    /// Bytes follow where exactly one batch was expected.
    #[error("{0} bytes after the batch")]
    TrailingBytes(usize),
}

/// One whole batch. Copying it copies a slice.
///
/// The length and the magic have been checked, nothing else: see the `validate_` methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    /// At least `HEADER_BYTES`, exactly `size_in_bytes`.
    bytes: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// The batch that is all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        match Self::split_first(bytes)? {
            (batch, []) => Ok(batch),
            (_, rest) => Err(BatchError::TrailingBytes(rest.len())),
        }
    }

    /// The first batch of `bytes`, and what follows it.
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let size = Self::size_of_first(bytes)?;
        let Some((bytes, rest)) = bytes.split_at_checked(size) else {
            return Err(BatchError::Incomplete { needed: size, available: bytes.len() });
        };
        Ok((Self { bytes }, rest))
    }

    /// The batches that lie end to end in `bytes`.
    #[must_use]
    pub fn batches(bytes: &'a [u8]) -> Batches<'a> {
        Batches::new(bytes)
    }

    /// The size of the batch that `bytes` starts with, which need not be there in whole.
    pub fn size_of_first(bytes: &[u8]) -> Result<usize, BatchError> {
        if bytes.len() <= MAGIC_AT {
            return Err(BatchError::Incomplete { needed: HEADER_BYTES, available: bytes.len() });
        }
        let magic = i8::from_be_bytes([bytes[MAGIC_AT]]);
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic(magic));
        }
        let length = i32::from_be_bytes(field(bytes, layout::BATCH_LENGTH));
        usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LENGTH_PREFIX_BYTES))
            .filter(|&size| size >= HEADER_BYTES)
            .ok_or(BatchError::InvalidLength(length))
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, compressed as `compression` says.
    #[must_use]
    pub fn records_section(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The offset of the first record that the producer put in.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(field(self.bytes, layout::BASE_OFFSET))
    }

    /// The number of bytes after the length field itself.
    #[must_use]
    pub fn batch_length(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, layout::BATCH_LENGTH))
    }

    /// The number of bytes of the whole batch.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The epoch of the leader that appended the batch.
    #[must_use]
    pub fn partition_leader_epoch(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, layout::PARTITION_LEADER_EPOCH))
    }

    /// The version of the format: always `MAGIC`.
    #[must_use]
    pub fn magic(&self) -> i8 {
        i8::from_be_bytes([self.bytes[MAGIC_AT]])
    }

    /// The CRC-32C that the batch claims to have.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(field(self.bytes, layout::CRC))
    }

    /// The flags.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes(i16::from_be_bytes(field(self.bytes, layout::ATTRIBUTES)))
    }

    /// How the records section is compressed.
    pub fn compression(&self) -> Result<Compression, UnknownCompression> {
        self.attributes().compression()
    }

    /// Who set the timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes().timestamp_type()
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes().is_transactional()
    }

    /// Whether the batch holds a marker instead of an application's records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes().is_control()
    }

    /// Whether `base_timestamp` is the time from which compaction may drop the batch's tombstones.
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes().has_delete_horizon()
    }

    /// The last offset of the batch, less `base_offset`.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, layout::LAST_OFFSET_DELTA))
    }

    /// The offset of the last record. Compaction keeps it, also when that record is gone.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    /// The offset of the batch that follows: `last_offset`, plus one.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The timestamp that the records' deltas count from.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(self.bytes, layout::BASE_TIMESTAMP))
    }

    /// The largest timestamp, or the one timestamp of every record: see `timestamp_type`.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(self.bytes, layout::MAX_TIMESTAMP))
    }

    /// The producer, or `NO_PRODUCER_ID`.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(field(self.bytes, layout::PRODUCER_ID))
    }

    /// The producer's epoch, or `NO_PRODUCER_EPOCH`.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(field(self.bytes, layout::PRODUCER_EPOCH))
    }

    /// The sequence number of the first record, or `NO_SEQUENCE`.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, layout::BASE_SEQUENCE))
    }

    /// The sequence number of the last record, or `NO_SEQUENCE`. After the largest `i32` comes 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            base if base < 0 => layout::NO_SEQUENCE,
            base => base.wrapping_add(self.last_offset_delta()) & i32::MAX,
        }
    }

    /// The number of records that the header declares. Don't allocate by it.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, layout::RECORDS_COUNT))
    }

    /// The offset of one of this batch's records.
    #[must_use]
    pub fn offset_of(&self, record: &Record<'_>) -> i64 {
        self.base_offset().saturating_add(i64::from(record.offset_delta))
    }

    /// The timestamp of one of this batch's records.
    #[must_use]
    pub fn timestamp_of(&self, record: &Record<'_>) -> i64 {
        match self.timestamp_type() {
            // Wrapping, as the builder does when it takes the difference: any pair of timestamps leads back.
            TimestampType::CreateTime => self.base_timestamp().wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => self.max_timestamp(),
        }
    }
}
