//! What storage must know of a record batch: where its offsets lie, and who produced it; and how to put another
//! batch in its place.

use millstream_record::{
    BatchBuilder, BuildError, Compression, RecordBatch, TimestampType, UnknownCompression,
};

use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// What a batch may expand to while its records are looked at: for their keys, or for one of a time.
pub(crate) const OPENED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A batch's facts, taken from its validated header by whoever appends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMeta {
    pub base_offset: Offset,
    /// Inclusive.
    pub last_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub max_timestamp: i64,
    /// The whole batch, header included.
    pub length: u32,
    /// Absent for a producer that isn't idempotent.
    pub producer: Option<ProducerBatch>,
    pub is_transactional: bool,
    /// A transaction marker: it carries a producer, but no sequence.
    pub is_control: bool,
}

impl BatchMeta {
    /// The facts of a batch whose header was validated, to be appended at `base_offset`.
    pub fn new(batch: &RecordBatch<'_>, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        Self {
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta())),
            leader_epoch,
            max_timestamp: batch.max_timestamp(),
            length: batch.size_in_bytes() as u32,
            producer: ProducerBatch::of(batch),
            is_transactional: batch.is_transactional(),
            is_control: batch.is_control(),
        }
    }

    /// The offset after the batch.
    pub fn end_offset(&self) -> Offset {
        self.last_offset.plus(1)
    }
}

/// An idempotent producer's stamp on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Sequence of the first record; -1 in a control batch.
    pub base_sequence: i32,
}

impl ProducerBatch {
    /// The stamp, if the batch has one.
    pub fn of(batch: &RecordBatch<'_>) -> Option<Self> {
        (batch.producer_id() >= 0).then(|| Self {
            id: ProducerId(batch.producer_id()),
            epoch: ProducerEpoch(batch.producer_epoch()),
            base_sequence: batch.base_sequence(),
        })
    }

    /// Sequence of the last record, of a batch whose last offset is `last_offset_delta` after its
    /// first. Sequences start again at 0 after `i32::MAX`.
    pub fn last_sequence(&self, last_offset_delta: i32) -> i32 {
        if self.base_sequence > i32::MAX - last_offset_delta {
            last_offset_delta - (i32::MAX - self.base_sequence) - 1
        } else {
            self.base_sequence + last_offset_delta
        }
    }
}

/// The beginnings of a batch in the place of this one, which has fewer records: the same offsets, producer, sequences,
/// flags and times.
pub(crate) fn in_place_of(
    batch: &RecordBatch<'_>,
    bytes_max: usize,
) -> Result<BatchBuilder, UnknownCompression> {
    let mut builder = BatchBuilder::new(bytes_max)
        .base_offset(batch.base_offset())
        .partition_leader_epoch(batch.partition_leader_epoch())
        .producer(batch.producer_id(), batch.producer_epoch(), batch.base_sequence())
        .transactional(batch.is_transactional())
        .control(batch.is_control())
        .compression(batch.compression()?)
        .last_offset_delta(batch.last_offset_delta());
    builder = match batch.has_delete_horizon() {
        true => builder.delete_horizon(batch.base_timestamp()),
        false => builder.base_timestamp(batch.base_timestamp()),
    };
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.append_time(batch.max_timestamp());
    }
    Ok(builder)
}

/// Ends what [`in_place_of`] began. Nothing is not compressed: as in Kafka, and not every client can take it.
pub(crate) fn finish_in_place(builder: BatchBuilder) -> Result<Vec<u8>, BuildError> {
    match builder.is_empty() {
        true => builder.compression(Compression::None).finish(),
        false => builder.finish(),
    }
}

/// A batch's place in its segment. `position` counts the bytes of the segment's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) base_offset: i64,
    /// Inclusive.
    pub(crate) last_offset: i64,
    pub(crate) position: u64,
    pub(crate) length: u32,
    pub(crate) max_timestamp: i64,
}

impl IndexEntry {
    pub(crate) fn new(batch: &BatchMeta, position: u64) -> Self {
        Self {
            base_offset: batch.base_offset.0,
            last_offset: batch.last_offset.0,
            position,
            length: batch.length,
            max_timestamp: batch.max_timestamp,
        }
    }

    pub(crate) fn end_offset(&self) -> i64 {
        self.last_offset + 1
    }

    pub(crate) fn end_position(&self) -> u64 {
        self.position + u64::from(self.length)
    }
}
