//! What changes the metadata, and what comes of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::image::BrokerEpoch;
use crate::config::TopicConfigs;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, TopicName};

/// Partitions that one command may create, as in Kafka's controller.
pub const PARTITIONS_PER_COMMAND_MAX: usize = 10_000;
/// Partitions of the cluster: an image of so many takes 40 to 100 MB, by the number of topics.
pub const PARTITIONS_MAX: usize = 200_000;
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all documents: they are held in memory on every broker.
pub const DOCUMENTS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Documents of all kinds.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Longest kind or name of a document.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 249;
/// Keys that a topic or a broker may set, and the longest value.
pub const CONFIGS_MAX: usize = 128;
pub const CONFIG_VALUE_BYTES_MAX: usize = 8 * 1024;
pub const PRODUCER_IDS_PER_BLOCK_MAX: i32 = 100_000;
/// Views of all topics: each is listed like a topic of its own.
pub const VIEWS_MAX: usize = 1_000;
/// Brokers of the cluster.
pub const MEMBERS_MAX: usize = 1_000;
/// Longest address of a broker, `HOST:PORT`.
pub const ADDRESS_BYTES_MAX: usize = 300;

/// One change. The proposer stamps ids and time into it, so that applying it is the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A broker starts, or starts again under a new epoch.
    RegisterBroker {
        broker_id: BrokerId,
        host: String,
        port: u16,
        rack: Option<String>,
    },
    CreateTopic {
        name: TopicName,
        topic_id: TopicId,
        /// Of each partition, the preferred leader first.
        replicas: Vec<Vec<BrokerId>>,
        configs: TopicConfigs,
    },
    DeleteTopic {
        topic_id: TopicId,
    },
    CreatePartitions {
        topic_id: TopicId,
        /// Partitions before the command: two requests must not add up by accident.
        expected_count: i32,
        /// Of each new partition.
        replicas: Vec<Vec<BrokerId>>,
    },
    PartitionChange(PartitionChange),
    ConfigChange {
        resource: ConfigResource,
        /// `None` goes back to the default.
        changes: BTreeMap<String, Option<String>>,
    },
    AllocateProducerIds {
        broker_id: BrokerId,
        broker_epoch: BrokerEpoch,
        count: i32,
    },
    PutDocument {
        kind: String,
        name: String,
        bytes: Vec<u8>,
        expected_version: Option<u64>,
    },
    DeleteDocument {
        kind: String,
        name: String,
        expected_version: Option<u64>,
    },
    /// Creates a view, or makes one that exists a view of another topic. One of this name and source stays as it is.
    PutView {
        name: TopicName,
        /// Its own: what was committed for a view of one topic means nothing for that of another.
        topic_id: TopicId,
        source_id: TopicId,
    },
    DeleteView {
        topic_id: TopicId,
    },
    /// A broker becomes a member of the cluster, or one that is says where the others reach it now.
    PutMember {
        broker_id: BrokerId,
        /// Of its disk.
        incarnation: Uuid,
        address: String,
    },
    /// The broker's number is free again.
    RemoveMember {
        broker_id: BrokerId,
    },
}

/// A new leader, ISR or replica set; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// The epoch of the partition that the proposer saw.
    pub expected_partition_epoch: i32,
    /// `Some(None)` leaves it without a leader.
    pub leader: Option<Option<BrokerId>>,
    pub isr: Option<Vec<BrokerId>>,
    pub replicas: Option<Vec<BrokerId>>,
}

/// Whose configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigResource {
    Topic(TopicId),
    /// `None` is every broker.
    Broker(Option<BrokerId>),
}

/// The commands of one log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBatch(pub Vec<Command>);

/// What a command that was applied gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    Done,
    BrokerRegistered {
        epoch: BrokerEpoch,
    },
    PartitionChanged {
        partition_epoch: i32,
        leader_epoch: LeaderEpoch,
    },
    /// `count` ids from `first` on.
    ProducerIds {
        first: ProducerId,
        count: i32,
    },
    DocumentPut {
        version: u64,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("topic {0} already exists")]
    TopicExists(TopicName),
    #[error("a topic with the id {0} already exists")]
    TopicIdExists(TopicId),
    #[error("no topic has the id {0}")]
    UnknownTopicId(TopicId),
    #[error("topic {topic_id} has no partition {partition}")]
    UnknownPartition { topic_id: TopicId, partition: PartitionIndex },
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    #[error("a topic needs at least one partition")]
    NoPartitions,
    #[error("the topic has {found} partitions, not {expected}")]
    PartitionCount { expected: i32, found: i32 },
    #[error("{requested} partitions are more than the {max} that one request may create")]
    TooManyPartitions { requested: u64, max: u64 },
    #[error("the cluster would have {total} partitions, more than {max}")]
    ClusterFull { total: u64, max: u64 },
    #[error("the replicas of a partition are empty or name a broker twice")]
    InvalidReplicas,
    #[error("broker {0} is not a replica of the partition")]
    NotAReplica(BrokerId),
    #[error("broker {0} can't lead, as it is not in sync")]
    LeaderNotInSync(BrokerId),
    #[error("the partition's epoch is {found}, not {expected}")]
    StalePartitionEpoch { expected: i32, found: i32 },
    #[error("broker {broker_id} has registered again since")]
    StaleBrokerEpoch { broker_id: BrokerId },
    #[error("{0} producer ids in one block are too few or too many")]
    InvalidBlock(i32),
    #[error("no producer ids are left")]
    ProducerIdsExhausted,
    #[error("document {kind}/{name} does not exist")]
    UnknownDocument { kind: String, name: String },
    #[error("the document's version is {found}, not {expected}")]
    DocumentVersion { expected: u64, found: u64 },
    #[error("a document's kind and name have 1 to {DOCUMENT_NAME_BYTES_MAX} bytes")]
    InvalidDocumentName,
    #[error("a document of {bytes} bytes is larger than {DOCUMENT_BYTES_MAX}")]
    DocumentTooLarge { bytes: u64 },
    #[error("there are {DOCUMENTS_MAX} documents or {DOCUMENTS_BYTES_MAX} bytes of them already")]
    TooManyDocuments,
    #[error("more than {CONFIGS_MAX} configurations, or one longer than {CONFIG_VALUE_BYTES_MAX} bytes")]
    ConfigsTooLarge,
    #[error("topic {topic} is the source of view {view}: delete the view first")]
    SourceOfView { topic: TopicName, view: TopicName },
    #[error("no view has the id {0}")]
    UnknownView(TopicId),
    #[error("there are {VIEWS_MAX} views already")]
    TooManyViews,
    #[error(
        "node id {broker_id} belongs to another data directory: use a number that is free, or unregister that broker"
    )]
    OtherIncarnation { broker_id: BrokerId },
    #[error("broker {0} is no member of the cluster")]
    UnknownMember(BrokerId),
    #[error("there are {MEMBERS_MAX} brokers already")]
    TooManyMembers,
    #[error("an address has 1 to {ADDRESS_BYTES_MAX} bytes")]
    InvalidAddress,
}
