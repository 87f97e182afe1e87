//! Whose log dir it is.

use super::*;
use crate::log::LogDirOwner;
use crate::log::disk::{Access, Disk};

fn owner(cluster_id: &str, node_id: i32) -> LogDirOwner {
    LogDirOwner { cluster_id: cluster_id.to_owned(), node_id }
}

fn claim(dir: &LogDir, owner: &LogDirOwner, known: bool) -> Result<(), String> {
    dir.claim(owner, |_| known).map_err(|error| error.to_string())
}

#[test]
fn a_log_dir_belongs_to_the_node_that_made_it() {
    let disk = FaultyDisk::new(1);
    let config = LogDirConfig::default();
    let dir = open(&disk, &config).unwrap();
    claim(&dir, &owner("a", 1), false).unwrap();
    dir.create_log(tp(0)).unwrap();
    dir.close().unwrap();
    disk.restart();
    let dir = open(&disk, &config).unwrap();
    claim(&dir, &owner("a", 1), false).unwrap();
    for (other, found) in [(owner("b", 1), "cluster b, node 1"), (owner("a", 2), "cluster a, node 2")] {
        let error = claim(&dir, &other, true).unwrap_err();
        assert!(error.contains("it holds cluster a, node 1") && error.contains(found), "{error}");
    }
    assert!(dir.log(&tp(0)).is_some());
}

#[test]
fn logs_of_nobody_are_taken_over_with_the_metadata_that_knows_them() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    dir.create_log(tp(0)).unwrap();
    dir.flush().unwrap();
    let error = claim(&dir, &owner("a", 1), false).unwrap_err();
    assert!(error.contains("topics that the metadata does not know"), "{error}");
    claim(&dir, &owner("a", 1), true).unwrap();
    claim(&dir, &owner("a", 1), false).unwrap();
}

#[test]
fn an_unreadable_owner_is_nobody_to_guess() {
    let disk = FaultyDisk::new(1);
    let dir = open(&disk, &LogDirConfig::default()).unwrap();
    for text in ["", "version=2\ncluster.id=a\nnode.id=1\n", "version=1\ncluster.id=a\nnode.id=one\n"] {
        let file = disk.open(&dir_path().join("meta.properties"), Access::Create).unwrap();
        file.set_len(text.len() as u64).unwrap();
        file.write(0, text.as_bytes()).unwrap();
        let error = claim(&dir, &owner("a", 1), true).unwrap_err();
        assert!(error.contains("an unreadable owner"), "{text:?}: {error}");
    }
}
