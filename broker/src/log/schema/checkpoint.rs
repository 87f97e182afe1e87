//! A log's state in a checkpoint.

use uuid::Uuid;

use super::packed::{MalformedRow, PackedReader, PackedWriter, add};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicIdPartition};
use crate::log::leader_epochs::LeaderEpochs;
use crate::log::producer_states::{AppendedBatch, PRODUCER_BATCHES_MAX, ProducerState, ProducerStates};
use crate::log::state::LogState;

const CHECKPOINT_ROW_VERSION: u8 = 1;

pub(crate) fn encode_checkpoint(tp: &TopicIdPartition, state: &LogState) -> Vec<u8> {
    let mut row = PackedWriter::new(CHECKPOINT_ROW_VERSION);
    row.raw(tp.topic_id.0.as_bytes());
    row.signed(i64::from(tp.partition.0));
    row.signed(state.log_start_offset.0);
    row.signed(state.log_end_offset.0);
    let epochs = state.leader_epochs.entries();
    row.varint(epochs.len() as u64);
    for (epoch, start) in epochs {
        row.signed(i64::from(epoch.0));
        row.signed(start.0);
    }
    row.varint(state.producer_states.len() as u64);
    for (id, producer) in state.producer_states.iter() {
        row.signed(id.0);
        row.signed(i64::from(producer.epoch.0));
        row.signed(producer.last_timestamp);
        row.u8(producer.batches.len() as u8);
        for batch in &producer.batches {
            row.signed(i64::from(batch.base_sequence));
            row.signed(i64::from(batch.last_sequence));
            row.signed(batch.base_offset.0);
            row.varint((batch.last_offset.0 - batch.base_offset.0) as u64);
        }
    }
    row.finish()
}

pub(crate) fn decode_checkpoint(row: &[u8]) -> Result<(TopicIdPartition, LogState), MalformedRow> {
    let mut row = PackedReader::new(row, CHECKPOINT_ROW_VERSION)?;
    let topic_id = TopicId(Uuid::from_bytes(row.raw()?));
    let partition = PartitionIndex(row.narrow_signed()?);
    let log_start_offset = Offset(row.signed()?);
    let log_end_offset = Offset(row.signed()?);
    if log_start_offset > log_end_offset || log_start_offset < Offset::ZERO {
        return Err(MalformedRow::Range);
    }
    let mut leader_epochs = LeaderEpochs::default();
    for _ in 0..row.varint()? {
        leader_epochs.assign(LeaderEpoch(row.narrow_signed()?), Offset(row.signed()?));
    }
    let mut producer_states = ProducerStates::default();
    for _ in 0..row.varint()? {
        let id = ProducerId(row.signed()?);
        producer_states.insert(id, decode_producer(&mut row)?);
    }
    row.end()?;
    let state = LogState { log_start_offset, log_end_offset, leader_epochs, producer_states };
    Ok((TopicIdPartition { topic_id, partition }, state))
}

fn decode_producer(row: &mut PackedReader<'_>) -> Result<ProducerState, MalformedRow> {
    let epoch = ProducerEpoch(row.narrow_signed()?);
    let last_timestamp = row.signed()?;
    let count = row.u8()?;
    if usize::from(count) > PRODUCER_BATCHES_MAX {
        return Err(MalformedRow::Range);
    }
    let mut producer = ProducerState { epoch, last_timestamp, batches: Default::default() };
    for _ in 0..count {
        let base_sequence = row.narrow_signed()?;
        let last_sequence = row.narrow_signed()?;
        let base_offset = row.signed()?;
        let last_offset = Offset(add(base_offset, row.narrow()?)?);
        producer.batches.push_back(AppendedBatch {
            base_sequence,
            last_sequence,
            base_offset: Offset(base_offset),
            last_offset,
        });
    }
    Ok(producer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::{BatchMeta, ProducerBatch};
    use crate::log::state::Change;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn state_survives(batches in proptest::collection::vec(
            (1..1000i64, 0..9i32, any::<i64>(), 0..6i64, 0..3i16, 0..i32::MAX), 0..60,
        ), cut in 0..2000i64) {
            let mut state = LogState::default();
            for (count, epoch, max_timestamp, id, producer_epoch, base_sequence) in batches {
                let producer = ProducerBatch {
                    id: ProducerId(id), epoch: ProducerEpoch(producer_epoch), base_sequence,
                };
                state.fold(&Change::Append(BatchMeta {
                    base_offset: state.log_end_offset,
                    last_offset: state.log_end_offset.plus(count - 1),
                    leader_epoch: LeaderEpoch(epoch),
                    max_timestamp,
                    length: 100,
                    producer: Some(producer),
                    is_transactional: false,
                    is_control: id == 5,
                }));
            }
            state.fold(&Change::AdvanceLogStart(Offset(cut).min(state.log_end_offset)));
            let tp = TopicIdPartition { topic_id: TopicId(Uuid::from_u128(9)), partition: PartitionIndex(3) };
            prop_assert_eq!(decode_checkpoint(&encode_checkpoint(&tp, &state)).unwrap(), (tp, state));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut row = PackedWriter::new(CHECKPOINT_ROW_VERSION);
            row.raw(&bytes);
            let _ = decode_checkpoint(&row.finish());
        }
    }
}
