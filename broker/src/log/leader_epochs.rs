//! Which leader epoch began at which offset: how a follower finds where it parted from its leader.

use crate::ids::{LeaderEpoch, Offset};

/// The leader epochs of one partition, both epochs and start offsets ascending (KIP-101).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The epoch in which the record at `offset` was written.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        self.entries[..after].last().map(|(epoch, _)| *epoch)
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// The last epoch not after `epoch`, and the offset after its last record (KIP-279). `None` for
    /// an epoch after every known one.
    pub fn end_offset(&self, epoch: LeaderEpoch, log_end_offset: Offset) -> Option<(LeaderEpoch, Offset)> {
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end_offset));
        }
        let higher = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (_, higher_start) = *self.entries.get(higher)?;
        match higher.checked_sub(1) {
            Some(floor) => Some((self.entries[floor].0, higher_start)),
            None => Some((epoch, higher_start)),
        }
    }

    /// A batch of `epoch` was appended at `start`. Epochs that it contradicts are forgotten.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest() == Some(epoch) || epoch.0 < 0 {
            return;
        }
        while self.entries.last().is_some_and(|(last, offset)| *last >= epoch || *offset >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
    }

    /// Forgets epochs that began at or after `end`.
    pub(crate) fn truncate_end(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Forgets epochs that ended before `start`; the one that covers it begins there now.
    pub(crate) fn truncate_start(&mut self, start: Offset) {
        let covering = self.entries.partition_point(|(_, begin)| *begin <= start);
        if covering > 0 {
            self.entries.drain(..covering - 1);
            self.entries[0].1 = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        entries.iter().for_each(|(epoch, start)| epochs.assign(LeaderEpoch(*epoch), Offset(*start)));
        epochs
    }

    fn check_end(epochs: &LeaderEpochs, asked: i32, expected: Option<(i32, i64)>) {
        let expected = expected.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
        assert_eq!(epochs.end_offset(LeaderEpoch(asked), Offset(100)), expected, "epoch {asked}");
    }

    #[test]
    fn end_offset_is_where_the_next_epoch_began() {
        let epochs = history(&[(1, 0), (3, 40), (3, 50), (6, 70)]);
        check_end(&epochs, 0, Some((0, 0)));
        check_end(&epochs, 1, Some((1, 40)));
        check_end(&epochs, 2, Some((1, 40)));
        check_end(&epochs, 5, Some((3, 70)));
        check_end(&epochs, 6, Some((6, 100)));
        check_end(&epochs, 7, None);
        check_end(&LeaderEpochs::default(), 0, None);
    }

    #[test]
    fn truncation_keeps_the_covering_epoch() {
        let mut epochs = history(&[(1, 0), (3, 40), (6, 70)]);
        epochs.truncate_start(Offset(50));
        assert_eq!(epochs, history(&[(3, 50), (6, 70)]));
        epochs.truncate_end(Offset(70));
        assert_eq!(epochs, history(&[(3, 50)]));
        epochs.truncate_end(Offset(50));
        assert_eq!(epochs, LeaderEpochs::default());
    }

    #[test]
    fn a_batch_that_contradicts_the_history_wins() {
        let mut epochs = history(&[(1, 0), (5, 40)]);
        epochs.assign(LeaderEpoch(3), Offset(60));
        assert_eq!(epochs, history(&[(1, 0), (3, 60)]));
    }
}
