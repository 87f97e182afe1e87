//! Control batches: the markers that end a transaction in a partition.
//!
//! A marker is a batch of one record. Its key is `version i16 | type i16`, its value
//! `version i16 | coordinator_epoch i32`; a later version may append fields, which are skipped.

use alloc::vec::Vec;

use thiserror::Error;

use crate::builder::BatchBuilder;
use crate::layout::{HEADER_BYTES, NO_SEQUENCE};
use crate::record::Record;

/// The version of key and value that is written; any that is not negative is read.
const VERSION: i16 = 0;
/// Room for a marker, which takes 17 bytes beside the header.
const MARKER_BYTES_MAX: usize = HEADER_BYTES + 64;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecordType {
    /// The transaction's records are void.
    Abort,
    /// The transaction's records count.
    Commit,
    /// A record of Kafka's own metadata log, or a type that came later.
    Other(i16),
}

/// Why a record is no marker.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ControlRecordError {
    /// The key is missing, too short, or of a negative version.
    #[error("invalid control record key")]
    InvalidKey,
    /// The value is missing, too short, or of a negative version.
    #[error("invalid control record value")]
    InvalidValue,
    /// The record is of a type that ends no transaction.
    #[error("control record of type {0} is no end of a transaction")]
    NotAMarker(i16),
}

/// The end of a transaction, as its coordinator tells each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Whether the transaction's records count.
    pub committed: bool,
    /// The epoch of the coordinator, which fences one that has been replaced.
    pub coordinator_epoch: i32,
}

impl ControlRecordType {
    /// The type that a control record's key names.
    pub fn parse(key: Option<&[u8]>) -> Result<Self, ControlRecordError> {
        match key {
            Some([0..=0x7f, _, high, low, ..]) => Ok(match i16::from_be_bytes([*high, *low]) {
                0 => Self::Abort,
                1 => Self::Commit,
                other => Self::Other(other),
            }),
            _ => Err(ControlRecordError::InvalidKey),
        }
    }
}

impl EndTransactionMarker {
    /// The marker that a control batch's record holds.
    pub fn parse(record: &Record<'_>) -> Result<Self, ControlRecordError> {
        let committed = match ControlRecordType::parse(record.key)? {
            ControlRecordType::Abort => false,
            ControlRecordType::Commit => true,
            ControlRecordType::Other(other) => return Err(ControlRecordError::NotAMarker(other)),
        };
        match record.value {
            Some([0..=0x7f, _, a, b, c, d, ..]) => {
                Ok(Self { committed, coordinator_epoch: i32::from_be_bytes([*a, *b, *c, *d]) })
            }
            _ => Err(ControlRecordError::InvalidValue),
        }
    }

    /// The control batch that writes this marker for a producer.
    #[must_use]
    pub fn to_batch(&self, timestamp: i64, producer_id: i64, producer_epoch: i16) -> Vec<u8> {
        let [version_high, version_low] = VERSION.to_be_bytes();
        let key = [version_high, version_low, 0, u8::from(self.committed)];
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        let value = [version_high, version_low, a, b, c, d];
        let mut builder = BatchBuilder::new(MARKER_BYTES_MAX)
            .producer(producer_id, producer_epoch, NO_SEQUENCE)
            .transactional(true)
            .control(true);
        builder.append(timestamp, Some(&key), Some(&value), []).expect("a marker fits its own limit");
        builder.finish().expect("a batch of one uncompressed record can be built")
    }
}
