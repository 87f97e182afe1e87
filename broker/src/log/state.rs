//! A partition's persistent state, and the one function that changes it.
//!
//! State now = the checkpoint at the head of a segment + the entries since, folded in order. The
//! writer folds as it commits and recovery folds what it reads, so they can't disagree.

use super::batch::BatchMeta;
use super::leader_epochs::LeaderEpochs;
use super::producer_states::ProducerStates;
use crate::ids::Offset;

/// What a checkpoint holds of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    pub log_start_offset: Offset,
    /// Exclusive: the offset of the next batch.
    pub log_end_offset: Offset,
    pub leader_epochs: LeaderEpochs,
    pub producer_states: ProducerStates,
}

impl Default for LogState {
    fn default() -> Self {
        Self {
            log_start_offset: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            leader_epochs: LeaderEpochs::default(),
            producer_states: ProducerStates::default(),
        }
    }
}

/// A change of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Append(BatchMeta),
    /// The log ends here now; later records are gone.
    Truncate(Offset),
    /// Records before this are gone.
    AdvanceLogStart(Offset),
    /// Every record is gone, and the next one goes here.
    Restart(Offset),
}

impl LogState {
    pub(crate) fn fold(&mut self, change: &Change) {
        match change {
            Change::Append(batch) => {
                self.leader_epochs.assign(batch.leader_epoch, batch.base_offset);
                self.producer_states.update(batch);
                self.log_end_offset = batch.end_offset();
            }
            Change::Truncate(end) => {
                if *end < self.log_end_offset {
                    self.log_end_offset = *end;
                    self.log_start_offset = self.log_start_offset.min(*end);
                    self.leader_epochs.truncate_end(*end);
                    self.producer_states.truncate(*end);
                }
            }
            Change::AdvanceLogStart(start) => {
                if *start > self.log_start_offset {
                    self.log_start_offset = *start;
                    self.log_end_offset = self.log_end_offset.max(*start);
                    self.leader_epochs.truncate_start(*start);
                }
            }
            Change::Restart(offset) => {
                self.log_start_offset = *offset;
                self.log_end_offset = *offset;
                self.leader_epochs = LeaderEpochs::default();
                self.producer_states.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaderEpoch;

    fn append(base: i64, count: i64, epoch: i32) -> Change {
        Change::Append(BatchMeta {
            base_offset: Offset(base),
            last_offset: Offset(base + count - 1),
            leader_epoch: LeaderEpoch(epoch),
            max_timestamp: 0,
            length: 100,
            producer: None,
            is_transactional: false,
            is_control: false,
        })
    }

    fn check(changes: &[Change], start: i64, end: i64, epochs: &[(i32, i64)]) {
        let mut state = LogState::default();
        changes.iter().for_each(|change| state.fold(change));
        let found: Vec<_> = state.leader_epochs.entries().iter().map(|(e, o)| (e.0, o.0)).collect();
        let bounds = (state.log_start_offset.0, state.log_end_offset.0);
        assert_eq!((bounds, found.as_slice()), ((start, end), epochs));
    }

    #[test]
    fn changes_fold_in_order() {
        use Change::*;
        check(&[append(0, 5, 1), append(5, 5, 2)], 0, 10, &[(1, 0), (2, 5)]);
        check(&[append(0, 5, 1), append(5, 5, 2), Truncate(Offset(5))], 0, 5, &[(1, 0)]);
        check(&[append(0, 5, 1), Truncate(Offset(9))], 0, 5, &[(1, 0)]);
        check(&[append(0, 5, 1), append(5, 5, 2), AdvanceLogStart(Offset(7))], 7, 10, &[(2, 7)]);
        check(&[append(0, 5, 1), AdvanceLogStart(Offset(3)), Truncate(Offset(1))], 1, 1, &[]);
        check(&[append(0, 5, 1), Restart(Offset(40)), append(40, 1, 3)], 40, 41, &[(3, 40)]);
    }
}
