//! Appending, reading, rolling and opening again, with a disk that works.

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::state::LogState;

#[test]
fn what_is_flushed_can_be_read() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let told = Arc::new(Told::default());
    log.set_listener(told.clone());
    let first = append(&log, 3, 100, None);
    let second = append(&log, 2, 400_000, None);
    assert_eq!(log.next_offset(), Offset(5));
    dir.flush().unwrap();
    assert_eq!(log.log_end_offset(), Offset(5));
    assert_eq!(*told.flushed.lock().unwrap(), Some(Offset(5)));

    let cached = |from, bytes_max| log.read_cached(&request(from, bytes_max)).unwrap().unwrap();
    assert_eq!(cached(0, usize::MAX).data.concat(), [first.clone(), second.clone()].concat());
    assert_eq!(cached(2, 1).data.concat(), first, "the batch that holds the offset, however large");
    assert_eq!(cached(1, 1).offsets, Some((Offset(0), Offset(3))));
    assert_eq!(cached(3, usize::MAX).data.concat(), second);
    assert_eq!(cached(5, usize::MAX), ReadOutcome::default(), "the end of the log is empty");
    assert_eq!(read(&log, 0, usize::MAX), cached(0, usize::MAX));

    let bounded = ReadRequest { upper_bound: Offset(4), ..request(0, usize::MAX) };
    assert_eq!(log.read_cached(&bounded).unwrap().unwrap().data.concat(), first);
    let within = ReadRequest { from: Offset(3), ..bounded };
    assert_eq!(log.read_cached(&within).unwrap().unwrap(), ReadOutcome::default());
    let nothing = ReadRequest { min_one_batch: false, ..request(0, 10) };
    let full = ReadOutcome { is_full: true, ..ReadOutcome::default() };
    assert_eq!(log.read_cached(&nothing).unwrap().unwrap(), full);
    assert!(matches!(log.read_cached(&request(6, 1)), Err(ReadError::OffsetOutOfRange { .. })));
    dir.close().unwrap();
}

#[test]
fn batches_in_one_commit_become_one_slice() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let batches: Vec<Bytes> = (0..3).map(|_| client_batch(1, 0, None, b"abc")).collect();
    let metas = (0..3).map(|at| batch_meta(&batches[at], Offset(at as i64), LeaderEpoch(0))).collect();
    log.append(batches.concat().into(), metas).unwrap();
    dir.flush().unwrap();
    let outcome = log.read_cached(&request(0, usize::MAX)).unwrap().unwrap();
    assert_eq!((outcome.data.len(), outcome.offsets), (1, Some((Offset(0), Offset(3)))));
}

/// Appends until several segments are full, and answers what each log holds.
fn fill(dir: &LogDir, logs: &[Arc<Log>], rounds: usize) -> Vec<Vec<u8>> {
    let mut expected = vec![Vec::new(); logs.len()];
    for round in 0..rounds {
        for (log, expected) in logs.iter().zip(&mut expected) {
            expected.extend_from_slice(&append(log, 2, 50 + round * 7 % 900, None));
        }
        if round % 5 == 0 {
            dir.flush().unwrap();
        }
    }
    dir.flush().unwrap();
    expected
}

fn check_reopened(config: &LogDirConfig, close: impl FnOnce(LogDir, &FaultyDisk)) {
    let disk = FaultyDisk::new(7);
    let dir = open(&disk, config).unwrap();
    let logs: Vec<_> = (0..3).map(|partition| dir.create_log(tp(partition)).unwrap()).collect();
    let expected = fill(&dir, &logs, 80);
    let states: Vec<LogState> = logs.iter().map(|log| log.state()).collect();
    for (log, expected) in logs.iter().zip(&expected) {
        assert_eq!(&read_all(log, 1_000), expected);
    }
    close(dir, &disk);

    let dir = open(&disk, config).unwrap();
    for (partition, (expected, state)) in expected.iter().zip(states).enumerate() {
        let log = dir.log(&tp(partition as i32)).unwrap();
        assert_eq!(log.state(), state);
        assert_eq!(&read_all(&log, 3_000), expected);
        assert_eq!(log.size_in_bytes(), expected.len() as u64);
        assert_eq!(log.next_offset(), log.log_end_offset());
        let more = append(&log, 1, 10, None);
        dir.flush().unwrap();
        assert_eq!(read(&log, state_end(&log) - 1, 1_000).data.concat(), more);
    }
    dir.close().unwrap();
}

fn state_end(log: &Log) -> i64 {
    log.log_end_offset().0
}

#[test]
fn a_closed_log_dir_opens_as_it_was() {
    check_reopened(&LogDirConfig::default(), |dir, _| dir.close().unwrap());
    check_reopened(&small_segments(), |dir, _| dir.close().unwrap());
}

#[test]
fn a_crashed_log_dir_opens_as_it_was_flushed() {
    let crash = |dir: LogDir, disk: &FaultyDisk| {
        disk.restart();
        drop(dir);
    };
    check_reopened(&LogDirConfig::default(), crash);
    check_reopened(&small_segments(), crash);
}

#[test]
fn a_second_process_gets_one_clear_error() {
    let disk = FaultyDisk::new(1);
    let _dir = open(&disk, &LogDirConfig::default()).unwrap();
    assert!(matches!(open(&disk, &LogDirConfig::default()).err(), Some(OpenError::Locked { .. })));
}

#[test]
fn truncated_records_are_gone_and_replaced() {
    for config in [LogDirConfig::default(), small_segments()] {
        let disk = FaultyDisk::new(3);
        let dir = open(&disk, &config).unwrap();
        let log = dir.create_log(tp(0)).unwrap();
        let batches: Vec<Bytes> = (0..60).map(|_| append(&log, 1, 1_000, None)).collect();
        dir.flush().unwrap();
        log.truncate_to(Offset(20)).unwrap();
        let replaced: Vec<Bytes> = (0..30).map(|_| append(&log, 1, 900, None)).collect();
        dir.flush().unwrap();
        let expected = [&batches[..20], &replaced].concat().concat();
        assert_eq!(read_all(&log, 5_000), expected);
        dir.close().unwrap();

        let dir = open(&disk, &config).unwrap();
        let log = dir.log(&tp(0)).unwrap();
        assert_eq!(read_all(&log, 5_000), expected);
        log.truncate_to(Offset(10)).unwrap();
        dir.close().unwrap();
        let dir = open(&disk, &config).unwrap();
        let log = dir.log(&tp(0)).unwrap();
        assert_eq!(read_all(&log, 5_000), batches[..10].concat());
        log.truncate_fully_and_start_at(Offset(500)).unwrap();
        let restarted = append(&log, 1, 5, None);
        dir.close().unwrap();
        let dir = open(&disk, &config).unwrap();
        let log = dir.log(&tp(0)).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(500), Offset(501)));
        assert_eq!(read_all(&log, 5_000), restarted);
    }
}

#[test]
fn a_deleted_log_stays_deleted() {
    let disk = FaultyDisk::new(3);
    let dir = open(&disk, &small_segments()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    append(&log, 1, 100, None);
    dir.delete_log(&tp(0)).unwrap();
    assert!(matches!(append_at(&log, 1, 1, None, 0), Err(AppendError::Deleted)));
    let again = dir.create_log(tp(0)).unwrap();
    assert_ne!(again.number(), log.number());
    let batch = append(&again, 1, 50, None);
    dir.close().unwrap();

    let dir = open(&disk, &small_segments()).unwrap();
    assert_eq!(dir.logs().len(), 1);
    assert_eq!(read_all(&dir.log(&tp(0)).unwrap(), 1_000), batch);
    let next = dir.create_log(tp(1)).unwrap();
    assert!(next.number() > again.number(), "numbers aren't given out twice");
}

#[test]
fn timestamps_find_batches_in_every_segment() {
    let disk = FaultyDisk::new(3);
    let dir = open(&disk, &small_segments()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    for batch in 0..60 {
        append_at(&log, 10, 1_000, None, batch * 100).unwrap();
        dir.flush().unwrap();
    }
    let found = |timestamp| log.offset_for_timestamp(timestamp).unwrap().map(|found| found.base_offset.0);
    assert_eq!(found(0), Some(0));
    assert_eq!(found(1_001), Some(110));
    assert_eq!(found(5_900), Some(590));
    assert_eq!(found(5_901), None);
    assert_eq!(log.max_timestamp().unwrap().unwrap().last_offset, Offset(599));
    log.advance_log_start_offset(Offset(205)).unwrap();
    dir.flush().unwrap();
    assert_eq!(found(0), Some(200), "the batch that holds the log start");
    assert!(matches!(log.read_cached(&request(204, 1)), Err(ReadError::OffsetOutOfRange { .. })));
    assert_eq!(read(&log, 205, 1).offsets, Some((Offset(200), Offset(210))));
}

#[test]
fn producers_survive_in_checkpoints() {
    let disk = FaultyDisk::new(3);
    let dir = open(&disk, &small_segments()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    for sequence in 0..60 {
        let stamp = ProducerBatch { id: ProducerId(5), epoch: ProducerEpoch(0), base_sequence: sequence };
        append_at(&log, 1, 1_000, Some(stamp), i64::MAX).unwrap();
    }
    dir.flush().unwrap();
    let states = log.producer_states();
    assert_eq!(states.get(ProducerId(5)).unwrap().batches.back().unwrap().last_sequence, 59);
    dir.close().unwrap();
    let dir = open(&disk, &small_segments()).unwrap();
    assert_eq!(dir.log(&tp(0)).unwrap().producer_states(), states);
}

/// The latest timestamp of a log was taken from batches before its start, too, and then found nowhere.
#[test]
fn the_latest_timestamp_is_that_of_a_live_batch() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &small_segments()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let latest = || log.max_timestamp().unwrap().map(|batch| (batch.base_offset.0, batch.max_timestamp));
    assert_eq!(latest(), None);
    for batch in 0..60 {
        append_at(&log, 1, 1_000, None, 100 - batch).unwrap();
    }
    dir.flush().unwrap();
    assert_eq!(latest(), Some((0, 100)));
    for start in [1, 25, 59] {
        log.advance_log_start_offset(Offset(start)).unwrap();
        dir.flush().unwrap();
        assert_eq!(latest(), Some((start, 100 - start)));
    }
    log.advance_log_start_offset(Offset(60)).unwrap();
    dir.flush().unwrap();
    assert_eq!(latest(), None);
}

#[test]
fn a_read_says_whether_its_limit_ended_it() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let batches: Vec<Bytes> = (0..3).map(|_| append(&log, 1, 1_000, None)).collect();
    dir.flush().unwrap();
    let two = batches[0].len() + batches[1].len();
    for (bytes_max, upper_bound, expected) in
        [(two, 3, true), (two, 2, false), (two - 1, 2, true), (3 * two, 3, false), (0, 3, true)]
    {
        let request = ReadRequest { upper_bound: Offset(upper_bound), ..request(0, bytes_max) };
        assert_eq!(log.read_blocking(&request).unwrap().is_full, expected, "{request:?}");
        assert_eq!(log.read_cached(&request).unwrap().unwrap().is_full, expected, "{request:?}");
    }
}
