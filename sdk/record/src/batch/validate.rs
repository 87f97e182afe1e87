//! The checks on a batch.

use thiserror::Error;

use super::attributes::TimestampType;
use super::view::RecordBatch;
use crate::compression::UnknownCompression;
use crate::crc::crc32c;
use crate::layout::{CRC_COVERS_FROM, NO_PRODUCER_ID, NO_SEQUENCE};
use crate::record::{RecordError, RecordFault, RecordIter};

/// The bytes are not those that the checksum was taken of.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("batch has checksum {computed:#010x} instead of {declared:#010x}")]
pub struct CrcMismatch {
    /// What the header says.
    pub declared: u32,
    /// What the bytes give.
    pub computed: u32,
}

/// Why a header is not accepted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// The attributes name a codec that the format does not define.
    #[error(transparent)]
    Compression(#[from] UnknownCompression),
    /// The offsets are negative, or exceed an `i64`.
    #[error("invalid offsets: base offset {base_offset}, last offset delta {last_offset_delta}")]
    Offsets {
        /// The header's `base_offset`.
        base_offset: i64,
        /// The header's `last_offset_delta`.
        last_offset_delta: i32,
    },
    /// The offsets have no room for so many records, or a client left offsets out.
    #[error("{records_count} records do not fit last offset delta {last_offset_delta}")]
    RecordsCount {
        /// The header's `records_count`.
        records_count: i32,
        /// The header's `last_offset_delta`.
        last_offset_delta: i32,
    },
    /// Producer id, epoch and sequence don't go together.
    #[error("invalid producer: id {producer_id}, epoch {producer_epoch}, sequence {base_sequence}")]
    Producer {
        /// The header's `producer_id`.
        producer_id: i64,
        /// The header's `producer_epoch`.
        producer_epoch: i16,
        /// The header's `base_sequence`.
        base_sequence: i32,
    },
    /// A client sent a control batch.
    #[error("clients may not write control records")]
    ControlFromClient,
    /// A client claims the broker's timestamp type.
    #[error("clients may not set log append time")]
    LogAppendTimeFromClient,
}

/// Why a records section is not what its header says.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordsError {
    /// One of the records is wrong.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The section ends early.
    #[error("{found} records instead of {declared}")]
    CountMismatch {
        /// The header's `records_count`.
        declared: i32,
        /// How many records there are.
        found: i32,
    },
    /// The section goes on after the last record.
    #[error("{0} bytes after the last record")]
    TrailingBytes(usize),
}

impl<'a> RecordBatch<'a> {
    /// Checks that the bytes from the attributes on are those that the checksum was taken of.
    pub fn verify_crc(&self) -> Result<(), CrcMismatch> {
        let (declared, computed) = (self.crc(), crc32c(&self.bytes()[CRC_COVERS_FROM..]));
        if declared == computed { Ok(()) } else { Err(CrcMismatch { declared, computed }) }
    }

    /// Checks that the fields make sense together, for a batch of any origin: a compacted batch has offsets
    /// without records, and may have lost all its records.
    pub fn validate_header(&self) -> Result<(), HeaderError> {
        self.compression()?;
        let (base_offset, last_offset_delta) = (self.base_offset(), self.last_offset_delta());
        let next = base_offset.checked_add(i64::from(last_offset_delta)).and_then(|last| last.checked_add(1));
        if base_offset < 0 || last_offset_delta < 0 || next.is_none() {
            return Err(HeaderError::Offsets { base_offset, last_offset_delta });
        }
        let records_count = self.records_count();
        if records_count < 0 || i64::from(records_count) > i64::from(last_offset_delta) + 1 {
            return Err(HeaderError::RecordsCount { records_count, last_offset_delta });
        }
        self.validate_producer()
    }

    /// Checks a batch that a client sent: `validate_header`, at least one record, an offset for each and none
    /// besides, and nothing that is the broker's to set. `base_offset` may be anything that is no error: the
    /// broker assigns it.
    pub fn validate_client_header(&self) -> Result<(), HeaderError> {
        self.validate_header()?;
        let (records_count, last_offset_delta) = (self.records_count(), self.last_offset_delta());
        if i64::from(records_count) != i64::from(last_offset_delta) + 1 {
            return Err(HeaderError::RecordsCount { records_count, last_offset_delta });
        }
        if self.is_control() {
            return Err(HeaderError::ControlFromClient);
        }
        if self.timestamp_type() == TimestampType::LogAppendTime {
            return Err(HeaderError::LogAppendTimeFromClient);
        }
        // A control batch of a producer has no sequence; its data batches must.
        if self.producer_id() != NO_PRODUCER_ID && self.base_sequence() == NO_SEQUENCE {
            return Err(self.producer_error());
        }
        Ok(())
    }

    /// Checks that `uncompressed`, the records section after decompression, holds exactly the declared
    /// records, each well-formed to its end, with the offset deltas 0, 1, 2 and so on.
    pub fn validate_records(&self, uncompressed: &'a [u8]) -> Result<(), RecordsError> {
        let declared = self.records_count();
        let mut records = RecordIter::new(uncompressed);
        for found in 0..declared {
            let Some(record) = records.next().transpose()? else {
                return Err(RecordsError::CountMismatch { declared, found });
            };
            if record.offset_delta != found {
                let fault = RecordFault::OffsetDelta { expected: found, found: record.offset_delta };
                return Err(RecordError { index: found, fault }.into());
            }
        }
        match records.rest() {
            [] => Ok(()),
            rest => Err(RecordsError::TrailingBytes(rest.len())),
        }
    }

    fn validate_producer(&self) -> Result<(), HeaderError> {
        let valid = if self.producer_id() == NO_PRODUCER_ID {
            // Kafka looks at neither epoch nor sequence without a producer; a transaction needs one.
            !self.is_transactional()
        } else {
            self.producer_id() >= 0 && self.producer_epoch() >= 0 && self.base_sequence() >= NO_SEQUENCE
        };
        if valid { Ok(()) } else { Err(self.producer_error()) }
    }

    fn producer_error(&self) -> HeaderError {
        HeaderError::Producer {
            producer_id: self.producer_id(),
            producer_epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
        }
    }
}
