//! Writes a batch, record by record.

use alloc::vec::Vec;
use core::mem;

use thiserror::Error;

use crate::batch::{Attributes, TimestampType};
#[cfg(feature = "codecs")]
use crate::compression::Compression;
use crate::crc::crc32c;
use crate::layout::{self, CRC_COVERS_FROM, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, MAGIC_AT};
use crate::layout::{NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP};
use crate::record::{Header, RecordBody};
use crate::varint::{put_varint, put_varlong, varint_bytes, varlong_bytes};

/// The most bytes that the records of a batch take before compression, whatever `bytes_max` says. With room
/// for the header, and for a codec that makes random bytes longer, the batch still fits its `i32` length.
const RECORDS_BYTES_MAX: usize = 1 << 30;

/// Why a record is not appended. The builder is as it was.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The batch would exceed its limit: finish it, and put the record into the next one. If the batch is
    /// empty, the record fits none.
    #[error("batch would take {needed} bytes of at most {limit}")]
    Full {
        /// The size with this record, uncompressed.
        needed: usize,
        /// The limit, uncompressed.
        limit: usize,
    },
    /// The offset does not follow the one before, or exceeds an `i32`.
    #[error("offset delta {0} is out of order")]
    OffsetDelta(i32),
}

/// Why there is no batch.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A batch without a record: only compaction leaves one, by `BatchBuilder::last_offset_delta`.
    #[error("batch has no records")]
    Empty,
    /// The codec failed.
    #[cfg(feature = "codecs")]
    #[error(transparent)]
    Compress(#[from] crate::codec::CompressError),
}

/// A batch in the making.
///
/// The `append` methods give offset deltas 0, 1, 2 and so on; `append_body_at` leaves gaps, as compaction
/// and a filter that keeps the source's offsets need them.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    batch: Vec<u8>,
    bytes_max: usize,
    base_offset: i64,
    partition_leader_epoch: i32,
    attributes: Attributes,
    #[cfg(feature = "codecs")]
    compression: Compression,
    /// `None` until a record or the caller sets it.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    append_time: Option<i64>,
    producer: (i64, i16, i32),
    next_offset_delta: i32,
    last_offset_delta: Option<i32>,
    records_count: i32,
}

impl BatchBuilder {
    /// An empty batch that takes at most `bytes_max` bytes, header included, before compression.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            batch: alloc::vec![0; HEADER_BYTES],
            bytes_max: bytes_max.min(HEADER_BYTES + RECORDS_BYTES_MAX),
            base_offset: 0,
            partition_leader_epoch: NO_LEADER_EPOCH,
            attributes: Attributes::default(),
            #[cfg(feature = "codecs")]
            compression: Compression::None,
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            append_time: None,
            producer: (NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE),
            next_offset_delta: 0,
            last_offset_delta: None,
            records_count: 0,
        }
    }

    /// The offset of the first record; 0 unless set.
    #[must_use]
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// The epoch of the leader; none unless set.
    #[must_use]
    pub fn partition_leader_epoch(mut self, epoch: i32) -> Self {
        self.partition_leader_epoch = epoch;
        self
    }

    /// The timestamp that the records' deltas count from; the first record's unless set.
    #[must_use]
    pub fn base_timestamp(mut self, base_timestamp: i64) -> Self {
        self.base_timestamp = Some(base_timestamp);
        self
    }

    /// The time from which compaction may drop the batch's tombstones (KIP-534). It takes the place of the base
    /// timestamp.
    #[must_use]
    pub fn delete_horizon(mut self, horizon: i64) -> Self {
        self.attributes = self.attributes.with_delete_horizon(true);
        self.base_timestamp = Some(horizon);
        self
    }

    /// The broker's timestamp for every record.
    #[must_use]
    pub fn append_time(mut self, timestamp: i64) -> Self {
        self.append_time = Some(timestamp);
        self
    }

    /// The idempotent producer, and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.producer = (producer_id, producer_epoch, base_sequence);
        self
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.attributes = self.attributes.with_transactional(transactional);
        self
    }

    /// Whether the batch holds a marker instead of an application's records.
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.attributes = self.attributes.with_control(control);
        self
    }

    /// How to compress the records; not at all unless set.
    #[cfg(feature = "codecs")]
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The last offset, less the first, where it is beyond the last record: the batch keeps the offsets of
    /// records that it no longer has.
    #[must_use]
    pub fn last_offset_delta(mut self, last_offset_delta: i32) -> Self {
        self.last_offset_delta = Some(last_offset_delta);
        self
    }

    /// Appends a record, unless the batch is full.
    pub fn append<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = Header<'h>, IntoIter: Clone>,
    ) -> Result<(), AppendError> {
        let headers = headers.into_iter();
        let mut headers_count = 0;
        let mut body_bytes = nullable_bytes(key).saturating_add(nullable_bytes(value));
        for header in headers.clone() {
            headers_count += 1;
            body_bytes = body_bytes.saturating_add(nullable_bytes(Some(header.key)));
            body_bytes = body_bytes.saturating_add(nullable_bytes(header.value));
        }
        body_bytes = body_bytes.saturating_add(varint_bytes(clamped_i32(headers_count)));
        let offset_delta = self.next_offset_delta;
        self.put_record_head(offset_delta, timestamp, body_bytes)?;
        put_nullable(&mut self.batch, key);
        put_nullable(&mut self.batch, value);
        put_varint(&mut self.batch, clamped_i32(headers_count));
        for header in headers {
            put_nullable(&mut self.batch, Some(header.key));
            put_nullable(&mut self.batch, header.value);
        }
        self.account(offset_delta, timestamp);
        Ok(())
    }

    /// Appends a record whose key, value and headers are copied as they stand, unless the batch is full.
    pub fn append_body(&mut self, timestamp: i64, body: RecordBody<'_>) -> Result<(), AppendError> {
        self.append_body_at(self.next_offset_delta, timestamp, body)
    }

    /// The same at an offset of the caller's, which is beyond the one before.
    pub fn append_body_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        body: RecordBody<'_>,
    ) -> Result<(), AppendError> {
        self.put_record_head(offset_delta, timestamp, body.as_bytes().len())?;
        self.batch.extend_from_slice(body.as_bytes());
        self.account(offset_delta, timestamp);
        Ok(())
    }

    /// The size of the batch so far, header included, before compression.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.batch.len()
    }

    /// The number of records so far.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records_count == 0
    }

    /// The batch, compressed and with its checksum.
    pub fn finish(mut self) -> Result<Vec<u8>, BuildError> {
        // Without a record `next_offset_delta` is 0, and only the caller can say which offsets are kept.
        let last_record = self.next_offset_delta - 1;
        let last_offset_delta = self.last_offset_delta.unwrap_or(last_record);
        if last_offset_delta < 0 {
            return Err(BuildError::Empty);
        }
        assert!(last_offset_delta >= last_record, "a batch's last offset is before its last record");
        let (mut batch, attributes) = self.compressed()?;
        let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES);
        let length = length.expect("a batch's records are bounded so that its length fits");
        let max_timestamp = self.append_time.unwrap_or(self.max_timestamp);
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        batch[layout::BASE_OFFSET].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[layout::BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
        batch[layout::PARTITION_LEADER_EPOCH].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        batch[MAGIC_AT] = MAGIC.to_be_bytes()[0];
        batch[layout::ATTRIBUTES].copy_from_slice(&attributes.0.to_be_bytes());
        batch[layout::LAST_OFFSET_DELTA].copy_from_slice(&last_offset_delta.to_be_bytes());
        let base_timestamp = self.base_timestamp.unwrap_or(NO_TIMESTAMP);
        batch[layout::BASE_TIMESTAMP].copy_from_slice(&base_timestamp.to_be_bytes());
        batch[layout::MAX_TIMESTAMP].copy_from_slice(&max_timestamp.to_be_bytes());
        batch[layout::PRODUCER_ID].copy_from_slice(&producer_id.to_be_bytes());
        batch[layout::PRODUCER_EPOCH].copy_from_slice(&producer_epoch.to_be_bytes());
        batch[layout::BASE_SEQUENCE].copy_from_slice(&base_sequence.to_be_bytes());
        batch[layout::RECORDS_COUNT].copy_from_slice(&self.records_count.to_be_bytes());
        let crc = crc32c(&batch[CRC_COVERS_FROM..]);
        batch[layout::CRC].copy_from_slice(&crc.to_be_bytes());
        Ok(batch)
    }

    /// Writes what comes before a record's body, if there is room for both.
    fn put_record_head(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        body_bytes: usize,
    ) -> Result<(), AppendError> {
        if offset_delta < self.next_offset_delta || offset_delta == i32::MAX {
            return Err(AppendError::OffsetDelta(offset_delta));
        }
        // Wrapping, as `RecordBatch::timestamp_of` does: any pair of timestamps leads back.
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp.unwrap_or(timestamp));
        let fixed_bytes = 1 + varlong_bytes(timestamp_delta) + varint_bytes(offset_delta);
        let record_bytes = body_bytes.saturating_add(fixed_bytes);
        let length_bytes = varint_bytes(clamped_i32(record_bytes));
        let needed = record_bytes.saturating_add(self.batch.len() + length_bytes);
        if needed > self.bytes_max {
            return Err(AppendError::Full { needed, limit: self.bytes_max });
        }
        self.batch.reserve(needed - self.batch.len());
        put_varint(&mut self.batch, clamped_i32(record_bytes));
        self.batch.push(0);
        put_varlong(&mut self.batch, timestamp_delta);
        put_varint(&mut self.batch, offset_delta);
        Ok(())
    }

    fn account(&mut self, offset_delta: i32, timestamp: i64) {
        self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.next_offset_delta = offset_delta + 1;
        self.records_count += 1;
    }

    /// The batch with its records compressed, its header still to be written, and the attributes for it.
    #[cfg_attr(
        not(feature = "codecs"),
        expect(clippy::unnecessary_wraps, reason = "without codecs nothing can fail here")
    )]
    fn compressed(&mut self) -> Result<(Vec<u8>, Attributes), BuildError> {
        let attributes = match self.append_time {
            Some(_) => self.attributes.with_timestamp_type(TimestampType::LogAppendTime),
            None => self.attributes,
        };
        #[cfg(feature = "codecs")]
        if self.compression != Compression::None {
            let mut batch = alloc::vec![0; HEADER_BYTES];
            crate::codec::compress(self.compression, &self.batch[HEADER_BYTES..], &mut batch)?;
            return Ok((batch, attributes.with_compression(self.compression)));
        }
        Ok((mem::take(&mut self.batch), attributes))
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, clamped_i32(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => varint_bytes(-1),
        Some(bytes) => varint_bytes(clamped_i32(bytes.len())).saturating_add(bytes.len()),
    }
}

/// A length for the wire. One that does not fit is found out by the record's size before it is written.
fn clamped_i32(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
