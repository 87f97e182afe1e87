//! Two nodes in one process: the log, and where it has been cut the snapshot, carry the image over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use redb::StorageBackend;
use tokio::sync::watch;
use uuid::Uuid;

use super::super::handle::raft_config;
use super::super::log_store::LogStore;
use super::super::raft::{Identity, Raft};
use super::super::snapshot;
use super::super::state_machine::{Published, StateMachine};
use super::super::store::{Closed, Expected, Store, format};
use super::super::*;
use super::disk::ForgetfulDisk;
use crate::clock::SystemClock;
use crate::ids::{BrokerId, TopicName};

/// Nodes by id, called directly.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<u64, Raft>>>);

struct Wire {
    wires: Wires,
    target: u64,
}

type Answer<T, E> = Result<T, RPCError<u64, BasicNode, E>>;

impl Wire {
    fn peer(&self) -> Result<Raft, Unreachable> {
        let peer = self.wires.0.lock().unwrap().get(&self.target).cloned();
        peer.ok_or_else(|| Unreachable::new(&std::io::Error::other("not wired")))
    }

    fn remote<E: std::error::Error>(&self, error: E) -> RPCError<u64, BasicNode, E> {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetworkFactory<TypeConfig> for Wires {
    type Network = Wire;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Wire {
        Wire { wires: self.clone(), target }
    }
}

impl RaftNetwork<TypeConfig> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>, RaftError<u64>> {
        self.peer()?.append_entries(request).await.map_err(|error| self.remote(error))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        self.peer()?.install_snapshot(request).await.map_err(|error| self.remote(error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Answer<VoteResponse<u64>, RaftError<u64>> {
        self.peer()?.vote(request).await.map_err(|error| self.remote(error))
    }
}

fn identity(node_id: i32) -> Identity {
    Identity { node_id: BrokerId(node_id), cluster_id: ClusterId(Uuid::from_u128(7)) }
}

fn database(
    disk: &ForgetfulDisk,
    node_id: i32,
) -> impl FnOnce() -> Result<redb::Database, OpenError> + use<> {
    let backend = disk.backend();
    move || {
        let new = backend.len().unwrap() == 0;
        let db = redb::Builder::new().create_with_backend(backend).unwrap();
        if new {
            format(&db, identity(node_id)).unwrap();
        }
        Ok(db)
    }
}

/// A node that has no log yet, or comes back, and waits for a leader.
async fn joining(disk: &ForgetfulDisk, wires: &Wires) -> (Raft, watch::Receiver<Published>, Closed) {
    let Identity { node_id, cluster_id } = identity(2);
    let expected = Expected { node_id, cluster_id: Some(cluster_id) };
    let (store, _, closed) = Store::open(Path::new("node 2"), expected, database(disk, 2)).await.unwrap();
    let (machine, published) = StateMachine::load(store.clone(), cluster_id).await.unwrap();
    let raft = Raft::new(2, raft_config(), wires.clone(), LogStore::new(store), machine).await.unwrap();
    (raft, published, closed)
}

#[tokio::test]
async fn a_learner_gets_the_image() {
    let (wires, disk, other_disk) = (Wires::default(), ForgetfulDisk::new(5), ForgetfulDisk::new(6));
    let config = MetadataConfig {
        dir: "node 1".into(),
        node_id: BrokerId(1),
        address: "node 1".to_owned(),
        cluster_id: Some(identity(1).cluster_id),
    };
    let metadata =
        Metadata::open_with(config, SystemClock::shared(), wires.clone(), database(&disk, 1)).await.unwrap();
    metadata.register_broker("h".to_owned(), 1, None).await.unwrap();
    // The log begins behind these, so that only a snapshot can tell of them.
    for n in 0..1300 {
        metadata.put_document("pipeline", &format!("p{}", n % 50), vec![n as u8; 100], None).await.unwrap();
    }
    metadata.wait_for_purge(700).await;

    let (learner, mut published, closed) = joining(&other_disk, &wires).await;
    wires.0.lock().unwrap().insert(2, learner.clone());
    metadata.raft().add_learner(2, BasicNode::new("node 2"), true).await.unwrap();
    metadata.create_topic(TopicName::new("a").unwrap(), 3, 1, BTreeMap::new()).await.unwrap();
    let has_topic = |now: &Published| now.image.topic("a").is_some();
    let seen = published.wait_for(has_topic).await.unwrap().image.clone();
    let bytes = |image: &MetadataImage| snapshot::encode(image).unwrap();
    assert_eq!(bytes(&seen), bytes(&metadata.image()));
    assert_eq!(seen.cluster_id(), metadata.image().cluster_id());
    assert!(learner.metrics().borrow().snapshot.is_some(), "it came by snapshot");

    learner.shutdown().await.unwrap();
    drop(learner);
    metadata.shutdown().await;
    wires.0.lock().unwrap().clear();
    closed.await.unwrap().unwrap();
    // What the learner was given is on its disk.
    let (learner, published, _closed) = joining(&other_disk, &wires).await;
    assert_eq!(bytes(&published.borrow().image), bytes(&seen));
    learner.shutdown().await.unwrap();
}
