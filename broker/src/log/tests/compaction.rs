//! Compaction of logs among others, through crashes and restarts.

mod edges;

use std::collections::BTreeMap;

use millstream_record::{BatchBuilder, Compression, RecordBatch, RecordIter};

use super::*;
use crate::log::SegmentKind;
use crate::log::compaction::{Compacted, CompactionPolicy};
use crate::log::testing::{Faults, SeededRandom};

const NOW: i64 = 1_000_000;
const KEYS_BYTES: usize = 1 << 20;

fn policy() -> CompactionPolicy {
    CompactionPolicy {
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: 0,
        segment_bytes: u64::MAX,
        segment_ms: i64::MAX,
        retention_ms: None,
        upper_bound: Offset(i64::MAX),
    }
}

/// Appends one record; no value makes a tombstone.
fn put(log: &Arc<Log>, key: &str, value: Option<&str>) {
    let mut builder = BatchBuilder::new(10_000).compression(Compression::Lz4);
    builder.append(NOW, Some(key.as_bytes()), value.map(str::as_bytes), []).unwrap();
    let batch = Bytes::from(builder.finish().unwrap());
    let meta = batch_meta(&batch, log.next_offset(), LeaderEpoch(3));
    log.append(batch, vec![meta]).unwrap();
}

/// The records of a log: offset, key, value.
fn records(log: &Log) -> Vec<(i64, String, Option<String>)> {
    let bytes = read_all(log, 10_000);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found = Vec::new();
    for batch in RecordBatch::batches(&bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        let section = batch.uncompressed_records(1 << 20).unwrap();
        for record in RecordIter::new(&section).map(Result::unwrap) {
            found.push((batch.offset_of(&record), text(record.key.unwrap()), record.value.map(text)));
        }
    }
    found
}

/// The last value of each key.
fn last_values(log: &Log) -> BTreeMap<String, Option<String>> {
    records(log).into_iter().map(|(_, key, value)| (key, value)).collect()
}

fn compact(dir: &LogDir, partition: i32, keys_bytes: usize, policy: &CompactionPolicy) -> Compacted {
    let wanted = tp(partition);
    dir.compact(NOW, keys_bytes, |log| (log.topic_id_partition() == wanted).then(|| policy.clone()), &|| {
        false
    })
    .unwrap()
}

/// Seals what there is; what is appended after is in the newest segment.
fn seal(disk: &FaultyDisk, dir: LogDir, config: &LogDirConfig) -> LogDir {
    // Closing writes what is queued, and waits for a seal that is on its way: nothing is sealed beside it.
    dir.close().unwrap();
    drop(dir);
    let dir = open(disk, config).unwrap();
    let wanted = CompactionPolicy { segment_bytes: 0, min_cleanable_dirty_ratio: 2.0, ..policy() };
    dir.compact(NOW, KEYS_BYTES, |_| Some(wanted.clone()), &|| false).unwrap();
    dir.close().unwrap();
    drop(dir);
    open(disk, config).unwrap()
}

/// 300 values of 10 keys, beside a log that isn't compacted; all of it sealed.
fn filled(disk: &FaultyDisk, config: &LogDirConfig) -> LogDir {
    let dir = open(disk, config).unwrap();
    let (log, other) = (dir.create_log(tp(0)).unwrap(), dir.create_log(tp(1)).unwrap());
    for value in 0..300 {
        put(&log, &format!("k{}", value % 10), Some(&format!("value {value}")));
        if value % 3 == 0 {
            put(&other, "other", Some(&format!("value {value}")));
        }
        if value % 7 == 0 {
            dir.flush().unwrap();
        }
    }
    drop((log, other));
    seal(disk, dir, config)
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { tail_cache_bytes: 0, ..small_segments() };
    let dir = filled(&disk, &config);
    let (log, other) = (dir.log(&tp(0)).unwrap(), dir.log(&tp(1)).unwrap());
    let untouched = read_all(&other, 10_000);
    let compacted = compact(&dir, 0, KEYS_BYTES, &policy());
    assert_eq!(compacted.logs, 1);
    assert!(compacted.bytes_after * 10 < compacted.bytes_before, "{compacted:?}");
    let expected: Vec<_> =
        (290..300).map(|value| (value, format!("k{}", value % 10), Some(format!("value {value}")))).collect();
    let check = |dir: &LogDir| {
        let (log, other) = (dir.log(&tp(0)).unwrap(), dir.log(&tp(1)).unwrap());
        assert_eq!(records(&log), expected);
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(0), Offset(300)));
        // A reader that was in the gap goes on behind it.
        assert_eq!(read(&log, 17, 1).offsets.unwrap().0, Offset(290));
        assert_eq!(read_all(&other, 10_000), untouched);
    };
    check(&dir);
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy()), Compacted::default(), "nothing is dirty any more");
    // What it came from is given back, and all of it is there after a restart.
    let mut reclaimed = 0;
    for _ in 0..20 {
        reclaimed += dir.reclaim().unwrap().bytes;
    }
    assert!(reclaimed > compacted.bytes_before / 2, "{reclaimed}");
    check(&dir);
    drop((log, other));
    disk.restart();
    drop(dir);
    let dir = open(&disk, &config).unwrap();
    check(&dir);
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy()), Compacted::default());
}

#[test]
fn keys_that_memory_has_no_room_for_take_more_passes_and_come_to_the_same() {
    for keys in [1, 3, 7] {
        let disk = FaultyDisk::new(1);
        let dir = filled(&disk, &small_segments());
        // Each pass takes so many keys, and leaves the rest dirty. Now and then there is no place for another
        // segment, until the newest is sealed, empty as it is.
        let log = dir.log(&tp(0)).unwrap();
        let mut passes = 0;
        for _ in 0..20_000 {
            let compacted = compact(&dir, 0, keys * 64, &policy()).logs;
            passes += compacted;
            dir.reclaim().unwrap();
            if records(&log).len() == 10 {
                break;
            }
            // A seal takes its time.
            if compacted == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        assert!(passes > 1, "{keys} keys");
        let offsets: Vec<i64> = records(&log).into_iter().map(|(offset, ..)| offset).collect();
        assert_eq!(offsets, (290..300).collect::<Vec<_>>(), "{keys} keys");
    }
}

#[test]
fn what_came_later_supersedes_what_was_compacted() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let mut dir = filled(&disk, &config);
    compact(&dir, 0, KEYS_BYTES, &policy());
    for round in 0..3 {
        let log = dir.log(&tp(0)).unwrap();
        for key in 0..5 {
            put(&log, &format!("k{key}"), Some(&format!("round {round}")));
        }
        put(&log, "k9", None);
        drop(log);
        dir = seal(&disk, dir, &config);
        assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy()).logs, 1, "round {round}");
        dir.reclaim().unwrap();
    }
    let log = dir.log(&tp(0)).unwrap();
    let values: Vec<_> = last_values(&log).into_values().collect();
    let old = |value: i64| Some(format!("value {value}"));
    let new = || Some("round 2".to_owned());
    assert_eq!(values, [new(), new(), new(), new(), new(), old(295), old(296), old(297), old(298), None]);
    assert_eq!(records(&log).len(), 10);
}

#[test]
fn a_tombstone_goes_when_its_time_is_over_and_the_last_batch_stays() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    put(&log, "a", Some("value"));
    put(&log, "a", None);
    drop(log);
    let dir = seal(&disk, dir, &config);
    compact(&dir, 0, KEYS_BYTES, &policy());
    let log = dir.log(&tp(0)).unwrap();
    assert_eq!(records(&log), [(1, "a".to_owned(), None)]);
    put(&log, "b", None);
    drop(log);
    let dir = seal(&disk, dir, &config);
    // The first has its mark, and its time was none; the second gets one.
    compact(&dir, 0, KEYS_BYTES, &policy());
    let log = dir.log(&tp(0)).unwrap();
    assert_eq!(records(&log), [(2, "b".to_owned(), None)]);
    assert_eq!(read(&log, 0, usize::MAX).offsets, Some((Offset(2), Offset(3))));
}

#[test]
fn only_what_is_due_is_compacted() {
    let disk = FaultyDisk::new(1);
    let dir = filled(&disk, &small_segments());
    let not_due = [
        CompactionPolicy { min_cleanable_dirty_ratio: 1.0, ..policy() },
        CompactionPolicy { min_compaction_lag_ms: 1, ..policy() },
        CompactionPolicy { upper_bound: Offset(0), ..policy() },
    ];
    for policy in not_due {
        assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy), Compacted::default(), "{policy:?}");
    }
    // Below a bound in the middle, records go; from there on all stay.
    let bounded = CompactionPolicy { upper_bound: Offset(105), ..policy() };
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &bounded).logs, 1);
    let log = dir.log(&tp(0)).unwrap();
    let offsets: Vec<i64> = records(&log).into_iter().map(|(offset, ..)| offset).collect();
    assert_eq!(offsets, (95..300).collect::<Vec<_>>());
}

/// What lies beyond the bound was taken for compacted, as it is in a compacted segment, too: its keys never
/// superseded anything, and once their tombstones were gone, what they had deleted was back.
#[test]
fn what_was_only_copied_is_compacted_later() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let mut dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    put(&log, "deleted", Some("value"));
    put(&log, "other", Some("value"));
    put(&log, "deleted", None);
    drop(log);
    dir = seal(&disk, dir, &config);
    let bounded = CompactionPolicy { upper_bound: Offset(2), min_cleanable_dirty_ratio: 0.0, ..policy() };
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &bounded).logs, 1);
    for restart in [false, true, true] {
        if restart {
            disk.restart();
            drop(dir);
            dir = open(&disk, &config).unwrap();
        }
        compact(&dir, 0, KEYS_BYTES, &policy());
        dir.reclaim().unwrap();
        let log = dir.log(&tp(0)).unwrap();
        let keys: Vec<_> = records(&log).into_iter().map(|(offset, key, _)| (offset, key)).collect();
        let found: Vec<_> =
            keys.iter().filter(|(_, key)| key == "deleted").map(|(offset, _)| *offset).collect();
        assert!(found.is_empty() || found == [2], "{keys:?}");
        put(&log, "other", Some("again"));
        drop(log);
        dir = seal(&disk, dir, &config);
    }
}

/// The number of a compacted segment that was removed was given to the next one, which a restart then took for
/// removed.
#[test]
fn a_number_that_is_given_twice_is_the_second_ones() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { tail_cache_bytes: 0, ..small_segments() };
    let dir = open(&disk, &config).unwrap();
    for partition in 0..2 {
        let log = dir.create_log(tp(partition)).unwrap();
        for value in 0..20 {
            put(&log, "key", Some(&value.to_string()));
        }
    }
    let dir = seal(&disk, dir, &config);
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy()).logs, 1);
    dir.delete_log(&tp(0)).unwrap();
    for _ in 0..3 {
        dir.reclaim().unwrap();
    }
    assert_eq!(compact(&dir, 1, KEYS_BYTES, &policy()).logs, 1);
    for _ in 0..3 {
        dir.reclaim().unwrap();
    }
    let expected = [(19, "key".to_owned(), Some("19".to_owned()))];
    assert_eq!(records(&dir.log(&tp(1)).unwrap()), expected);
    disk.restart();
    drop(dir);
    let dir = open(&disk, &config).unwrap();
    assert_eq!(records(&dir.log(&tp(1)).unwrap()), expected);
}

#[test]
fn a_log_larger_than_a_segment_takes_several() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { tail_cache_bytes: 0, ..small_segments() };
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    for value in 0..200 {
        put(
            &log,
            &format!("key {value}"),
            Some(&"incompressible".repeat(1 + value % 3).chars().rev().collect::<String>()),
        );
        put(&log, "again", Some("and again"));
        dir.flush().unwrap();
    }
    drop(log);
    let config = LogDirConfig { segment_bytes: 5_000, ..config };
    let dir = seal(&disk, dir, &config);
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy()).logs, 1);
    let log = dir.log(&tp(0)).unwrap();
    assert!(log.inner().spans.len() > 3);
    assert!(log.inner().spans.iter().all(|span| span.segment.kind() == SegmentKind::Compacted));
    let check = |log: &Log| {
        let found = records(log);
        assert_eq!(found.len(), 201);
        assert!(found.is_sorted(), "offsets ascend");
    };
    check(&log);
    drop(log);
    disk.restart();
    drop(dir);
    check(&open(&disk, &config).unwrap().log(&tp(0)).unwrap());
}

/// Appends, seals, compacts, reclaims and loses power at random, and holds the last value of each key against a
/// model; every value that was flushed is there, or a later one of its key.
#[test]
fn no_crash_loses_the_last_value_of_a_key() {
    let compactions: usize = (0..40).map(crash_run).sum();
    assert!(compactions > 40, "{compactions} compactions are too few to show anything");
}

/// Answers how many compactions there were.
fn crash_run(seed: u64) -> usize {
    let mut random = SeededRandom::new(seed);
    let disk = FaultyDisk::new(seed);
    let config = LogDirConfig { tail_cache_bytes: 2_000, segment_bytes: 6_000, ..small_segments() };
    let mut flushed: BTreeMap<String, u64> = BTreeMap::new();
    let (mut next, mut compactions) = (0, 0);
    for life in 0..5 {
        let Ok(dir) = open(&disk, &config) else { panic!("seed {seed}, life {life}: it can't be opened") };
        let logs = [0, 1].map(|partition| {
            dir.log(&tp(partition)).unwrap_or_else(|| dir.create_log(tp(partition)).unwrap())
        });
        // Each key is of one log.
        let found: BTreeMap<_, _> = logs.iter().flat_map(|log| last_values(log)).collect();
        for (key, value) in &flushed {
            let at = found.get(key).unwrap_or_else(|| panic!("seed {seed}, life {life}: {key} is lost"));
            let at: u64 = at.as_ref().unwrap().parse().unwrap();
            assert!(at >= *value, "seed {seed}, life {life}: {key} went back to {at} from {value}");
        }
        disk.set_faults(Faults { crash_after: Some(20 + random.below(400)), ..Faults::default() });
        let mut pending = BTreeMap::new();
        for _ in 0..400 {
            match random.below(20) {
                0 => {
                    let policy = CompactionPolicy { segment_bytes: 500, ..policy() };
                    // One log or the other, so that their segments come and go at different times.
                    let wanted = tp(random.below(2) as i32);
                    let policy = |log: &Log| (log.topic_id_partition() == wanted).then(|| policy.clone());
                    let compacted = dir.compact(NOW, KEYS_BYTES, policy, &|| false);
                    compactions += compacted.map_or(0, |compacted| compacted.logs);
                }
                1 => drop(dir.reclaim()),
                2..5 => {
                    if dir.flush().is_err() {
                        break;
                    }
                    flushed.append(&mut pending);
                }
                _ => {
                    let number = random.below(8);
                    let (key, log) = (format!("k{number}"), &logs[number as usize % 2]);
                    let mut builder = BatchBuilder::new(10_000);
                    builder.append(NOW, Some(key.as_bytes()), Some(next.to_string().as_bytes()), []).unwrap();
                    let batch = Bytes::from(builder.finish().unwrap());
                    let meta = batch_meta(&batch, log.next_offset(), LeaderEpoch(3));
                    if log.append(batch, vec![meta]).is_err() {
                        break;
                    }
                    pending.insert(key, next);
                    next += 1;
                }
            }
        }
        drop((logs, dir));
        disk.restart();
    }
    compactions
}
