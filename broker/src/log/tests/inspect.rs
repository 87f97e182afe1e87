//! Looking at a log dir without changing it.

use super::*;
use crate::log::disk::Disk;
use crate::log::inspect::{inspect, verify};

/// The contents of every file.
fn snapshot(disk: &FaultyDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(&dir_path()).unwrap();
    names.into_iter().map(|name| (name.clone(), disk.contents(&dir_path().join(name)).unwrap())).collect()
}

/// A log dir with several segments that a crash left open.
fn crashed() -> (FaultyDisk, Vec<Vec<u8>>) {
    let disk = FaultyDisk::new(11);
    let dir = open(&disk, &small_segments()).unwrap();
    let logs: Vec<_> = (0..2).map(|partition| dir.create_log(tp(partition)).unwrap()).collect();
    let mut written = vec![Vec::new(); 2];
    for round in 0..40 {
        for (log, written) in logs.iter().zip(&mut written) {
            written.extend_from_slice(&append_at(log, 2, 1_000, None, round).unwrap());
        }
        dir.flush().unwrap();
    }
    disk.restart();
    (disk, written)
}

fn shared(disk: &FaultyDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

#[test]
fn a_sound_log_dir_has_no_findings_and_stays_as_it_is() {
    let (disk, written) = crashed();
    let before = snapshot(&disk);
    let reports = inspect(&dir_path(), &shared(&disk)).unwrap();
    let verification = verify(&dir_path(), &shared(&disk), Arc::new(ManualClock::default())).unwrap();
    assert_eq!(snapshot(&disk), before);

    assert_eq!(verification.findings, []);
    assert_eq!(verification.segments, reports.len());
    assert_eq!(verification.batches, 2 * 80, "each by its entry, and by its log");
    assert!(reports.len() >= 4);
    assert!(!reports.last().unwrap().is_sealed);
    for partition in 0..2 {
        let logs = reports.iter().flat_map(|report| &report.logs);
        let logs: Vec<_> = logs.filter(|log| log.partition == Some(tp(partition))).collect();
        let bytes: u64 = logs.iter().map(|log| log.bytes).sum();
        assert_eq!(bytes, written[partition as usize].len() as u64);
        assert!(logs.windows(2).all(|pair| pair[0].end_offset == pair[1].first_offset));
    }
    assert!(reports.windows(2).all(|pair| pair[0].commits.1 == pair[1].commits.0));
}

#[test]
fn damage_is_found_and_named() {
    let (disk, written) = crashed();
    drop(open(&disk, &small_segments()).unwrap());
    let path = dir_path().join("0000000001.redb");
    let contents = disk.contents(&path).unwrap();
    let needle = &written[0][200..300];
    let at = contents.windows(needle.len()).position(|window| window == needle).unwrap();
    disk.flip_bit(&path, at, 3);
    let verification = verify(&dir_path(), &shared(&disk), Arc::new(ManualClock::default())).unwrap();
    let found: Vec<String> = verification.findings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    // The same bytes are in several batches, and where each lies depends on the commits.
    assert!(found[0].contains("0000000001.redb: log "), "{found:?}");
    assert!(found.iter().all(|what| what.ends_with("is damaged")), "{found:?}");
    assert!(found[1].contains(&tp(0).topic_id.to_string()), "{found:?}");
}

#[test]
fn a_lost_segment_is_a_finding() {
    let (disk, _) = crashed();
    drop(open(&disk, &small_segments()).unwrap());
    disk.remove(&dir_path().join("0000000065.redb")).unwrap();
    let verification = verify(&dir_path(), &shared(&disk), Arc::new(ManualClock::default())).unwrap();
    assert_eq!(verification.findings.len(), 1);
    assert!(verification.findings[0].what.contains("0000000065.redb is missing"));
}

#[test]
fn a_running_node_is_not_looked_at() {
    let disk = FaultyDisk::new(1);
    let _dir = open(&disk, &LogDirConfig::default()).unwrap();
    assert!(matches!(inspect(&dir_path(), &shared(&disk)), Err(OpenError::Locked { .. })));
}
