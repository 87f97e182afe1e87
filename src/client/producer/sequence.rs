//! Sequence numbers: by them a leader tells a repeated batch from a new one.

use std::collections::HashMap;

use millstream_runtime::stage::TopicPartition;

use super::pending_batch::PendingBatch;

/// The sequence number after so many records. After the largest comes 0.
fn sequence_after(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

/// Gives batches that have none yet the numbers that come next.
pub(super) fn assign_sequences(pending: &mut [PendingBatch], next: &mut HashMap<TopicPartition, i32>) {
    for batch in pending.iter_mut().filter(|batch| batch.base_sequence.is_none()) {
        // Partitions are few and batches large: a clone of the key is nothing.
        let next = next.entry(batch.partition.clone()).or_insert(0);
        batch.base_sequence = Some(*next);
        *next = sequence_after(*next, batch.records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
