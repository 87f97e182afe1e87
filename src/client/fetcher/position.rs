//! Where a partition is read from next.

use millstream_runtime::stage::{SeekTo, TopicPartition};
use tokio::time::Instant;

use crate::client::offsets::{TIMESTAMP_EARLIEST, TIMESTAMP_LATEST};

#[derive(Debug)]
pub(super) struct Position {
    pub(super) partition: TopicPartition,
    /// None until it is known where to begin.
    pub(super) offset: Option<i64>,
    /// Where that is: a timestamp, as ListOffsets takes it.
    pub(super) begin: i64,
    /// Somebody has asked for no records of it.
    pub(super) paused: bool,
    /// Not to be asked for before.
    pub(super) retry_at: Option<Instant>,
}

impl Position {
    pub(super) fn new(partition: TopicPartition, offset: Option<i64>) -> Self {
        Self { partition, offset, begin: TIMESTAMP_EARLIEST, paused: false, retry_at: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.paused && self.retry_at.is_none_or(|at| at <= now)
    }

    pub(super) fn seek(&mut self, to: SeekTo) {
        let (offset, begin, paused) = match to {
            SeekTo::Offset(offset) => (Some(offset), TIMESTAMP_EARLIEST, false),
            SeekTo::Timestamp(timestamp) => (None, timestamp, false),
            SeekTo::Beginning => (None, TIMESTAMP_EARLIEST, false),
            SeekTo::End => (None, TIMESTAMP_LATEST, false),
            SeekTo::Paused => (self.offset, self.begin, true),
        };
        *self = Self { offset, begin, paused, retry_at: None, partition: self.partition.clone() };
    }

    /// Forgets a wait that is over.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.is_due(now) {
            self.retry_at = None;
        }
    }
}
