//! Finding what a disk lost.

use super::*;
use crate::log::scrub::{Scrub, Scrubbed};

/// Scrubs to the end, in steps.
fn scrub_all(dir: &LogDir, step_bytes: u64) -> Scrubbed {
    let mut pass = Scrub::default();
    let mut all = Scrubbed::default();
    while !all.is_done {
        let step = dir.scrub(&mut pass, step_bytes);
        assert!(step.is_done || step.bytes >= step_bytes, "a step gets on");
        all.batches += step.batches;
        all.bytes += step.bytes;
        all.damaged += step.damaged;
        all.is_done = step.is_done;
    }
    all
}

/// A log of 60 batches over several segments, all but the last of them sealed; and those batches.
fn sealed(disk: &FaultyDisk) -> (LogDir, Arc<Log>, Vec<Bytes>) {
    let dir = open(disk, &small_segments()).unwrap();
    let log = dir.create_log(tp(0)).unwrap();
    let batches = (0..60).map(|_| append(&log, 1, 1_000, None)).inspect(|_| dir.flush().unwrap()).collect();
    drop(log);
    dir.close().unwrap();
    let dir = open(disk, &small_segments()).unwrap();
    let log = dir.log(&tp(0)).unwrap();
    (dir, log, batches)
}

/// Where the first and the last segment end and begin: a batch has one offset. How many batches a segment takes
/// depends on how quickly the one before is sealed.
fn bounds(log: &Log) -> (i64, i64) {
    let inner = log.inner();
    (inner.spans[0].end_offset, inner.spans.last().unwrap().first_offset)
}

/// Flips a bit in the middle of a batch, where it lies on disk.
fn damage(disk: &FaultyDisk, file: &str, batch: &Bytes) {
    let path = dir_path().join(file);
    let contents = disk.contents(&path).unwrap();
    // The header tells one batch from another: offset, epoch, checksum.
    let at = contents.windows(21).position(|window| window == &batch[..21]).unwrap();
    disk.flip_bit(&path, at + 500, 3);
}

#[test]
fn every_batch_of_the_sealed_segments_is_checked() {
    let disk = FaultyDisk::new(1);
    let (dir, log, batches) = sealed(&disk);
    let (_, sealed) = bounds(&log);
    let bytes = batches[..sealed as usize].iter().map(|batch| batch.len() as u64).sum();
    for step_bytes in [1, 5_000, u64::MAX] {
        let scrubbed = scrub_all(&dir, step_bytes);
        assert_eq!(scrubbed, Scrubbed { batches: sealed as u64, bytes, damaged: 0, is_done: true });
    }
}

#[test]
fn damage_is_found_where_it_can_still_be_read() {
    let disk = FaultyDisk::new(1);
    let (dir, log, batches) = sealed(&disk);
    let (first_end, _) = bounds(&log);
    damage(&disk, "0000000001.redb", &batches[3]);
    damage(&disk, "0000000065.redb", &batches[first_end as usize]);
    assert_eq!(scrub_all(&dir, 5_000).damaged, 2);
    log.advance_log_start_offset(Offset(10)).unwrap();
    dir.flush().unwrap();
    assert_eq!(scrub_all(&dir, 5_000).damaged, 1);
    dir.delete_log(&tp(0)).unwrap();
    dir.flush().unwrap();
    assert_eq!(scrub_all(&dir, 5_000).damaged, 0);
}

#[test]
fn a_segment_that_goes_away_meanwhile_is_passed_over() {
    let disk = FaultyDisk::new(1);
    let (dir, log, _) = sealed(&disk);
    let (first_end, sealed) = bounds(&log);
    let mut pass = Scrub::default();
    assert_eq!(dir.scrub(&mut pass, 5_000).batches, 5);
    log.advance_log_start_offset(Offset(first_end)).unwrap();
    dir.flush().unwrap();
    assert_eq!(dir.reclaim().unwrap().removed_segments, 1);
    let rest = dir.scrub(&mut pass, u64::MAX);
    assert_eq!((rest.batches, rest.damaged, rest.is_done), ((sealed - first_end) as u64, 0, true));
}
