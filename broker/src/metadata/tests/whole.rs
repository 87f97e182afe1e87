//! `Metadata` as its users see it, on real files and on a disk that forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;
use tempfile::TempDir;
use uuid::Uuid;

use super::super::raft::Identity;
use super::super::snapshot;
use super::super::store::{FILE_NAME, OpenError, format};
use super::super::*;
use super::disk::ForgetfulDisk;
use super::origin;
use crate::clock::{SharedClock, SystemClock};
use crate::ids::{BrokerId, TopicName};
use crate::peer::TcpConnector;

fn config(dir: &Path, node_id: i32) -> MetadataConfig {
    let address = "127.0.0.1:9092".to_owned();
    MetadataConfig {
        dir: dir.to_owned(),
        node_id: BrokerId(node_id),
        address,
        cluster_id: None,
        join: Vec::new(),
    }
}

fn clock() -> SharedClock {
    SystemClock::shared()
}

async fn open(dir: &Path) -> Metadata {
    let metadata = Metadata::open(config(dir, 1), clock(), Arc::new(TcpConnector)).await.unwrap();
    metadata.register_broker("127.0.0.1".to_owned(), 9092, None).await.unwrap();
    metadata
}

async fn create(metadata: &Metadata, name: &str) -> Result<crate::ids::TopicId, ProposeError> {
    metadata.create_topic(TopicName::new(name).unwrap(), 3, 1, BTreeMap::new()).await
}

fn bytes(image: &MetadataImage) -> Vec<u8> {
    snapshot::encode(image).unwrap()
}

fn names(image: &MetadataImage) -> BTreeSet<String> {
    image.topics().map(|topic| topic.name.to_string()).collect()
}

#[tokio::test]
async fn what_was_proposed_is_there_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    let cluster_id = metadata.image().cluster_id();
    let mut watch = metadata.watch();
    watch.image();
    let id = create(&metadata, "a").await.unwrap();
    assert_eq!(metadata.image().topic("a").unwrap().id, id);
    assert_eq!(watch.changed().await.unwrap().topic("a").unwrap().partition_count(), 3);
    let exists = Rejection::TopicExists(TopicName::new("a").unwrap());
    assert_eq!(create(&metadata, "a").await, Err(ProposeError::Rejected(exists)));
    let changes = |value: &str| [("retention.ms".to_owned(), Some(value.to_owned()))].into();
    metadata.change_topic_configs(id, changes("7")).await.unwrap();
    let refused = metadata.change_topic_configs(id, changes("soon")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "invalid value \"soon\" for configuration retention.ms: not a number of type long"
    );
    assert_eq!(metadata.put_document("pipeline", "p", b"yaml".to_vec(), Some(0)).await, Ok(1));
    let grown = metadata.create_partitions(id, 5).await.map(|()| metadata.image());
    assert_eq!(grown.unwrap().topic_by_id(id).unwrap().partition_count(), 5);
    let shrunk = metadata.create_partitions(id, 5).await.unwrap_err().to_string();
    assert_eq!(shrunk, "the topic has 5 partitions already, 5 is no increase");
    let resource = ConfigResource::Broker(None);
    let fixed = metadata.propose(Command::ConfigChange { resource, changes: changes("7") }).await;
    let fixed = fixed.unwrap_err().to_string();
    assert_eq!(fixed, "retention.ms can't be set while the broker runs");
    let before = bytes(&metadata.image());
    metadata.shutdown().await;
    assert!(matches!(create(&metadata, "b").await, Err(ProposeError::Stopped(_))));

    let metadata = Metadata::open(config(dir.path(), 1), clock(), Arc::new(TcpConnector)).await.unwrap();
    assert_eq!(bytes(&metadata.image()), before);
    assert_eq!(metadata.image().cluster_id(), cluster_id);
    assert_eq!(metadata.image().topic("a").unwrap().configs["retention.ms"], "7");
    metadata.shutdown().await;
}

/// Proposals right after `open` were refused at times: an election was started on top of the one that
/// initialization holds, and interrupted the leadership that it had just won.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_cluster_of_one_leads_without_interruption() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let disk = ForgetfulDisk::new(4);
        for _ in 0..2 {
            let metadata = open_on(&disk, &dir).await;
            metadata.register_broker("127.0.0.1".to_owned(), 9092, None).await.unwrap();
            metadata.shutdown().await;
        }
    }
}

#[tokio::test]
async fn many_commands_share_entries() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = open(dir.path()).await;
    let many = (0..300).map(|n| {
        let metadata = metadata.clone();
        async move { create(&metadata, &format!("t{n}")).await }
    });
    let created = futures_util::future::join_all(many).await;
    assert!(created.iter().all(Result::is_ok));
    assert_eq!(metadata.image().topic_count(), 300);
    let entries = metadata.last_log_index();
    assert!(entries < 50, "300 commands took {entries} entries");
    metadata.shutdown().await;
}

#[tokio::test]
async fn producer_ids_are_never_reused() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(config(dir.path(), 1), clock(), Arc::new(TcpConnector)).await.unwrap();
    assert_eq!(metadata.next_producer_id().await, Err(ProposeError::NotRegistered));
    metadata.shutdown().await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let metadata = open(dir.path()).await;
        for _ in 0..1100 {
            assert!(seen.insert(metadata.next_producer_id().await.unwrap().0));
        }
        metadata.shutdown().await;
    }
    assert_eq!(seen.len(), 3300);
}

#[tokio::test]
async fn the_log_is_cut_and_the_file_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let disk = ForgetfulDisk::new(3);
    let metadata = open_on(&disk, &dir).await;
    for n in 0..1300 {
        metadata.put_document("pipeline", "p", vec![n as u8; 1000], None).await.unwrap();
    }
    metadata.wait_for_purge(700).await;
    let before = bytes(&metadata.image());
    metadata.shutdown().await;
    assert!(disk.bytes() < 8 * 1024 * 1024, "{} bytes for 1300 versions of 1 KB", disk.bytes());
    let metadata = open_on(&disk, &dir).await;
    assert_eq!(bytes(&metadata.image()), before);
    metadata.shutdown().await;
}

async fn refused(config: MetadataConfig) -> String {
    match Metadata::open(config, clock(), Arc::new(TcpConnector)).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_directory_that_is_not_ours_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let shown = path.display();
    let metadata = open(dir.path()).await;
    let cluster_id = metadata.image().cluster_id();
    assert_eq!(refused(config(dir.path(), 1)).await, format!("{shown} is in use by another process"));
    metadata.shutdown().await;

    let other_node = refused(config(dir.path(), 2)).await;
    assert_eq!(
        other_node,
        format!("{shown} belongs to node 1, not 2: set node.id=1 or use another data directory")
    );
    let other = ClusterId(Uuid::from_u128(1));
    let other_cluster = refused(MetadataConfig { cluster_id: Some(other), ..config(dir.path(), 1) }).await;
    assert_eq!(other_cluster, format!("{shown} belongs to cluster {cluster_id}, not {other}"));

    // Whoever is refused leaves nothing behind.
    open(dir.path()).await.shutdown().await;
    super::disk::set_format(&path, 2);
    assert_eq!(
        refused(config(dir.path(), 1)).await,
        format!("{shown} has format 2, this program knows up to 1: use a newer one")
    );
    std::fs::write(&path, vec![7; 100_000]).unwrap();
    let junk = refused(config(dir.path(), 1)).await;
    assert!(junk.starts_with(&format!("{shown}: ")), "{junk}");
}

#[tokio::test]
async fn a_file_that_was_never_finished_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    for leftover in [&b""[..], &[0; 8192], b"redb"] {
        std::fs::write(dir.path().join("meta.redb.new"), leftover).unwrap();
        open(dir.path()).await.shutdown().await;
        assert!(!dir.path().join("meta.redb.new").exists());
        std::fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    }
}

async fn open_on(disk: &ForgetfulDisk, dir: &TempDir) -> Metadata {
    let identity = Identity { node_id: BrokerId(1), cluster_id: ClusterId(Uuid::from_u128(7)) };
    let backend = disk.backend();
    let database = move || {
        let io = |error: redb::DatabaseError| OpenError::Raft(error.to_string());
        let new = backend.len().unwrap() == 0;
        let db = redb::Builder::new().create_with_backend(backend).map_err(io)?;
        if new {
            format(&db, identity, origin()).map_err(|error| OpenError::Raft(error.to_string()))?;
        }
        Ok(db)
    };
    let opened =
        Metadata::open_with(config(dir.path(), 1), clock(), Arc::new(TcpConnector), origin(), database).await;
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// Whatever was acknowledged before the power went is there after it, whatever became of the unsynced writes.
#[tokio::test]
async fn acknowledged_commands_survive_a_power_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = ForgetfulDisk::new(1);
    open_on(&disk, &dir).await.shutdown().await;
    let (mut acknowledged, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let mut failures_under_way = 0;
    for round in 0..60 {
        disk.lose_power_within(150);
        let metadata = open_on(&disk, &dir).await;
        let found = names(&metadata.image());
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round} lost {} topics, {:?} the first", lost.len(), lost[0]);
        metadata.register_broker("127.0.0.1".to_owned(), 9092, None).await.unwrap();
        for n in 0.. {
            let name = format!("t{round}-{n}");
            create(&metadata, &name).await.unwrap();
            let id = metadata.next_producer_id().await.unwrap();
            if disk.has_lost_power() {
                failures_under_way += 1;
                break;
            }
            acknowledged.insert(name);
            assert!(ids.insert(id), "round {round} gives out {id:?} again");
        }
        metadata.shutdown().await;
        disk = disk.after_power_failure();
    }
    assert_eq!(failures_under_way, 60);
    assert!(acknowledged.len() > 60, "{}", acknowledged.len());
}

/// A disk that fails stops the metadata instead of letting it go on in memory.
#[tokio::test]
async fn a_disk_that_fails_stops_everything() {
    let dir = tempfile::tempdir().unwrap();
    let disk = ForgetfulDisk::new(2);
    let metadata = open_on(&disk, &dir).await;
    metadata.register_broker("127.0.0.1".to_owned(), 9092, None).await.unwrap();
    disk.fail();
    assert!(matches!(create(&metadata, "a").await, Err(ProposeError::Stopped(_))));
    let why = metadata.failed().await;
    assert!(why.contains("the metadata file fails"), "{why}");
    assert!(matches!(create(&metadata, "a").await, Err(ProposeError::Stopped(_))));
    metadata.shutdown().await;
}
