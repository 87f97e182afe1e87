//! Disks that fail while they are used, and files that were damaged.

use super::*;
use crate::log::disk::Disk;
use crate::log::testing::Faults;

#[test]
fn a_failed_sync_fences_the_log_dir() {
    check_fenced(Faults { fail_syncs_after: Some(0), ..Faults::default() });
}

#[test]
fn a_full_disk_fences_the_log_dir() {
    check_fenced(Faults { capacity_bytes: Some(1), ..Faults::default() });
}

/// A full disk used to fence the log dir, and a fenced log dir can give nothing back.
#[test]
fn appends_are_refused_before_the_disk_is_full() {
    let disk = FaultyDisk::new(5);
    let dir = open(&disk, &small_segments()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let append_some = || -> Result<i64, AppendError> {
        for _ in 0..200 {
            append_at(&log, 1, 1_000, None, 0)?;
            dir.flush().unwrap();
        }
        Ok(log.log_end_offset().0)
    };
    append_some().unwrap();
    let used: u64 = disk.list(&dir_path()).unwrap().iter().map(|name| size(&disk, name)).sum();
    // The last eighth is kept.
    let capacity_bytes = Some((used + (16 << 20)) * 8 / 7);
    disk.set_faults(Faults { capacity_bytes, ..Faults::default() });
    let refused = (0..200).find_map(|_| append_some().err()).unwrap();
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    let end = log.log_end_offset();
    assert!(dir.failure().is_none());

    // Log starts move and segments go, all the same.
    log.advance_log_start_offset(end).unwrap();
    dir.flush().unwrap();
    assert!(dir.reclaim().unwrap().removed_segments > 5);
    append(&log, 1, 10, None);
    dir.flush().unwrap();
    assert_eq!(log.log_end_offset(), end.plus(1));
}

fn size(disk: &FaultyDisk, name: &str) -> u64 {
    disk.file_bytes(&dir_path().join(name)).unwrap()
}

#[test]
fn a_dead_disk_fences_the_log_dir() {
    check_fenced(Faults { crash_after: Some(0), ..Faults::default() });
}

/// After any failure nothing is acknowledged, nothing is accepted, and what was flushed before can
/// be read; the next open has it all.
fn check_fenced(faults: Faults) {
    let disk = FaultyDisk::new(5);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let told = Arc::new(Told::default());
    log.set_listener(told.clone());
    let flushed = append(&log, 1, 100, None);
    dir.flush().unwrap();

    disk.set_faults(faults);
    // More than the file holds, so that it must grow.
    for _ in 0..8 {
        let _ = append_at(&log, 1, 1_000_000, None, 0);
    }
    dir.flush().unwrap_err();
    assert!(told.failed.lock().unwrap().is_some());
    assert_eq!(*told.flushed.lock().unwrap(), Some(Offset(1)));
    assert_eq!(log.log_end_offset(), Offset(1));
    assert!(matches!(append_at(&log, 1, 1, None, 0), Err(AppendError::Fenced(_))));
    assert!(dir.failure().is_some());
    let bounded = log.read_cached(&request(0, usize::MAX)).unwrap().unwrap();
    assert_eq!(bounded.data.concat(), flushed);
    dir.close().unwrap_err();

    disk.restart();
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.log(&tp(0)).unwrap();
    assert_eq!(&read_all(&log, usize::MAX)[..flushed.len()], &flushed);
    append(&log, 1, 10, None);
    dir.close().unwrap();
}

struct Panics;

impl LogListener for Panics {
    fn flushed(&self, _: Offset) {
        panic!("a listener's own bug");
    }

    fn failed(&self, _: &Arc<StorageError>) {}
}

#[test]
fn nobody_waits_for_a_writer_that_panicked() {
    let disk = FaultyDisk::new(5);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    log.set_listener(Arc::new(Panics));
    append(&log, 1, 100, None);
    dir.flush().unwrap_err();
    assert!(matches!(append_at(&log, 1, 1, None, 0), Err(AppendError::Fenced(_))));
    dir.close().unwrap_err();
}

#[test]
fn a_damaged_tail_is_named() {
    let disk = FaultyDisk::new(5);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    append(&log, 1, 10_000, None);
    dir.close().unwrap();
    let path = dir_path().join("0000000001.redb");
    let contents = disk.contents(&path).unwrap();
    let payload: Vec<u8> = (100..200).collect();
    let at = contents.windows(payload.len()).position(|window| window == payload).unwrap();
    disk.flip_bit(&path, at, 0);
    let error = open(&disk, &LogDirConfig::default()).err().unwrap();
    assert!(matches!(error, OpenError::DamagedBatch { offset: Offset(0), .. }), "{error}");
    assert!(error.to_string().contains("0000000001.redb"));
}

/// redb panics on some damage, and answers an error to other: either way the open fails with an
/// error that names the file, or the damage lay in free pages.
#[test]
fn any_damage_of_the_file_is_an_error_or_harmless() {
    let path = dir_path().join("0000000001.redb");
    let mut errors = 0;
    for seed in 0..60 {
        let disk = FaultyDisk::new(seed);
        let dir = open(&disk, &LogDirConfig::default()).unwrap();
        let log = dir.create_log(tp(0)).unwrap();
        let expected: Vec<Bytes> = (0..20).map(|_| append(&log, 1, 3_000, None)).collect();
        dir.close().unwrap();
        let mut random = super::super::testing::SeededRandom::new(seed);
        let used = disk.contents(&path).unwrap().len() as u64;
        // Past the first page, whose damage redb mends from its second copy.
        for _ in 0..20 {
            disk.flip_bit(&path, (random.below(used / 8)) as usize, random.below(8) as u8);
        }
        match open(&disk, &LogDirConfig::default()) {
            Ok(dir) => {
                let log = dir.log(&tp(0));
                let found = log.map(|log| log.read_blocking(&request(0, usize::MAX)));
                if let Some(Ok(outcome)) = found {
                    assert!(outcome.bytes <= expected.concat().len());
                }
            }
            Err(error) => {
                errors += 1;
                let mut chain = String::new();
                let mut cause: Option<&dyn std::error::Error> = Some(&error);
                while let Some(error) = cause {
                    chain += &format!("{error}: ");
                    cause = error.source();
                }
                assert!(chain.contains("0000000001.redb"), "{chain}");
            }
        }
    }
    assert!(errors > 10, "only {errors} of 60 damaged files were refused");
}

#[test]
fn a_newer_format_is_refused() {
    use crate::log::disk::{Access, Disk};
    use crate::log::schema::{SEGMENT, SEGMENT_HEADER};
    use crate::log::segment::open_writable;
    let disk = FaultyDisk::new(5);
    open(&disk, &LogDirConfig::default()).unwrap().close().unwrap();
    let path = dir_path().join("0000000001.redb");
    let database = open_writable(&disk, &path, Access::Write).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut rows = transaction.open_table(SEGMENT).unwrap();
        // Of a header of the future, only the version is known to be where it is.
        rows.insert(SEGMENT_HEADER, [9u8, 77, 0, 1, 2, 3].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let error = open(&disk, &LogDirConfig::default()).err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { found: 77, .. }), "{error}");
    assert_eq!(disk.list(&dir_path()).unwrap(), ["0000000001.redb"]);
}

#[test]
fn files_of_others_are_left_alone() {
    let disk = FaultyDisk::new(5);
    open(&disk, &LogDirConfig::default()).unwrap().close().unwrap();
    use crate::log::disk::{Access, Disk};
    disk.open(&dir_path().join("notes.txt"), Access::Create).unwrap();
    disk.open(&dir_path().join("0000000009.redb.tmp"), Access::Create).unwrap();
    open(&disk, &LogDirConfig::default()).unwrap().close().unwrap();
    assert_eq!(disk.list(&dir_path()).unwrap(), ["0000000001.redb", "notes.txt"]);
}

#[test]
fn the_queue_has_a_limit() {
    let disk = FaultyDisk::new(5);
    let config = LogDirConfig { queue_bytes_max: 1_000, ..LogDirConfig::default() };
    let dir = open(&disk, &config).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    assert!(matches!(append_at(&log, 1, 2_000, None, 0), Err(AppendError::QueueFull { .. })));
    assert_eq!(log.next_offset(), Offset(0), "what was refused took no offset");
    append(&log, 1, 100, None);
    dir.close().unwrap();
}
