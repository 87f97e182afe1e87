//! Producers whose first batch was turned away, to be sent again.
//!
//! A producer without state may begin anywhere, as its state may have expired. So if its first batch is turned away
//! and the second, which was sent behind it, is taken, the first can never be appended: its sequence is behind. What
//! is remembered here keeps the second out, as a gap in the sequence does once there is state. Clients send both
//! again, in order.

use std::collections::BTreeMap;

use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::batch::ProducerBatch;
use crate::log::producer_states::ProducerCheckError;

/// Producers remembered per partition. Beyond it, the oldest ids are forgotten.
const WITHHELD_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Withheld(BTreeMap<ProducerId, First>);

#[derive(Debug)]
struct First {
    epoch: ProducerEpoch,
    base_sequence: i32,
    since_ms: i64,
}

impl First {
    /// Sequences start again at 0 after `i32::MAX`; a batch is at most half the way round behind another.
    fn is_after(&self, batch: &ProducerBatch) -> bool {
        let distance = self.base_sequence.wrapping_sub(batch.base_sequence) & i32::MAX;
        self.epoch < batch.epoch || (self.epoch == batch.epoch && (1..=i32::MAX / 2).contains(&distance))
    }
}

impl Withheld {
    /// A producer without state was turned away.
    pub(super) fn note(&mut self, batch: &ProducerBatch, now_ms: i64) {
        if self.0.get(&batch.id).is_some_and(|first| !first.is_after(batch)) {
            return;
        }
        if self.0.len() >= WITHHELD_MAX {
            self.0.pop_first();
        }
        let first = First { epoch: batch.epoch, base_sequence: batch.base_sequence, since_ms: now_ms };
        self.0.insert(batch.id, first);
    }

    /// Whether a producer without state may begin with this batch.
    pub(super) fn check(&self, batch: &ProducerBatch) -> Result<(), ProducerCheckError> {
        match self.0.get(&batch.id) {
            Some(first) if first.epoch > batch.epoch => {
                Err(ProducerCheckError::InvalidProducerEpoch { found: batch.epoch, current: first.epoch })
            }
            Some(first) if first.epoch == batch.epoch && first.base_sequence != batch.base_sequence => {
                let (found, last) = (batch.base_sequence, first.base_sequence - 1);
                Err(ProducerCheckError::OutOfOrderSequence { found, last })
            }
            _ => Ok(()),
        }
    }

    /// The producer has state from now on.
    pub(super) fn forget(&mut self, id: ProducerId) {
        self.0.remove(&id);
    }

    /// Forgets producers that did not come back.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.0.retain(|_, first| first.since_ms > now_ms.saturating_sub(expiration_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: i64, epoch: i16, base_sequence: i32) -> ProducerBatch {
        ProducerBatch { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence }
    }

    #[test]
    fn what_was_sent_behind_the_first_has_to_wait_for_it() {
        let mut withheld = Withheld::default();
        assert_eq!(withheld.check(&batch(1, 0, 5)), Ok(()));
        withheld.note(&batch(1, 0, 0), 0);
        // Turned away behind it: the first is still the one to come.
        withheld.note(&batch(1, 0, 5), 0);
        let gap = ProducerCheckError::OutOfOrderSequence { found: 5, last: -1 };
        assert_eq!(withheld.check(&batch(1, 0, 5)), Err(gap));
        assert_eq!(withheld.check(&batch(1, 0, 0)), Ok(()));
        assert_eq!(withheld.check(&batch(2, 0, 5)), Ok(()), "another producer");
        assert_eq!(withheld.check(&batch(1, 1, 5)), Ok(()), "it has begun anew");
        withheld.note(&batch(1, 1, 0), 0);
        let current = ProducerEpoch(1);
        let stale = ProducerCheckError::InvalidProducerEpoch { found: ProducerEpoch(0), current };
        assert_eq!(withheld.check(&batch(1, 0, 0)), Err(stale));
        withheld.forget(ProducerId(1));
        assert_eq!(withheld.check(&batch(1, 1, 5)), Ok(()));
        // Whichever is turned away first.
        for (first, behind) in [(0, 5), (i32::MAX - 1, 3)] {
            withheld.note(&batch(3, 0, behind), 0);
            withheld.note(&batch(3, 0, first), 0);
            withheld.note(&batch(3, 0, behind), 0);
            assert_eq!(withheld.check(&batch(3, 0, first)), Ok(()));
            assert!(withheld.check(&batch(3, 0, behind)).is_err());
            withheld.forget(ProducerId(3));
        }
    }

    #[test]
    fn producers_that_do_not_come_back_are_forgotten() {
        let mut withheld = Withheld::default();
        for id in 0..WITHHELD_MAX as i64 + 1 {
            withheld.note(&batch(id, 0, 0), id);
        }
        assert_eq!(withheld.0.len(), WITHHELD_MAX);
        assert_eq!(withheld.check(&batch(0, 0, 5)), Ok(()));
        withheld.expire(200, 100);
        assert_eq!(withheld.check(&batch(100, 0, 5)), Ok(()));
        assert!(withheld.check(&batch(101, 0, 5)).is_err());
    }
}
