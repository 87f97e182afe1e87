//! A partition's leadership as a synchronous state machine: appends and flushes in, offsets and completions out.
//!
//! Invariants, held by assertions:
//! `log_start_offset <= high_watermark <= flushed <= next_offset`; a produce completes once, and only when the
//! high watermark has passed its last record or the log has failed.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ids::{LeaderEpoch, Offset};
use crate::log::error::StorageError;

/// Resolves when the records of a produce are on disk (acks=1 and all; with one replica the same moment).
pub type ProduceDone = oneshot::Receiver<Result<(), Arc<StorageError>>>;

/// A produce that waits for the high watermark (Kafka's DelayedProduce).
struct DelayedProduce {
    /// The high watermark must reach this.
    required: Offset,
    done: oneshot::Sender<Result<(), Arc<StorageError>>>,
}

pub(super) struct Leader {
    epoch: LeaderEpoch,
    /// The offset of the next record.
    next_offset: Offset,
    /// All below is on this broker's disk.
    flushed: Offset,
    high_watermark: Offset,
    delayed: VecDeque<DelayedProduce>,
    failed: Option<Arc<StorageError>>,
}

impl Leader {
    /// A leader over a log that ends at `log_end_offset`.
    pub(super) fn new(epoch: LeaderEpoch, log_end_offset: Offset) -> Self {
        Self {
            epoch,
            next_offset: log_end_offset,
            flushed: log_end_offset,
            high_watermark: log_end_offset,
            delayed: VecDeque::new(),
            failed: None,
        }
    }

    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    pub(super) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub(super) fn failed(&self) -> Option<&Arc<StorageError>> {
        self.failed.as_ref()
    }

    /// Gives `count` records their offsets; returns the first.
    pub(super) fn assign(&mut self, count: i64) -> Offset {
        assert!(count > 0, "a batch has records");
        let base = self.next_offset;
        self.next_offset = base.plus(count);
        base
    }

    /// Resolves when everything below `required` is acknowledged.
    pub(super) fn when_acknowledged(&mut self, required: Offset) -> ProduceDone {
        let (done, wait) = oneshot::channel();
        assert!(required <= self.next_offset, "nobody waits for records that don't exist");
        match &self.failed {
            // A receiver that is gone needs no answer.
            Some(error) => drop(done.send(Err(Arc::clone(error)))),
            None if required <= self.high_watermark => drop(done.send(Ok(()))),
            None => {
                // Duplicates may ask for an earlier offset than the last produce.
                let at = self.delayed.partition_point(|delayed| delayed.required <= required);
                self.delayed.insert(at, DelayedProduce { required, done });
            }
        }
        wait
    }

    /// The log is on disk up to `log_end_offset`; true if the high watermark moved.
    pub(super) fn flushed(&mut self, log_end_offset: Offset) -> bool {
        assert!(
            log_end_offset >= self.flushed && log_end_offset <= self.next_offset,
            "flushed {log_end_offset}, after {} of {}",
            self.flushed,
            self.next_offset
        );
        self.flushed = log_end_offset;
        // The only replica is in sync with itself.
        let moved = self.high_watermark < self.flushed;
        self.high_watermark = self.flushed;
        while let Some(first) = self.delayed.front() {
            if first.required > self.high_watermark {
                break;
            }
            if let Some(first) = self.delayed.pop_front() {
                drop(first.done.send(Ok(())));
            }
        }
        moved
    }

    /// The log can't be written any more: nothing that waits will be acknowledged.
    pub(super) fn fail(&mut self, error: &Arc<StorageError>) {
        self.failed = Some(Arc::clone(error));
        for delayed in self.delayed.drain(..) {
            drop(delayed.done.send(Err(Arc::clone(error))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(wait: &mut ProduceDone) -> &'static str {
        match wait.try_recv() {
            Ok(Ok(())) => "acknowledged",
            Ok(Err(_)) => "failed",
            Err(oneshot::error::TryRecvError::Empty) => "waiting",
            Err(oneshot::error::TryRecvError::Closed) => "lost",
        }
    }

    #[test]
    fn a_produce_is_acknowledged_when_its_last_record_is_flushed() {
        let mut leader = Leader::new(LeaderEpoch(0), Offset(10));
        assert_eq!(leader.assign(3), Offset(10));
        assert_eq!(leader.assign(2), Offset(13));
        let mut second = leader.when_acknowledged(Offset(15));
        let mut first = leader.when_acknowledged(Offset(13));
        let mut duplicate = leader.when_acknowledged(Offset(9));
        assert_eq!((state(&mut first), state(&mut second)), ("waiting", "waiting"));
        assert_eq!(state(&mut duplicate), "acknowledged");
        assert!(leader.flushed(Offset(13)));
        assert_eq!((state(&mut first), state(&mut second)), ("acknowledged", "waiting"));
        assert_eq!(leader.high_watermark(), Offset(13));
        assert!(leader.flushed(Offset(15)));
        assert!(!leader.flushed(Offset(15)));
        assert_eq!(state(&mut second), "acknowledged");
    }

    #[test]
    fn a_failed_log_acknowledges_nothing_more() {
        let mut leader = Leader::new(LeaderEpoch(0), Offset(0));
        leader.assign(1);
        let mut before = leader.when_acknowledged(Offset(1));
        let error = Arc::new(StorageError::Closed { path: "log-0".into() });
        leader.fail(&error);
        let mut after = leader.when_acknowledged(Offset(1));
        assert_eq!((state(&mut before), state(&mut after)), ("failed", "failed"));
        assert_eq!(leader.high_watermark(), Offset(0));
    }
}
