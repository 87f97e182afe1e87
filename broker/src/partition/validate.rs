//! What a client's batch must be before it gets offsets (Kafka's LogValidator).
//!
//! An uncompressed batch is checked record by record, which costs little. A compressed one is judged by its
//! header and stays closed, unless the topic is compacted and every record needs a key: opening each batch
//! would cost more than everything else that the broker does with it. A consumer checks it anyway.
//!
//! What goes through an ingest hook is checked twice: what the client sent, before the hook sees it; and what will
//! be stored, once that is known.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use millstream_record::{BatchError, Compression, RecordBatch, RecordIter};

use crate::config::{TimestampType, TopicConfig};
use crate::ids::{LeaderEpoch, Offset};
use crate::log::batch::{BatchMeta, OPENED_BYTES_MAX};

/// Record refusals that are reported for one batch.
pub(crate) const REFUSALS_MAX: usize = 100;

/// A record that spoils its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRefusal {
    /// The record's place in the batch, from 0.
    pub index: i32,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidBatch {
    #[error("batch is damaged: {0}")]
    Corrupt(String),
    #[error("batch has {found} bytes, more than max.message.bytes = {limit}")]
    TooLarge { found: usize, limit: usize },
    #[error("{message}")]
    Record { message: String, refusals: Vec<RecordRefusal> },
    #[error("timestamp {timestamp} is outside the limits that message.timestamp.*.max.ms sets around {now}")]
    Timestamp { timestamp: i64, now: i64 },
    #[error("batch belongs to a transaction that isn't open")]
    Transaction,
}

impl InvalidBatch {
    fn record(message: impl Into<String>) -> Self {
        Self::Record { message: message.into(), refusals: Vec::new() }
    }

    /// The records that spoil the batch, where they are known.
    pub fn into_refusals(self) -> Vec<RecordRefusal> {
        match self {
            Self::Record { refusals, .. } => refusals,
            _ => Vec::new(),
        }
    }
}

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Client,
    /// What an ingest hook made of a client's batch: records may be missing from it.
    Ingest,
    /// A coordinator on this broker.
    Coordinator,
}

/// A batch that may be appended, and what the log must know of it; offsets count from 0 until the leader
/// assigns them.
#[derive(Debug)]
pub(super) struct ValidBatch {
    pub(super) bytes: Bytes,
    pub(super) meta: BatchMeta,
    pub(super) records: i64,
    /// Set where the broker stamps the records.
    pub(super) append_time_ms: Option<i64>,
}

pub(super) fn validate(
    bytes: Bytes,
    config: &TopicConfig,
    origin: Origin,
    now_ms: i64,
) -> Result<ValidBatch, InvalidBatch> {
    let batch = check_batch(&bytes, config, origin)?;
    check_timestamps(&batch, config, now_ms)?;
    check_records(&batch, config, origin, now_ms)?;
    let records = i64::from(batch.records_count());
    let mut meta = BatchMeta::new(&batch, Offset::ZERO, LeaderEpoch(0));
    if meta.max_timestamp < 0 {
        // Records without a time are as old as the log says, or retention would take them at once.
        meta.max_timestamp = now_ms;
    }
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        meta.max_timestamp = now_ms;
        // Offset and leader epoch are assigned later.
        let header = batch.append_time_header(0, 0, now_ms);
        let stamped = [&header[..], batch.records_section()].concat();
        return Ok(ValidBatch { bytes: stamped.into(), meta, records, append_time_ms: Some(now_ms) });
    }
    Ok(ValidBatch { bytes, meta, records, append_time_ms: None })
}

/// Checks what a client sent before an ingest hook sees it: all that does not depend on what the hook makes of it.
pub(super) fn validate_sent(bytes: &Bytes, config: &TopicConfig) -> Result<BatchMeta, InvalidBatch> {
    let batch = check_batch(bytes, config, Origin::Client)?;
    if !is_compressed(&batch) {
        check_form(&batch, batch.records_section())?;
    }
    Ok(BatchMeta::new(&batch, Offset::ZERO, LeaderEpoch(0)))
}

/// The batch, if its size, its checksum and its header are right.
fn check_batch<'a>(
    bytes: &'a Bytes,
    config: &TopicConfig,
    origin: Origin,
) -> Result<RecordBatch<'a>, InvalidBatch> {
    let batch = only_batch(bytes)?;
    let limit = usize::try_from(config.max_message_bytes).unwrap_or(0);
    if bytes.len() > limit && origin != Origin::Coordinator {
        return Err(InvalidBatch::TooLarge { found: bytes.len(), limit });
    }
    batch.verify_crc().map_err(|error| InvalidBatch::Corrupt(error.to_string()))?;
    let header = match origin {
        Origin::Client => batch.validate_client_header(),
        Origin::Ingest | Origin::Coordinator => batch.validate_header(),
    };
    header.map_err(|error| InvalidBatch::record(error.to_string()))?;
    match batch.is_transactional() {
        true => Err(InvalidBatch::Transaction),
        false => Ok(batch),
    }
}

/// Whether [`validate`] would have to decompress `bytes`: that takes time and memory which the network threads
/// don't have.
pub(crate) fn must_decompress(bytes: &[u8], config: &TopicConfig) -> bool {
    config.cleanup_policy.compact
        && RecordBatch::split_first(bytes).is_ok_and(|(batch, _)| is_compressed(&batch))
}

fn is_compressed(batch: &RecordBatch<'_>) -> bool {
    batch.compression().is_ok_and(|compression| compression != Compression::None)
}

/// Since Produce v3 a partition's records are exactly one batch of magic 2.
fn only_batch(bytes: &[u8]) -> Result<RecordBatch<'_>, InvalidBatch> {
    match RecordBatch::split_first(bytes) {
        Ok((batch, [])) => Ok(batch),
        Ok(_) => Err(InvalidBatch::record("produce carries more than one record batch for a partition")),
        Err(error @ BatchError::Incomplete { .. }) => Err(InvalidBatch::Corrupt(error.to_string())),
        Err(error) => Err(InvalidBatch::record(error.to_string())),
    }
}

/// Opens the batch, if it need be.
fn check_records(
    batch: &RecordBatch<'_>,
    config: &TopicConfig,
    origin: Origin,
    now_ms: i64,
) -> Result<(), InvalidBatch> {
    let keys_needed = config.cleanup_policy.compact;
    if is_compressed(batch) && !keys_needed {
        return Ok(());
    }
    let section = batch
        .uncompressed_records(OPENED_BYTES_MAX)
        .map_err(|error| InvalidBatch::record(error.to_string()))?;
    // What a hook makes was put together here, and has gaps.
    if origin != Origin::Ingest {
        check_form(batch, &section)?;
    }
    let times_matter = config.message_timestamp_before_max_ms != i64::MAX
        && config.message_timestamp_type == TimestampType::CreateTime;
    if !(keys_needed || times_matter) || batch.is_control() {
        return Ok(());
    }
    let mut refusals = Vec::new();
    for record in RecordIter::new(&section) {
        let record = record.map_err(|error| InvalidBatch::record(error.to_string()))?;
        if keys_needed && record.key.is_none() && refusals.len() < REFUSALS_MAX {
            refusals.push(RecordRefusal {
                index: record.offset_delta,
                message: "a compacted topic's record needs a key".to_owned(),
            });
        }
        // The latest was checked with the header.
        if times_matter {
            check_timestamp(batch.timestamp_of(&record), config, now_ms)?;
        }
    }
    match refusals.is_empty() {
        true => Ok(()),
        false => Err(InvalidBatch::Record {
            message: "one or more records have been rejected".to_owned(),
            refusals,
        }),
    }
}

fn check_form<'a>(batch: &RecordBatch<'a>, section: &'a [u8]) -> Result<(), InvalidBatch> {
    batch.validate_records(section).map_err(|error| InvalidBatch::record(error.to_string()))
}

fn check_timestamps(batch: &RecordBatch<'_>, config: &TopicConfig, now_ms: i64) -> Result<(), InvalidBatch> {
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    check_timestamp(batch.max_timestamp(), config, now_ms)
}

fn check_timestamp(timestamp: i64, config: &TopicConfig, now_ms: i64) -> Result<(), InvalidBatch> {
    let (before, after) = (config.message_timestamp_before_max_ms, config.message_timestamp_after_max_ms);
    let none = timestamp < 0;
    if !none && (now_ms.saturating_sub(timestamp) > before || timestamp.saturating_sub(now_ms) > after) {
        return Err(InvalidBatch::Timestamp { timestamp, now: now_ms });
    }
    Ok(())
}
