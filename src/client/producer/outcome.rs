//! What came of a batch, and what follows for those behind it.

use std::collections::HashSet;

use millstream_runtime::stage::TopicPartition;
use millstream_wire::ErrorCode;

use super::pending_batch::PendingBatch;
use crate::client::error::ClientError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It waits for the next round.
    Unsent,
    Written,
    /// To be sent again as it is: the leader knows it again, should it have been written.
    Again,
    /// The leader does not take it as the next one of this producer.
    SequenceBroken,
    /// It will never be written.
    Refused,
}

impl Outcome {
    pub(super) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::PartitionRefused {
                code:
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                    | ErrorCode::UNKNOWN_PRODUCER_ID
                    | ErrorCode::INVALID_PRODUCER_EPOCH
                    | ErrorCode::PRODUCER_FENCED,
                ..
            } => Self::SequenceBroken,
            error if error.is_retriable() => Self::Again,
            _ => Self::Refused,
        }
    }
}

/// What a round means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) written: Vec<bool>,
    /// The producer has to begin anew.
    pub(super) sequence_broken: bool,
}

pub(super) fn settle(pending: &[PendingBatch], outcomes: &[Outcome]) -> Settled {
    settle_partitions(pending.iter().map(|batch| &batch.partition), outcomes)
}

fn settle_partitions<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
    outcomes: &[Outcome],
) -> Settled {
    let mut missing: HashSet<&TopicPartition> = HashSet::new();
    let mut sequence_broken = false;
    for (partition, outcome) in partitions.zip(outcomes) {
        match outcome {
            // Should one be missing before it, then only that one's answer is: sending it again will tell.
            Outcome::Written => {}
            // Behind a batch that is not there, a broken sequence is what there should be.
            Outcome::SequenceBroken => sequence_broken |= missing.insert(partition),
            Outcome::Unsent | Outcome::Again | Outcome::Refused => {
                missing.insert(partition);
            }
        }
    }
    let written = outcomes.iter().map(|outcome| *outcome == Outcome::Written).collect();
    Settled { written, sequence_broken }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches are a letter for the partition and one for the outcome: written, again, broken, unsent.
    fn broken(batches: &str) -> bool {
        let batches = batches.split_whitespace().map(|batch| batch.split_at(1));
        let (partitions, outcomes): (Vec<_>, Vec<_>) = batches
            .map(|(partition, outcome)| {
                let outcome = match outcome {
                    "w" => Outcome::Written,
                    "a" => Outcome::Again,
                    "b" => Outcome::SequenceBroken,
                    _ => Outcome::Unsent,
                };
                (TopicPartition { topic: partition.into(), partition: 0 }, outcome)
            })
            .unzip();
        settle_partitions(partitions.iter(), &outcomes).sequence_broken
    }

    #[test]
    fn a_sequence_breaks_only_by_itself() {
        assert!(!broken("xw xw yw"));
        assert!(!broken("xw xa xb xb"), "those behind a missing batch are out of order");
        assert!(!broken("xa yw xu"));
        assert!(broken("xb"));
        assert!(broken("xw xb xb"));
        assert!(broken("xa yb"), "another partition's batch is no excuse");
        assert!(!broken("xa xw"), "its answer was lost");
    }

    #[test]
    fn errors_are_told_apart() {
        let outcome = |code| {
            let partition = TopicPartition { topic: "t".into(), partition: 0 };
            let key = millstream_wire::ApiKey::Produce;
            Outcome::of(&ClientError::PartitionRefused { key, partition, code, detail: String::new() })
        };
        assert_eq!(outcome(ErrorCode::NOT_LEADER_OR_FOLLOWER), Outcome::Again);
        assert_eq!(outcome(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND), Outcome::Again);
        assert_eq!(outcome(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), Outcome::SequenceBroken);
        assert_eq!(outcome(ErrorCode::UNKNOWN_PRODUCER_ID), Outcome::SequenceBroken);
        assert_eq!(outcome(ErrorCode::MESSAGE_TOO_LARGE), Outcome::Refused);
        assert_eq!(outcome(ErrorCode::TOPIC_AUTHORIZATION_FAILED), Outcome::Refused);
    }
}
