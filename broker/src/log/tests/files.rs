//! The same on the operating system's files.

use super::*;
use crate::clock::SystemClock;
use crate::log::disk::{Disk, FileDisk};
use crate::log::inspect::{inspect, verify};

fn context() -> LogDirContext {
    LogDirContext { clock: SystemClock::shared(), disk: Arc::new(FileDisk), metrics: Arc::new(NoMetrics) }
}

#[test]
fn a_directory_holds_logs() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("some/logs");
    let dir = LogDir::open(&path, small_segments(), context()).unwrap();
    let locked = LogDir::open(&path, small_segments(), context());
    assert!(matches!(locked.err(), Some(OpenError::Locked { .. })));
    let log = dir.create_log(tp(0)).unwrap();
    let mut batches = Vec::new();
    for _ in 0..100 {
        batches.push(append(&log, 1, 900, None));
        dir.flush().unwrap();
    }
    drop(log);
    dir.close().unwrap();

    let dir = LogDir::open(&path, small_segments(), context()).unwrap();
    let log = dir.log(&tp(0)).unwrap();
    log.advance_log_start_offset(Offset(50)).unwrap();
    dir.flush().unwrap();
    assert!(dir.reclaim().unwrap().removed_segments > 0);
    dir.close().unwrap();

    let disk: Arc<dyn Disk> = Arc::new(FileDisk);
    assert_eq!(verify(&path, &disk, SystemClock::shared()).unwrap().findings, []);
    let reports = inspect(&path, &disk).unwrap();
    assert_eq!(reports.last().unwrap().logs[0].end_offset, Offset(100));

    let dir = LogDir::open(&path, small_segments(), context()).unwrap();
    assert_eq!(read_all(&dir.log(&tp(0)).unwrap(), 4_000), batches[50..].concat());
}

#[test]
fn a_path_that_is_a_file_is_one_clear_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = LogDir::open(file.path(), small_segments(), context()).err().unwrap();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
}
