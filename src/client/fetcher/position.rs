//! Where a partition is read from next.

use millstream_runtime::stage::TopicPartition;
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Position {
    pub(super) partition: TopicPartition,
    /// None until it is known where to begin.
    pub(super) offset: Option<i64>,
    /// Not to be asked for before.
    pub(super) retry_at: Option<Instant>,
}

impl Position {
    pub(super) fn new(partition: TopicPartition, offset: Option<i64>) -> Self {
        Self { partition, offset, retry_at: None }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// Forgets a wait that is over.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.is_due(now) {
            self.retry_at = None;
        }
    }
}
