//! What a broker changes in a batch that it appends, in place or beside it.

use super::attributes::{Attributes, TimestampType};
use super::view::{BatchError, RecordBatch};
use crate::crc::{crc32c, crc32c_append};
use crate::layout::{self, CRC_COVERS_FROM, HEADER_BYTES, PATCHED_PREFIX_BYTES, field};

/// One whole batch, to be changed in place.
#[derive(Debug)]
pub struct RecordBatchMut<'a> {
    /// A `RecordBatch`'s bytes.
    bytes: &'a mut [u8],
}

impl<'a> RecordBatchMut<'a> {
    /// The batch that is all of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Result<Self, BatchError> {
        RecordBatch::new(bytes)?;
        Ok(Self { bytes })
    }

    /// Sets the offset of the first record. Outside the checksum.
    pub fn set_base_offset(&mut self, base_offset: i64) {
        self.bytes[layout::BASE_OFFSET].copy_from_slice(&base_offset.to_be_bytes());
    }

    /// Sets the epoch of the leader that appends the batch. Outside the checksum.
    pub fn set_partition_leader_epoch(&mut self, epoch: i32) {
        self.bytes[layout::PARTITION_LEADER_EPOCH].copy_from_slice(&epoch.to_be_bytes());
    }

    /// Gives every record the broker's timestamp, and the batch a new checksum.
    pub fn set_append_time(&mut self, max_timestamp: i64) {
        put_append_time(self.bytes, max_timestamp);
        let crc = crc32c(&self.bytes[CRC_COVERS_FROM..]);
        self.bytes[layout::CRC].copy_from_slice(&crc.to_be_bytes());
    }
}

impl RecordBatch<'_> {
    /// The first bytes of the batch with another base offset and leader epoch: a writer copies these, then the
    /// batch's bytes from `PATCHED_PREFIX_BYTES` on, and leaves the source as it is.
    #[must_use]
    pub fn patched_prefix(
        &self,
        base_offset: i64,
        partition_leader_epoch: i32,
    ) -> [u8; PATCHED_PREFIX_BYTES] {
        let mut prefix = field(self.bytes(), 0..PATCHED_PREFIX_BYTES);
        put_prefix(&mut prefix, base_offset, partition_leader_epoch);
        prefix
    }

    /// The header of the batch with another base offset and leader epoch, the broker's timestamp for every
    /// record, and the checksum that follows from it: a writer copies this, then `records_section`.
    #[must_use]
    pub fn append_time_header(
        &self,
        base_offset: i64,
        partition_leader_epoch: i32,
        max_timestamp: i64,
    ) -> [u8; HEADER_BYTES] {
        let mut header = field(self.bytes(), 0..HEADER_BYTES);
        put_prefix(&mut header, base_offset, partition_leader_epoch);
        put_append_time(&mut header, max_timestamp);
        self.put_crc(&mut header);
        header
    }

    /// The header of the batch with another idempotent producer and sequence number, and the checksum that
    /// follows from them: a producer sends this, then `records_section`.
    #[must_use]
    pub fn producer_header(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
    ) -> [u8; HEADER_BYTES] {
        let mut header = field(self.bytes(), 0..HEADER_BYTES);
        header[layout::PRODUCER_ID].copy_from_slice(&producer_id.to_be_bytes());
        header[layout::PRODUCER_EPOCH].copy_from_slice(&producer_epoch.to_be_bytes());
        header[layout::BASE_SEQUENCE].copy_from_slice(&base_sequence.to_be_bytes());
        self.put_crc(&mut header);
        header
    }

    /// The checksum of another header in front of this batch's records.
    fn put_crc(&self, header: &mut [u8; HEADER_BYTES]) {
        let crc = crc32c_append(crc32c(&header[CRC_COVERS_FROM..]), self.records_section());
        header[layout::CRC].copy_from_slice(&crc.to_be_bytes());
    }
}

fn put_prefix(bytes: &mut [u8], base_offset: i64, partition_leader_epoch: i32) {
    bytes[layout::BASE_OFFSET].copy_from_slice(&base_offset.to_be_bytes());
    bytes[layout::PARTITION_LEADER_EPOCH].copy_from_slice(&partition_leader_epoch.to_be_bytes());
}

fn put_append_time(bytes: &mut [u8], max_timestamp: i64) {
    let attributes = Attributes(i16::from_be_bytes(field(bytes, layout::ATTRIBUTES)));
    let attributes = attributes.with_timestamp_type(TimestampType::LogAppendTime);
    bytes[layout::ATTRIBUTES].copy_from_slice(&attributes.0.to_be_bytes());
    bytes[layout::MAX_TIMESTAMP].copy_from_slice(&max_timestamp.to_be_bytes());
}
