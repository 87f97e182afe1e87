//! Kafka's rules of idempotence, one by one.

use super::*;
use crate::ids::LeaderEpoch;

const ID: ProducerId = ProducerId(7);

fn stamp(epoch: i16, base_sequence: i32) -> ProducerBatch {
    ProducerBatch { id: ID, epoch: ProducerEpoch(epoch), base_sequence }
}

fn meta(epoch: i16, base_sequence: i32, base_offset: i64, count: i64) -> BatchMeta {
    BatchMeta {
        base_offset: Offset(base_offset),
        last_offset: Offset(base_offset + count - 1),
        leader_epoch: LeaderEpoch(0),
        max_timestamp: base_offset * 10,
        length: 100,
        producer: Some(stamp(epoch, base_sequence)),
        is_transactional: false,
        is_control: false,
    }
}

/// States after batches of (epoch, base sequence, base offset, records).
fn states(batches: &[(i16, i32, i64, i64)]) -> ProducerStates {
    let mut states = ProducerStates::default();
    for (epoch, sequence, offset, count) in batches {
        states.update(&meta(*epoch, *sequence, *offset, *count));
    }
    states
}

fn out_of_order(found: i32, last: i32) -> Result<ProducerCheck, ProducerCheckError> {
    Err(ProducerCheckError::OutOfOrderSequence { found, last })
}

fn duplicate(base: i64, last: i64) -> Result<ProducerCheck, ProducerCheckError> {
    Ok(ProducerCheck::Duplicate { base_offset: Offset(base), last_offset: Offset(last) })
}

#[test]
fn the_next_sequence_is_new_and_a_gap_is_not() {
    let states = states(&[(0, 0, 0, 5)]);
    assert_eq!(states.check(&stamp(0, 5), 0), Ok(ProducerCheck::New));
    assert_eq!(states.check(&stamp(0, 6), 0), out_of_order(6, 4));
    assert_eq!(states.check(&stamp(0, 4), 0), out_of_order(4, 4));
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    let states = ProducerStates::default();
    assert_eq!(states.check(&stamp(0, 0), 0), Ok(ProducerCheck::New));
    assert_eq!(states.check(&stamp(3, 1_234), 9), Ok(ProducerCheck::New));
}

#[test]
fn the_last_five_batches_are_recognised() {
    let states =
        states(&[(0, 0, 0, 2), (0, 2, 2, 2), (0, 4, 4, 2), (0, 6, 6, 2), (0, 8, 8, 2), (0, 10, 10, 2)]);
    assert_eq!(states.check(&stamp(0, 2), 1), duplicate(2, 3));
    assert_eq!(states.check(&stamp(0, 10), 1), duplicate(10, 11));
    assert_eq!(states.check(&stamp(0, 0), 1), out_of_order(0, 11), "the sixth last is forgotten");
    assert_eq!(states.check(&stamp(0, 2), 0), out_of_order(2, 11), "other length, other batch");
}

#[test]
fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
    let mut states = states(&[(1, 0, 0, 5)]);
    assert_eq!(states.check(&stamp(2, 5), 0), out_of_order(5, -1));
    assert_eq!(states.check(&stamp(2, 0), 0), Ok(ProducerCheck::New));
    let (found, current) = (ProducerEpoch(0), ProducerEpoch(1));
    assert_eq!(
        states.check(&stamp(0, 5), 0),
        Err(ProducerCheckError::InvalidProducerEpoch { found, current })
    );
    states.update(&meta(2, 0, 5, 1));
    assert_eq!(states.check(&stamp(2, 1), 0), Ok(ProducerCheck::New));
    assert_eq!(states.check(&stamp(2, 0), 0), duplicate(5, 5));
    assert!(states.check(&stamp(1, 5), 0).is_err());
}

#[test]
fn sequences_wrap_around() {
    let mut states = states(&[(0, i32::MAX - 1, 0, 2)]);
    assert_eq!(states.check(&stamp(0, 0), 0), Ok(ProducerCheck::New));
    assert!(states.check(&stamp(0, 1), 0).is_err());
    states.update(&meta(0, 0, 2, 1));
    assert_eq!(states.check(&stamp(0, i32::MAX - 1), 1), duplicate(0, 1));

    let within = stamp(0, i32::MAX - 1);
    assert_eq!(within.last_sequence(0), i32::MAX - 1);
    assert_eq!(within.last_sequence(1), i32::MAX);
    assert_eq!(within.last_sequence(2), 0);
    assert_eq!(within.last_sequence(4), 2);
}

#[test]
fn a_marker_moves_the_epoch_without_a_sequence() {
    let mut states = states(&[(0, 0, 0, 5)]);
    states.update(&BatchMeta { is_control: true, is_transactional: true, ..meta(1, -1, 5, 1) });
    assert_eq!(states.check(&stamp(1, 0), 0), Ok(ProducerCheck::New));
    assert_eq!(states.check(&stamp(1, 5), 0), out_of_order(5, -1));
    assert!(states.check(&stamp(0, 5), 0).is_err());
}

#[test]
fn expiration_counts_from_the_last_batch() {
    let mut states = states(&[(0, 0, 0, 5), (0, 5, 100, 1)]);
    states.expire(1_499, 500);
    assert_eq!(states.len(), 1);
    states.expire(1_500, 500);
    assert!(states.is_empty());
    assert_eq!(states.check(&stamp(0, 99), 0), Ok(ProducerCheck::New));
}

#[test]
fn truncation_forgets_what_it_cut() {
    let mut cut = states(&[(0, 0, 0, 5), (0, 5, 5, 5)]);
    cut.truncate(Offset(7));
    assert_eq!(cut.check(&stamp(0, 5), 4), Ok(ProducerCheck::New), "cut off, so not a duplicate");
    cut.truncate(Offset(0));
    assert!(cut.is_empty());
}

#[test]
fn made_up_producers_are_bounded() {
    let mut states = ProducerStates::default();
    for id in 0..PRODUCERS_MAX as i64 + 1 {
        let mut batch = meta(0, 0, id, 1);
        batch.producer = Some(ProducerBatch { id: ProducerId(id), ..stamp(0, 0) });
        states.update(&batch);
    }
    assert!(states.len() <= PRODUCERS_MAX);
    assert!(states.get(ProducerId(0)).is_none(), "the longest idle goes first");
    assert!(states.get(ProducerId(PRODUCERS_MAX as i64)).is_some());
}
