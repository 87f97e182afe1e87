//! `Metadata`: opens the store, runs Raft, proposes commands, shows the image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Config, ServerState, SnapshotPolicy};
use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::{Members, Outside, cluster_of, keep_voters};
use super::command::{Command, ConfigResource, Rejection, Response};
use super::image::{BrokerEpoch, ClusterId, MetadataImage};
use super::log_store::LogStore;
use super::peer_network::PeerNetwork;
use super::placement::{PlacementError, place};
use super::producer_ids::ProducerIds;
use super::proposer::{self, COMMAND_BYTES_MAX, Proposal, QUEUE_COMMANDS_MAX, WriteError};
use super::raft::{Identity, Origin, Raft};
use super::state_machine::{Published, StateMachine};
use super::store::{Closed, Expected, FILE_NAME, OpenError, Store, damaged, open_file};
use crate::clock::SharedClock;
use crate::codec;
use crate::config::{ConfigError, TopicConfigs, validate_topic_config};
use crate::ids::{BrokerId, ProducerId, TopicId, TopicName};
use crate::peer::{Connect, Hello, Member};

/// Log entries after which a snapshot is taken. Taking one is free; it lets the log be cut.
const SNAPSHOT_ENTRIES: u64 = 1000;
/// Entries behind a snapshot that stay for followers that lag.
const LOG_ENTRIES_KEPT: u64 = 200;
const PURGE_ENTRIES: u64 = 100;

/// A command that takes longer has no majority, or a disk that has stopped.
const PROPOSE_TIME_MAX: Duration = Duration::from_secs(60);

const HEARTBEAT_MS: u64 = 500;
const ELECTION_TIMEOUT_MS: (u64, u64) = (2000, 4000);

#[derive(Debug, Clone)]
pub struct MetadataConfig {
    /// Where `meta.redb` lies.
    pub dir: PathBuf,
    pub node_id: BrokerId,
    /// Where other brokers reach this one.
    pub address: String,
    /// What the cluster must be called, or will be; a new cluster gets a random id where this is `None`.
    pub cluster_id: Option<ClusterId>,
    /// Where brokers of the cluster are that a new one becomes a part of; empty, and it begins one.
    pub join: Vec<String>,
}

/// Why a command did not take effect. After `Stopped` it is unknown whether it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    InvalidConfig(#[from] ConfigError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("the command has {0} bytes, more than {COMMAND_BYTES_MAX}")]
    TooLarge(usize),
    /// None was found in time.
    #[error("another broker is the controller")]
    NotController { leader: Option<BrokerId> },
    /// The controller was asked, and its answer did not arrive: the command may have taken effect.
    #[error("it is unknown whether the controller has done it: {0}")]
    Unknown(String),
    #[error("the cluster does not take this broker: {0}")]
    Refused(String),
    #[error("this broker is not registered")]
    NotRegistered,
    #[error("the metadata has stopped: {0}")]
    Stopped(String),
}

/// A handle to the cluster's metadata; copies are cheap.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    node_id: BrokerId,
    outside: Outside,
    clock: SharedClock,
    proposals: mpsc::Sender<Proposal>,
    published: watch::Receiver<Published>,
    producer_ids: ProducerIds,
    tasks: TaskTracker,
    stop: CancellationToken,
    closed: tokio::sync::Mutex<Option<Closed>>,
}

impl Metadata {
    /// Opens or creates `meta.redb` and returns when this node, if it is the only voter, leads and has applied its
    /// whole log. A new cluster consists of this node; one that joins a cluster becomes a part of it by `become_member`.
    pub async fn open(
        config: MetadataConfig,
        clock: SharedClock,
        connector: Arc<dyn Connect>,
    ) -> Result<Self, OpenError> {
        let dir = config.dir.clone();
        let incarnation = clock.random_uuid();
        let is_new = !dir.join(FILE_NAME).exists();
        let is_founder = config.join.is_empty();
        let cluster_id = if is_new && !is_founder {
            let member = Member { id: config.node_id, incarnation };
            cluster_of(&connector, &config.join, member).await?
        } else {
            config.cluster_id.unwrap_or_else(|| ClusterId(clock.random_uuid()))
        };
        let identity = Identity { node_id: config.node_id, cluster_id };
        let origin = Origin { incarnation, is_founder };
        Self::open_with(config, clock, connector, origin, move || open_file(&dir, identity, origin)).await
    }

    /// As `open`, with a database from elsewhere: a simulated disk.
    pub(super) async fn open_with(
        config: MetadataConfig,
        clock: SharedClock,
        connector: Arc<dyn Connect>,
        fresh: Origin,
        database: impl FnOnce() -> Result<Database, OpenError> + Send + 'static,
    ) -> Result<Self, OpenError> {
        let path = config.dir.join(FILE_NAME);
        let expected = Expected { node_id: config.node_id, cluster_id: config.cluster_id };
        let (store, identity, closed) = Store::open(&path, expected, database).await?;
        // A file of before there was such a thing is that of a cluster of one.
        let origin = store.origin(Origin { is_founder: true, ..fresh }).await;
        let origin = origin.map_err(|error| damaged(&path, &error))?;
        let loaded = StateMachine::load(store.clone(), identity.cluster_id).await;
        let (machine, published) = loaded.map_err(|error| damaged(&path, &error))?;
        let member = Member { id: config.node_id, incarnation: origin.incarnation };
        // Where nobody answers, they may all be starting.
        if let Ok(other) = cluster_of(&connector, &config.join, member).await
            && other != identity.cluster_id
        {
            let (expected, found) = (other.to_string(), identity.cluster_id.to_string());
            return Err(OpenError::WrongCluster { path: path.display().to_string(), expected, found });
        }
        let members = Arc::new(Members(published.clone()));
        let hello = Hello { cluster_id: Some(identity.cluster_id), from: member, to: None };
        let network = PeerNetwork::new(Arc::clone(&connector), members, hello);
        let node_id = u64::try_from(config.node_id.0).expect("node.id is not negative");
        let log = LogStore::new(store);
        let raft = Raft::new(node_id, raft_config(), network, log, machine).await.map_err(raft_error)?;
        if let Err(error) = lead_alone(&raft, node_id, &config.address, origin.is_founder).await {
            if let Err(error) = raft.shutdown().await {
                tracing::error!(%error, "raft did not stop cleanly");
            }
            return Err(error);
        }

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (proposals, queue) = mpsc::channel(QUEUE_COMMANDS_MAX);
        tasks.spawn(proposer::run(raft.clone(), queue, stop.clone()));
        tasks.spawn(keep_voters(raft.clone(), stop.clone()));
        let producer_ids = ProducerIds::default();
        let (node_id, closed) = (config.node_id, tokio::sync::Mutex::new(Some(closed)));
        let outside = Outside { connector, member, address: config.address, join: config.join };
        let inner =
            Inner { raft, node_id, outside, clock, proposals, published, producer_ids, tasks, stop, closed };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn node_id(&self) -> BrokerId {
        self.inner.node_id
    }

    /// The broker that leads Raft, as far as this one knows.
    pub fn controller(&self) -> Option<BrokerId> {
        let leader = self.inner.raft.metrics().borrow().current_leader?;
        i32::try_from(leader).ok().map(BrokerId)
    }

    /// The metadata as this broker knows it.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.inner.published.borrow().image.clone()
    }

    /// Tells of every new image; intermediate ones may be skipped.
    pub fn watch(&self) -> ImageWatch {
        ImageWatch { published: self.inner.published.clone() }
    }

    /// Makes a change, here or by way of the controller. When it returns, `image` shows it. A caller that stops waiting does
    /// not stop the command.
    pub async fn propose(&self, command: Command) -> Result<Response, ProposeError> {
        let (index, response) = match self.propose_here(command.clone()).await {
            Err(ProposeError::NotController { leader }) => self.forward(&command, leader).await?,
            outcome => outcome?,
        };
        // On the leader that is so already; elsewhere the entry may still be on its way.
        let mut published = self.inner.published.clone();
        let seen = published.wait_for(|published| published.applied_index >= Some(index)).await;
        seen.map_err(|_| ProposeError::Stopped("the state machine is gone".to_owned()))?;
        Ok(response?)
    }

    /// The same on the controller itself, with the index of the entry.
    pub(super) async fn propose_here(
        &self,
        command: Command,
    ) -> Result<(u64, Result<Response, Rejection>), ProposeError> {
        validate(&command)?;
        let too_large = |_| ProposeError::TooLarge(codec::VALUE_BYTES_MAX);
        let bytes = codec::encode(&command).map_err(too_large)?.len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge(bytes));
        }
        let stopped = |what: &str| ProposeError::Stopped(what.to_owned());
        let (answer, answered) = oneshot::channel();
        let proposal = Proposal { command, bytes, answer };
        self.inner.proposals.send(proposal).await.map_err(|_| stopped("it is shutting down"))?;
        // A controller that has lost the others does not know it.
        let answered = tokio::time::timeout(PROPOSE_TIME_MAX, answered).await;
        let answered = answered.map_err(|_| ProposeError::Unknown("no majority has answered".to_owned()))?;
        let outcome = answered.map_err(|_| stopped("it is shutting down"))?;
        Ok(outcome?)
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(super) fn outside(&self) -> &Outside {
        &self.inner.outside
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    pub(super) fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    pub(super) fn published(&self) -> watch::Receiver<Published> {
        self.inner.published.clone()
    }

    /// Announces this broker: where clients reach it. Each start of a broker gets an epoch of its own.
    pub async fn register_broker(
        &self,
        host: String,
        port: u16,
        rack: Option<String>,
    ) -> Result<BrokerEpoch, ProposeError> {
        let broker_id = self.inner.node_id;
        let command = Command::RegisterBroker { broker_id, host, port, rack };
        let Response::BrokerRegistered { epoch } = self.propose(command).await? else {
            unreachable!("apply answers a registration with an epoch");
        };
        self.inner.producer_ids.registered(epoch);
        Ok(epoch)
    }

    /// The command that creates a topic, its replicas placed and its id chosen; nothing is changed. Try it with
    /// `image().after(..)`.
    pub fn create_topic_command(
        &self,
        name: TopicName,
        partitions: i32,
        replication_factor: i16,
        configs: TopicConfigs,
    ) -> Result<Command, ProposeError> {
        let id = self.inner.clock.random_uuid();
        // Topics start at different brokers, so that partition 0 of all of them is not on one.
        let replicas = place(&self.image(), partitions, replication_factor, id.as_u128() as u32 as usize)?;
        let command = Command::CreateTopic { name, topic_id: TopicId(id), replicas, configs };
        validate(&command)?;
        Ok(command)
    }

    pub async fn create_topic(
        &self,
        name: TopicName,
        partitions: i32,
        replication_factor: i16,
        configs: TopicConfigs,
    ) -> Result<TopicId, ProposeError> {
        let command = self.create_topic_command(name, partitions, replication_factor, configs)?;
        let Command::CreateTopic { topic_id, .. } = command else {
            unreachable!("create_topic_command makes nothing else");
        };
        self.propose(command).await.map(|_| topic_id)
    }

    /// The command that raises a topic's number of partitions to `total`, the new ones placed; nothing is changed.
    pub fn create_partitions_command(&self, topic_id: TopicId, total: i32) -> Result<Command, ProposeError> {
        let image = self.image();
        let topic = image.topic_by_id(topic_id).ok_or(Rejection::UnknownTopicId(topic_id))?;
        let found = topic.partition_count();
        if total <= found {
            return Err(PlacementError::NoIncrease { found, wanted: total }.into());
        }
        let first = topic.partitions.first().expect("a topic has a partition");
        let factor = i16::try_from(first.replicas.len()).unwrap_or(i16::MAX);
        // The round goes on where it stopped, by and large: brokers may have come since.
        let start = topic_id.0.as_u128() as u32 as usize + topic.partitions.len();
        let replicas = place(&image, total - found, factor, start)?;
        Ok(Command::CreatePartitions { topic_id, expected_count: found, replicas })
    }

    pub async fn create_partitions(&self, topic_id: TopicId, total: i32) -> Result<(), ProposeError> {
        let command = self.create_partitions_command(topic_id, total)?;
        self.propose(command).await.map(drop)
    }

    pub async fn delete_topic(&self, topic_id: TopicId) -> Result<(), ProposeError> {
        self.propose(Command::DeleteTopic { topic_id }).await.map(drop)
    }

    /// Sets (`Some`) or resets (`None`) configurations of a topic.
    pub async fn change_topic_configs(
        &self,
        topic_id: TopicId,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), ProposeError> {
        let resource = ConfigResource::Topic(topic_id);
        self.propose(Command::ConfigChange { resource, changes }).await.map(drop)
    }

    /// A producer id that was never given out before, by any broker of the cluster.
    pub async fn next_producer_id(&self) -> Result<ProducerId, ProposeError> {
        self.inner.producer_ids.next(self).await
    }

    /// Keeps bytes for somebody. `expected_version` guards against writers in between; `Some(0)` means that there
    /// must be no such document yet.
    pub async fn put_document(
        &self,
        kind: &str,
        name: &str,
        bytes: Vec<u8>,
        expected_version: Option<u64>,
    ) -> Result<u64, ProposeError> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        let command = Command::PutDocument { kind, name, bytes, expected_version };
        match self.propose(command).await? {
            Response::DocumentPut { version } => Ok(version),
            other => unreachable!("apply answers a document with its version, not {other:?}"),
        }
    }

    pub async fn delete_document(
        &self,
        kind: &str,
        name: &str,
        expected_version: Option<u64>,
    ) -> Result<(), ProposeError> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.propose(Command::DeleteDocument { kind, name, expected_version }).await.map(drop)
    }

    /// Waits until Raft has stopped, and says why: its storage failed, after which a node can't go on, or somebody
    /// called `shutdown`.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        loop {
            let state = metrics.borrow_and_update().running_state.clone();
            match state {
                Err(error) => return error.to_string(),
                Ok(()) if metrics.changed().await.is_err() => return "raft is gone".to_owned(),
                Ok(()) => {}
            }
        }
    }

    /// Stops proposing and Raft, and returns when the file is closed. Commands under way may or may not take effect.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "raft did not stop cleanly");
        }
        if let Some(closed) = self.inner.closed.lock().await.take() {
            match closed.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the metadata file did not close cleanly"),
                Err(_) => tracing::error!("the thread of the metadata file is gone"),
            }
        }
    }
}

#[cfg(test)]
impl Metadata {
    pub(super) fn last_log_index(&self) -> u64 {
        self.inner.raft.metrics().borrow().last_log_index.unwrap_or_default()
    }

    pub(super) async fn wait_for_purge(&self, index: u64) {
        let purged = |id: Option<openraft::LogId<u64>>| id.is_some_and(|id| id.index >= index);
        let mut metrics = self.inner.raft.metrics();
        metrics.wait_for(|now| purged(now.purged)).await.expect("raft runs");
    }
}

impl From<WriteError> for ProposeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotController { leader } => {
                let leader = leader.and_then(|id| i32::try_from(id).ok()).map(BrokerId);
                Self::NotController { leader }
            }
            WriteError::Stopped(why) => Self::Stopped(why),
            error @ WriteError::Unknown => Self::Unknown(error.to_string()),
        }
    }
}

/// Sees images as they come.
#[derive(Debug, Clone)]
pub struct ImageWatch {
    published: watch::Receiver<Published>,
}

impl ImageWatch {
    /// The newest image.
    pub fn image(&mut self) -> Arc<MetadataImage> {
        self.published.borrow_and_update().image.clone()
    }

    /// Waits for an image that `image` has not returned yet; `None` after shutdown.
    pub async fn changed(&mut self) -> Option<Arc<MetadataImage>> {
        self.published.changed().await.ok()?;
        Some(self.image())
    }
}

/// What depends on this version's tables and so can't be left to `apply`.
fn validate(command: &Command) -> Result<(), ConfigError> {
    match command {
        Command::CreateTopic { configs, .. } => {
            configs.iter().try_for_each(|(key, value)| validate_topic_config(key, value))
        }
        Command::ConfigChange { resource: ConfigResource::Topic(_), changes } => {
            let set = |(key, value): (&String, &Option<String>)| match value {
                Some(value) => validate_topic_config(key, value),
                // A key that another version set can be reset.
                None => Ok(()),
            };
            changes.iter().try_for_each(set)
        }
        Command::ConfigChange { resource: ConfigResource::Broker(_), changes } => {
            changes.keys().next().map_or(Ok(()), |name| Err(ConfigError::ReadOnly { name: name.clone() }))
        }
        _ => Ok(()),
    }
}

pub(super) fn raft_config() -> Arc<Config> {
    let config = Config {
        cluster_name: "millstream".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_TIMEOUT_MS.0,
        election_timeout_max: ELECTION_TIMEOUT_MS.1,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: LOG_ENTRIES_KEPT,
        purge_batch_size: PURGE_ENTRIES,
        ..Config::default()
    };
    Arc::new(config.validate().expect("the constants fit together"))
}

/// Makes a cluster of this node, if there is none, and lets the only voter lead at once: nobody could object.
async fn lead_alone(raft: &Raft, node_id: u64, address: &str, is_founder: bool) -> Result<(), OpenError> {
    if !raft.is_initialized().await.map_err(raft_error)? {
        if !is_founder {
            return Ok(());
        }
        let node = BasicNode::new(address);
        raft.initialize(BTreeMap::from([(node_id, node)])).await.map_err(raft_error)?;
    }
    // Asked of Raft's core, in line with what it does, as the metrics lag behind: an election on top of the one that
    // `initialize` holds, or of a leadership restored from disk, would interrupt both.
    let state = raft.with_raft_state(move |state| {
        let alone = state.membership_state.effective().membership().voter_ids().eq([node_id]);
        (alone, state.server_state)
    });
    match state.await.map_err(raft_error)? {
        (false, _) => return Ok(()),
        (true, ServerState::Leader | ServerState::Candidate) => {}
        (true, _) => raft.trigger().elect().await.map_err(raft_error)?,
    }
    let mut metrics = raft.metrics();
    let leading = |now: &openraft::RaftMetrics<u64, BasicNode>| {
        now.state == ServerState::Leader || now.running_state.is_err()
    };
    metrics.wait_for(leading).await.map_err(raft_error)?;
    raft.ensure_linearizable().await.map_err(raft_error)?;
    Ok(())
}

fn raft_error(error: impl std::error::Error) -> OpenError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    OpenError::Raft(text)
}
