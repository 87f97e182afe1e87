//! What compaction must get over: damage, full disks, strange batches, and whoever changes a log meanwhile.

use std::cell::Cell;

use super::*;
use crate::log::compaction::CompactionPolicy;

/// Appends a batch that the caller has made.
fn append(log: &Arc<Log>, bytes: Vec<u8>) {
    let batch = Bytes::from(bytes);
    let meta = batch_meta(&batch, log.next_offset(), LeaderEpoch(3));
    log.append(batch, vec![meta]).unwrap();
}

fn batch(timestamp: i64, key: &str, value: Option<&str>, compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(10_000).compression(compression);
    builder.append(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), []).unwrap();
    builder.finish().unwrap()
}

/// A log dir with partitions 0 to `count`, of two values of a key each, sealed.
fn pairs(disk: &FaultyDisk, config: &LogDirConfig, count: i32) -> LogDir {
    let dir = open(disk, config).unwrap();
    for partition in 0..count {
        let log = dir.create_log(tp(partition)).unwrap();
        put(&log, "key", Some("old"));
        put(&log, "key", Some("new"));
    }
    seal(disk, dir, config)
}

fn compact_all(dir: &LogDir, stop: &dyn Fn() -> bool) -> Result<Compacted, Arc<StorageError>> {
    dir.compact(NOW, KEYS_BYTES, |_| Some(policy()), stop)
}

/// Symptom: a batch that the disk had damaged became a sound batch of wrong records, which nothing could find any more; and
/// while it was found, no other log of the log dir was compacted. Cause: what was read was not held against its checksum,
/// and one error ended the whole run, again and again. Fix: it is checked, and a log that can't be read is left alone.
#[test]
fn a_damaged_batch_is_not_blessed_and_blocks_no_other_log() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { tail_cache_bytes: 0, block_cache_bytes: 0, ..small_segments() };
    let dir = pairs(&disk, &config, 2);
    let segment = dir.log(&tp(0)).unwrap().inner().spans[0].segment.path.clone();
    drop(dir);
    // The value of the last record of partition 0; where it lies in the file is known by its bytes.
    let bytes = disk.contents(&segment).unwrap();
    let at = bytes.windows(3).position(|window| window == b"new").expect("values are not compressed away");
    disk.flip_bit(&segment, at, 0);
    let dir = open(&disk, &config).unwrap();
    let error = compact_all(&dir, &|| false).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert_eq!(compact_all(&dir, &|| false).unwrap().logs, 1);
    assert_eq!(records(&dir.log(&tp(1)).unwrap()).len(), 1);
    let damaged = read_all(&dir.log(&tp(0)).unwrap(), 10_000);
    let intact = RecordBatch::batches(&damaged).filter(|batch| batch.as_ref().unwrap().verify_crc().is_ok());
    assert_eq!(
        (RecordBatch::batches(&damaged).count(), intact.count()),
        (2, 1),
        "the damage is still to be seen"
    );
}

/// Symptom: compaction filled the disk, and the log dir failed. Cause: room was looked for once, at its beginning. Fix: now
/// and then; without it the run ends, and the log dir goes on.
#[test]
fn a_disk_that_fills_during_compaction_fails_nothing() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { tail_cache_bytes: 0, segment_bytes: 64 << 20, ..small_segments() };
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let value = "v".repeat(1 << 20);
    for key in 0..12 {
        let mut builder = BatchBuilder::new(2 << 20);
        builder.append(NOW, Some(format!("k{key}").as_bytes()), Some(value.as_bytes()), []).unwrap();
        append(&log, builder.finish().unwrap());
        dir.flush().unwrap();
    }
    drop(log);
    let dir = seal(&disk, dir, &config);
    let steps = Cell::new(0);
    let fill = || {
        steps.set(steps.get() + 1);
        // The keys have been read, and some of the batches are written.
        if steps.get() == 14 {
            disk.set_faults(Faults {
                capacity_bytes: Some(disk.used_bytes() + (8 << 20)),
                ..Faults::default()
            });
        }
        false
    };
    let error = compact_all(&dir, &fill).unwrap_err().to_string();
    assert!(error.contains("the disk is nearly full"), "{error}");
    assert_eq!(compact_all(&dir, &|| false).unwrap().logs, 0, "there is no room for it at all");
    disk.set_faults(Faults::default());
    assert_eq!(compact_all(&dir, &|| false).unwrap().logs, 1, "the log is not to blame");
    put(&dir.log(&tp(0)).unwrap(), "key", Some("newer"));
    dir.flush().expect("the log dir has not failed");
}

/// Symptom: one empty batch stayed for ever for each producer that had come and gone. Cause: a batch without records is
/// what it was before, and so it was kept. Fix: it goes when it isn't needed.
#[test]
fn an_empty_batch_goes_when_it_is_no_longer_the_last() {
    for compression in Compression::ALL {
        let disk = FaultyDisk::new(1);
        let config = small_segments();
        let dir = open(&disk, &config).unwrap();
        let log = dir.create_log(tp(0)).unwrap();
        append(&log, batch(NOW, "key", None, compression));
        drop(log);
        let mut dir = seal(&disk, dir, &config);
        // The tombstone gets its mark, and goes the next time: its batch is the last, and stays without it.
        for value in ["a", "b", "c"] {
            compact(&dir, 0, KEYS_BYTES, &policy());
            put(&dir.log(&tp(0)).unwrap(), "other", Some(value));
            dir = seal(&disk, dir, &config);
        }
        compact(&dir, 0, KEYS_BYTES, &policy());
        let bytes = read_all(&dir.log(&tp(0)).unwrap(), 10_000);
        assert_eq!(RecordBatch::batches(&bytes).count(), 1, "{compression}");
    }
}

/// Symptom: with `compact,delete`, records without a time were gone as soon as they were compacted. Cause: the batch was
/// written anew with their time, which is none, in the place of the time of its append. Fix: that one is kept.
#[test]
fn records_without_a_time_outlive_compaction() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    for value in ["old", "new"] {
        let mut builder = BatchBuilder::new(10_000);
        for key in ["same", value] {
            builder.append(-1, Some(key.as_bytes()), Some(b"value"), []).unwrap();
        }
        let batch = Bytes::from(builder.finish().unwrap());
        let meta = batch_meta(&batch, log.next_offset(), LeaderEpoch(3));
        log.append(batch, vec![crate::log::batch::BatchMeta { max_timestamp: NOW, ..meta }]).unwrap();
    }
    drop(log);
    let dir = seal(&disk, dir, &config);
    let policy = CompactionPolicy { retention_ms: Some(1000), ..policy() };
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy).logs, 1);
    let log = dir.log(&tp(0)).unwrap();
    assert_eq!(records(&log).len(), 3);
    assert!(log.inner().spans.iter().all(|span| span.max_timestamp == NOW));
}

/// Whatever is older than its topic keeps records goes, wherever in the log it lies.
#[test]
fn what_has_expired_goes_with_what_is_superseded() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    for (age_ms, key) in [(0, "a"), (5000, "b"), (0, "c"), (5000, "d"), (0, "e")] {
        append(&log, batch(NOW - age_ms, key, Some("value"), Compression::None));
    }
    drop(log);
    let dir = seal(&disk, dir, &config);
    let policy = CompactionPolicy { retention_ms: Some(1000), ..policy() };
    compact(&dir, 0, KEYS_BYTES, &policy);
    let keys: Vec<_> = records(&dir.log(&tp(0)).unwrap()).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["a", "c", "e"]);
}

/// Symptom: compaction panicked, and no partition was compacted any more; or records went that nothing superseded. Cause: a
/// compressed batch of a topic that was not always compacted was never opened before, and its offsets were believed. Fix:
/// what does not add up stays as it is, and counts for nothing.
#[test]
fn a_malformed_compressed_batch_stays_whole() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let crafted = |deltas: &[i32], last_offset_delta: i32, count: i32| {
        let mut builder = BatchBuilder::new(10_000).last_offset_delta(100);
        for delta in deltas {
            let body = millstream_record::RecordBody::parse(&[6, b'k', b'e', b'y', 1, 0]).unwrap();
            builder.append_body_at(*delta, NOW, body).unwrap();
        }
        let mut bytes = builder.finish().unwrap();
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = millstream_record::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    // Behind the batch's end; more and fewer than it says; the honest one is last.
    let odd = [crafted(&[0, 5], 1, 2), crafted(&[0, 1], 1, 3), crafted(&[0, 1], 1, 1)];
    for bytes in &odd {
        append(&log, bytes.clone());
    }
    put(&log, "key", Some("before"));
    put(&log, "key", Some("last"));
    drop(log);
    let dir = seal(&disk, dir, &config);
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &policy()).logs, 1);
    let bytes = read_all(&dir.log(&tp(0)).unwrap(), 10_000);
    let batches: Vec<_> = RecordBatch::batches(&bytes).map(Result::unwrap).collect();
    assert_eq!(batches.len(), odd.len() + 1);
    for (found, odd) in batches.iter().zip(&odd) {
        let odd = RecordBatch::new(odd).unwrap();
        assert_eq!(found.records_section(), odd.records_section());
    }
}

#[test]
fn a_quiet_log_is_sealed_when_its_lag_is_over_and_no_time_is_believed_blindly() {
    let config = small_segments();
    // Written long ago, just now, and in the future; a node that starts again knows nothing else.
    for (time, segment_ms, max_compaction_lag_ms, is_sealed) in [
        (NOW - 5000, 1000, i64::MAX, true),
        (NOW - 5000, i64::MAX, 1000, true),
        (NOW - 500, 1000, i64::MAX, false),
        (NOW + 5000, 1000, i64::MAX, true),
    ] {
        let disk = FaultyDisk::new(1);
        let dir = open(&disk, &config).unwrap();
        let log = dir.create_log(tp(0)).unwrap();
        append(&log, batch(time, "key", Some("value"), Compression::None));
        drop(log);
        dir.close().unwrap();
        drop(dir);
        let dir = open(&disk, &config).unwrap();
        let before = dir.shared().segments().len();
        let policy = CompactionPolicy {
            segment_ms,
            max_compaction_lag_ms,
            min_cleanable_dirty_ratio: 2.0,
            ..policy()
        };
        dir.compact(NOW, KEYS_BYTES, |_| Some(policy.clone()), &|| false).unwrap();
        dir.close().unwrap();
        drop(dir);
        let dir = open(&disk, &config).unwrap();
        assert_eq!(dir.shared().segments().len() > before, is_sealed, "{time} {segment_ms}");
        dir.close().unwrap();
    }
}

#[test]
fn a_record_waits_for_its_lag_at_most_and_without_one_for_nothing() {
    let disk = FaultyDisk::new(1);
    let config = small_segments();
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    append(&log, batch(NOW - 5000, "key", Some("old"), Compression::None));
    // Years ahead, as when a client writes microseconds.
    append(&log, batch(NOW * 1000, "key", Some("new"), Compression::None));
    drop(log);
    let dir = seal(&disk, dir, &config);
    let never = CompactionPolicy { min_cleanable_dirty_ratio: 2.0, ..policy() };
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &never).logs, 0);
    let lag = CompactionPolicy { max_compaction_lag_ms: 10_000, ..never.clone() };
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &lag).logs, 0);
    let lag = CompactionPolicy { max_compaction_lag_ms: 1000, ..never };
    assert_eq!(compact(&dir, 0, KEYS_BYTES, &lag).logs, 1);
    assert_eq!(records(&dir.log(&tp(0)).unwrap()).len(), 1);
}

/// In the middle of a run the log start moves, another log is deleted, and both are appended to.
#[test]
fn logs_change_while_compaction_runs() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig { tail_cache_bytes: 0, ..small_segments() };
    let dir = pairs(&disk, &config, 3);
    let steps = Cell::new(0);
    let meddle = || {
        steps.set(steps.get() + 1);
        if steps.get() == 3 {
            dir.log(&tp(0)).unwrap().advance_log_start_offset(Offset(2)).unwrap();
            put(&dir.log(&tp(0)).unwrap(), "key", Some("newest"));
            put(&dir.log(&tp(2)).unwrap(), "key", Some("newest"));
            dir.delete_log(&tp(1)).unwrap();
            dir.flush().unwrap();
        }
        false
    };
    assert!(compact_all(&dir, &meddle).unwrap().logs > 0);
    assert!(steps.get() > 3, "it was meddled with in the middle");
    let check = |dir: &LogDir| {
        let newest = |offset| (offset, "key".to_owned(), Some("newest".to_owned()));
        assert_eq!(records(&dir.log(&tp(0)).unwrap()), [newest(2)]);
        assert_eq!(dir.log(&tp(0)).unwrap().log_start_offset(), Offset(2));
        assert!(dir.log(&tp(1)).is_none());
        assert_eq!(records(&dir.log(&tp(2)).unwrap()).last(), Some(&newest(2)));
    };
    check(&dir);
    dir.reclaim().unwrap();
    check(&dir);
    disk.restart();
    drop(dir);
    check(&open(&disk, &config).unwrap());
}
