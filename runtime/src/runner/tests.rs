//! What a sink has of its partitions, step by step.

mod poison;

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::BatchBuilder;

use super::reading::{Reading, Resumed, Unfit};
use crate::stage::{FetchedPartition, SeekTo, TopicPartition};

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: "in".into(), partition }
}

/// Batches of so many records each, end to end, from an offset on.
fn fetched(of: i32, from: i64, counts: &[usize], value: &[u8]) -> FetchedPartition {
    let (mut batches, mut next) = (Vec::new(), from);
    for count in counts {
        let mut batch = BatchBuilder::new(usize::MAX);
        (0..*count).for_each(|_| batch.append(1, None, Some(value), []).unwrap());
        let mut bytes = batch.finish().unwrap();
        let prefix = millstream_record::RecordBatch::new(&bytes).unwrap().patched_prefix(next, 0);
        bytes[..prefix.len()].copy_from_slice(&prefix);
        batches.extend_from_slice(&bytes);
        next += *count as i64;
    }
    FetchedPartition {
        topic: Arc::from("in"),
        partition: of,
        position: from,
        high_watermark: next,
        batches: Bytes::from(batches),
    }
}

fn reading(partitions: &[i32]) -> Reading {
    let mut reading = Reading::default();
    reading.assign(partitions.iter().copied().map(partition).collect());
    reading
}

fn taken(reading: &mut Reading, max: usize) -> Vec<(i32, usize)> {
    let Ok(taken) = reading.take(max, None) else { panic!("every batch can be opened") };
    taken.batches.iter().map(|batch| (batch.partition, batch.len())).collect()
}

#[test]
fn polls_cut_batches_where_they_are_full() {
    let mut reading = reading(&[0, 1]);
    assert!(reading.accept(fetched(0, 10, &[3, 2], b"v")).is_ok());
    assert!(reading.accept(fetched(1, 0, &[4], b"v")).is_ok());
    // Of a partition that is not assigned nothing is taken.
    assert!(reading.accept(fetched(7, 0, &[1], b"v")).is_ok());
    assert_eq!(taken(&mut reading, 4), [(0, 3), (0, 1)]);
    assert_eq!(reading.uncommitted(), [(partition(0), 14)]);
    assert_eq!(taken(&mut reading, 100), [(0, 1), (1, 4)]);
    let offsets = reading.uncommitted();
    assert_eq!(offsets, [(partition(0), 15), (partition(1), 4)]);
    reading.committed(&offsets);
    assert_eq!((reading.uncommitted(), taken(&mut reading, 100)), (vec![], vec![]));
    assert!(reading.lags().all(|(_, lag)| lag == 0));
}

/// However large a record is, it is handed over; beyond the first, bytes are bounded.
#[test]
fn a_poll_is_bounded_by_bytes() {
    let mut reading = reading(&[0]);
    let large = vec![0; 3 * 1024 * 1024];
    assert!(reading.accept(fetched(0, 0, &[1, 1, 1], &large)).is_ok());
    for _ in 0..3 {
        assert_eq!(taken(&mut reading, 100), [(0, 1)]);
    }
    let huge = vec![0; 5 * 1024 * 1024];
    assert!(reading.accept(fetched(0, 3, &[2], &huge)).is_ok());
    for _ in 0..2 {
        assert_eq!(taken(&mut reading, 100), [(0, 1)]);
    }
    assert_eq!(reading.position(&partition(0)), Some(5));
}

#[test]
fn what_is_uncommitted_delays_a_revocation_and_nothing_else_does() {
    let mut reading = reading(&[0]);
    assert!(reading.accept(fetched(0, 0, &[2], b"v")).is_ok());
    assert_eq!(taken(&mut reading, 1), [(0, 1)]);
    assert!(reading.revoke(), "offset 1 is to be committed");
    assert!(reading.assignment().is_empty() && reading.owns(&partition(0)));
    assert!(taken(&mut reading, 10).is_empty(), "the rest is for the next owner");
    let offsets = reading.uncommitted();
    reading.committed(&offsets);
    reading.let_go();
    assert!(!reading.owns(&partition(0)));
    reading.assign(vec![partition(0)]);
    assert!(!reading.revoke() && !reading.owns(&partition(0)));
}

#[test]
fn seeking_and_pausing_forget_what_was_fetched() {
    let mut reading = reading(&[0]);
    assert!(reading.accept(fetched(0, 0, &[4], b"v")).is_ok());
    assert_eq!(taken(&mut reading, 1), [(0, 1)]);
    assert!(!reading.seek(&partition(0), SeekTo::Offset(3)));
    assert!(taken(&mut reading, 10).is_empty());
    assert_eq!(reading.uncommitted(), [(partition(0), 3)], "as with any Kafka consumer");
    assert!(reading.accept(fetched(0, 3, &[1], b"v")).is_ok());
    assert!(reading.pause(&partition(0)) && !reading.pause(&partition(0)));
    assert!(taken(&mut reading, 10).is_empty());
    assert_eq!(reading.resume(&partition(0)), Resumed::At(SeekTo::Offset(3)));
    assert_eq!(reading.resume(&partition(0)), Resumed::NotPaused);
    // What was sought before, or meanwhile, counts when it is resumed.
    assert!(!reading.seek(&partition(0), SeekTo::End) && reading.pause(&partition(0)));
    assert_eq!(reading.resume(&partition(0)), Resumed::At(SeekTo::End));
    assert!(reading.pause(&partition(0)) && reading.seek(&partition(0), SeekTo::Beginning));
    assert_eq!(reading.resume(&partition(0)), Resumed::At(SeekTo::Beginning));
    reading.rewind(&partition(0), None);
    assert_eq!((reading.uncommitted(), reading.position(&partition(0))), (vec![], None));
}

/// Symptom: records that no plugin had seen were committed. Cause: the error about a batch behind them took them along.
/// Fix: they are handed over first.
#[test]
fn what_lies_in_front_of_an_unreadable_batch_is_handed_over_first() {
    let mut reading = reading(&[0]);
    let mut found = fetched(0, 0, &[2, 1], b"value");
    let mut bytes = found.batches.to_vec();
    // In the last record: the checksum does not fit any more.
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    found.batches = bytes.into();
    assert!(reading.accept(found).is_ok());
    assert_eq!(taken(&mut reading, 100), [(0, 2)]);
    assert_eq!(reading.uncommitted(), [(partition(0), 2)]);
    let unreadable = reading.take(100, None).err().expect("the second batch is damaged");
    assert_eq!((unreadable.offset, unreadable.what.is_some()), (2, true));
    assert_eq!(reading.uncommitted(), [(partition(0), 2)]);
    // It stays there until somebody says that it is done with.
    assert!(reading.take(100, None).is_err());
    reading.skip();
    assert_eq!(reading.uncommitted(), [(partition(0), 3)]);
    assert!(taken(&mut reading, 100).is_empty());
}

/// Symptom: a record of 64 MiB with headers of 2 bytes took the node gigabytes, for a plugin that could not hold them. Cause:
/// each header became a typed one before the plugin's limit was asked. Fix: what can't fit into its memory is not begun.
#[test]
fn what_has_no_room_in_the_plugins_memory_as_typed_records_is_not_handed_over() {
    let mut batch = BatchBuilder::new(usize::MAX);
    for headers in [0, 1000, 0] {
        let header = millstream_record::Header { key: b"", value: None };
        batch.append(1, None, Some(b"v"), std::iter::repeat_n(header, headers)).unwrap();
    }
    let mut reading = reading(&[0]);
    let batches = batch.finish().unwrap().into();
    assert!(reading.accept(FetchedPartition { batches, ..fetched(0, 0, &[3], b"v") }).is_ok());
    let mut take = |typed| reading.take(100, typed).map(|taken| taken.records);
    // In the packed form nothing is made of it.
    assert_eq!(take(Some(20_000)).ok(), Some(1));
    let unfit = take(Some(20_000)).expect_err("1000 headers take 20 bytes each, at least");
    let Some(Unfit::Record(record)) = unfit.what else { panic!("the record is known") };
    assert_eq!((unfit.offset, record.len(), record.offset(&record.records[0])), (1, 1, 1));
    assert_eq!(take(Some(20_079)).err().map(|unfit| unfit.offset), Some(1), "and it stays");
    assert_eq!(take(Some(20_080)).ok(), Some(1), "alone, it may have all of the memory");
    assert_eq!(take(None).ok(), Some(1));
    // One that is skipped takes nothing else along.
    let mut reading = self::reading(&[0]);
    let mut batch = BatchBuilder::new(usize::MAX);
    (0..3).for_each(|_| batch.append(1, None, Some(b"value"), []).unwrap());
    let batches = batch.finish().unwrap().into();
    assert!(reading.accept(FetchedPartition { batches, ..fetched(0, 0, &[3], b"v") }).is_ok());
    for next in 1..=3 {
        assert!(reading.take(100, Some(10)).is_err());
        reading.skip();
        assert_eq!(reading.uncommitted(), [(partition(0), next)]);
    }
    assert_eq!(reading.take(100, Some(10)).map(|taken| taken.records).ok(), Some(0));
}
