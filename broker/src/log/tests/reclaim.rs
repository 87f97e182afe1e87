//! Retention and what it gives back to the disk.

use super::*;
use crate::log::reclaim::Reclaimed;
use crate::log::retention::RetentionPolicy;

fn files(disk: &FaultyDisk) -> Vec<String> {
    use crate::log::disk::Disk;
    disk.list(&dir_path()).unwrap()
}

/// A log dir with a log of 60 batches of 1,000 bytes, whose timestamps are 0, 100, 200 and on.
fn filled(disk: &FaultyDisk, config: &LogDirConfig) -> (LogDir, Arc<Log>, Vec<Bytes>) {
    let dir = open(disk, config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let mut batches = Vec::new();
    for batch in 0..60 {
        batches.push(append_at(&log, 1, 1_000, None, batch * 100).unwrap());
        dir.flush().unwrap();
    }
    (dir, log, batches)
}

fn check_retention(config: &LogDirConfig, policy: RetentionPolicy, upper_bound: i64, expected: i64) {
    let disk = FaultyDisk::new(1);
    let (dir, log, batches) = filled(&disk, config);
    let start = log.enforce_retention(&policy, 6_000, Offset(upper_bound)).unwrap();
    assert_eq!(start.map_or(0, |start| start.0), expected, "{policy:?}");
    dir.flush().unwrap();
    assert_eq!(read_all(&log, 10_000), batches[expected as usize..].concat());
    let again = log.enforce_retention(&policy, 6_000, Offset(upper_bound)).unwrap();
    assert_eq!(again, None, "enforcing it twice changes nothing");
}

#[test]
fn retention_goes_by_age_and_by_size() {
    let by_age = |ms| RetentionPolicy { retention_ms: Some(ms), retention_bytes: None };
    let by_size = |bytes| RetentionPolicy { retention_ms: None, retention_bytes: Some(bytes) };
    let one_segment = LogDirConfig::default();
    check_retention(&one_segment, RetentionPolicy::default(), 60, 0);
    check_retention(&one_segment, by_age(2_000), 60, 40);
    check_retention(&one_segment, by_age(2_000), 30, 30);
    check_retention(&one_segment, by_size(10 * 1_061), 60, 50);
    check_retention(&one_segment, by_size(10 * 1_061 - 1), 60, 50);
    check_retention(&one_segment, by_size(10 * 1_061 + 1), 60, 49);
    check_retention(&one_segment, by_age(-1), 60, 60);
}

#[test]
fn sealed_segments_go_as_a_whole() {
    let disk = FaultyDisk::new(1);
    let (dir, log, batches) = filled(&disk, &small_segments());
    dir.close().unwrap();
    let dir = open(&disk, &small_segments()).unwrap();
    drop(log);
    let log = dir.log(&tp(0)).unwrap();
    let policy = RetentionPolicy { retention_ms: Some(2_500), retention_bytes: None };
    let start = log.enforce_retention(&policy, 6_000, Offset(60)).unwrap().unwrap().0;
    // A segment takes 19 batches; those from 35 on are too young.
    assert_eq!(start, 19);
    dir.flush().unwrap();
    assert_eq!(read_all(&log, 10_000), batches[19..].concat());
}

#[test]
fn dead_segments_are_removed_and_stay_so() {
    let disk = FaultyDisk::new(1);
    let (dir, log, batches) = filled(&disk, &small_segments());
    let before = files(&disk).len();
    assert_eq!(dir.reclaim().unwrap(), Reclaimed::default());
    log.advance_log_start_offset(Offset(45)).unwrap();
    dir.flush().unwrap();
    let reclaimed = dir.reclaim().unwrap();
    assert_eq!((reclaimed.removed_segments, reclaimed.rewritten_segments), (2, 0));
    assert!(reclaimed.bytes > 2 * 19_000);
    assert_eq!(files(&disk).len(), before - 2);
    assert_eq!(read_all(&log, 10_000), batches[45..].concat());
    disk.restart();
    drop(dir);
    let dir = open(&disk, &small_segments()).unwrap();
    assert_eq!(read_all(&dir.log(&tp(0)).unwrap(), 10_000), batches[45..].concat());
    assert_eq!(files(&disk).len(), before - 2);
}

#[test]
fn a_lost_segment_is_not_taken_for_a_removed_one() {
    use crate::log::disk::Disk;
    let disk = FaultyDisk::new(1);
    let (dir, _log, _) = filled(&disk, &small_segments());
    dir.close().unwrap();
    disk.remove(&dir_path().join("0000000065.redb")).unwrap();
    let error = open(&disk, &small_segments()).err().unwrap();
    assert_eq!(error.to_string(), "open log dir: segment /logs/0000000065.redb is missing");
}

#[test]
fn mostly_dead_segments_are_rewritten() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { segment_bytes: 400_000, tail_cache_bytes: 0, ..small_segments() };
    let dir = open(&disk, &config).unwrap();
    let logs: Vec<_> = (0..10).map(|partition| dir.create_log(tp(partition)).unwrap()).collect();
    let mut expected = vec![Vec::new(); 10];
    for _ in 0..130 {
        for (log, expected) in logs.iter().zip(&mut expected) {
            expected.push(append(log, 1, 1_000, None));
        }
        dir.flush().unwrap();
    }
    // Closing waits for the last seal, so that it is known which segments are sealed.
    drop(logs);
    dir.close().unwrap();
    let dir = open(&disk, &config).unwrap();
    for partition in 3..10 {
        dir.delete_log(&tp(partition)).unwrap();
    }
    dir.log(&tp(1)).unwrap().advance_log_start_offset(Offset(20)).unwrap();
    dir.flush().unwrap();
    let mut bytes = 0;
    for _ in 0..3 {
        let reclaimed = dir.reclaim().unwrap();
        assert_eq!((reclaimed.removed_segments, reclaimed.rewritten_segments), (0, 1));
        bytes += reclaimed.bytes;
    }
    assert_eq!(dir.reclaim().unwrap(), Reclaimed::default());
    assert!(bytes > 400_000, "{bytes} bytes came free");
    let check = |dir: &LogDir| {
        for (partition, from) in [(0, 0), (1, 20), (2, 0)] {
            let log = dir.log(&tp(partition)).unwrap();
            assert_eq!(read_all(&log, 5_000), expected[partition as usize][from..].concat());
        }
    };
    check(&dir);
    disk.restart();
    drop(dir);
    check(&open(&disk, &config).unwrap());
}

/// A log dir that nothing was written to any more kept its expired bytes until its newest segment was full,
/// which could be never; it is sealed now when most of it is dead.
#[test]
fn a_quiet_log_dir_gives_back_its_newest_segment() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let (expired, kept) = (dir.create_log(tp(0)).unwrap(), dir.create_log(tp(1)).unwrap());
    for _ in 0..9 {
        append(&expired, 1, 600_000, None);
    }
    let expected = append(&kept, 1, 600_000, None);
    expired.advance_log_start_offset(Offset(4)).unwrap();
    dir.flush().unwrap();
    let before = files(&disk);
    assert_eq!(dir.reclaim().unwrap(), Reclaimed::default());
    assert_eq!(files(&disk), before, "more than half of it is live");

    expired.advance_log_start_offset(Offset(9)).unwrap();
    dir.flush().unwrap();
    dir.reclaim().unwrap();
    // The seal is written on its own thread; closing waits for it.
    drop((expired, kept));
    dir.close().unwrap();
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let reclaimed = dir.reclaim().unwrap();
    assert_eq!((reclaimed.removed_segments, reclaimed.rewritten_segments), (0, 1));
    assert!(reclaimed.bytes > 9 * 600_000);
    assert_eq!(read_all(&dir.log(&tp(1)).unwrap(), usize::MAX), expected);
    assert_eq!(dir.reclaim().unwrap(), Reclaimed::default(), "the newest segment holds nothing");
}

/// A rewritten segment kept the offsets that it had no batches for any more, so that its live bytes were taken
/// for few, and it was rewritten at every reclaim, for ever.
#[test]
fn a_segment_is_not_rewritten_again_without_more_dead_bytes() {
    let disk = FaultyDisk::new(1);
    let (dir, log, batches) = filled(&disk, &small_segments());
    drop(log);
    dir.close().unwrap();
    let dir = open(&disk, &small_segments()).unwrap();
    let log = dir.log(&tp(0)).unwrap();
    let start = log.inner().spans[0].end_offset - 4;
    log.advance_log_start_offset(Offset(start)).unwrap();
    dir.flush().unwrap();
    assert_eq!(dir.reclaim().unwrap().rewritten_segments, 1);
    for _ in 0..3 {
        assert_eq!(dir.reclaim().unwrap(), Reclaimed::default());
    }
    let expected = batches[start as usize..].concat();
    assert_eq!(read_all(&log, 10_000), expected);
    disk.restart();
    drop((log, dir));
    let dir = open(&disk, &small_segments()).unwrap();
    assert_eq!(dir.reclaim().unwrap(), Reclaimed::default());
    assert_eq!(read_all(&dir.log(&tp(0)).unwrap(), 10_000), expected);
}

/// The same where the log start lies in a batch that holds most of the offsets.
#[test]
fn an_estimate_that_is_wrong_costs_one_rewrite() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let mut expected = Vec::new();
    for records in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1_000, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
        expected.push(append(&log, records, 1_000, None));
        dir.flush().unwrap();
    }
    drop(log);
    dir.close().unwrap();
    let dir = open(&disk, &config).unwrap();
    let log = dir.log(&tp(0)).unwrap();
    // One offset of the batch of 1,000 is live.
    log.advance_log_start_offset(Offset(1_008)).unwrap();
    dir.flush().unwrap();
    let rewrites: usize = (0..5).map(|_| dir.reclaim().unwrap().rewritten_segments).sum();
    assert_eq!(rewrites, 1);
    assert_eq!(read_all(&log, 10_000), expected[9..].concat());
}
