//! The cluster's metadata: brokers, topics, partitions, views, configurations, producer ids and documents, replicated
//! by Raft and held in memory on every broker.
//!
//! `MetadataImage` is the state, an immutable snapshot that readers take from a `watch` and keep as long as they
//! like. `Command`s, named like Kafka's records, change it through `apply`, which depends on the image and the
//! command alone: whoever proposes a command has stamped time, ids and randomness into it. `Metadata` is the handle
//! that opens the store, proposes and reads.
//!
//! ```text
//! propose -> proposer task (many commands, one log entry) -> openraft -> store thread (redb, one fsync)
//!                                                                 -> apply -> watch -> readers
//! ```
//!
//! One file, `meta.redb`, holds the vote, the log and the applied state; one OS thread owns it.

mod apply;
#[cfg_attr(not(test), expect(dead_code, reason = "brokers open no listener for each other yet"))]
mod cluster;
mod command;
mod delta;
mod handle;
mod image;
mod log_store;
mod members;
mod new_file;
mod peer_network;
mod placement;
mod producer_ids;
mod proposer;
mod raft;
mod rows;
mod schema;
mod shared_map;
mod snapshot;
mod state_machine;
mod store;
#[cfg(test)]
mod tests;
mod views;

pub use command::{
    ADDRESS_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIGS_MAX, Command, CommandBatch, ConfigResource,
    DOCUMENT_BYTES_MAX, DOCUMENT_NAME_BYTES_MAX, DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX, MEMBERS_MAX,
    PARTITIONS_MAX, PARTITIONS_PER_COMMAND_MAX, PRODUCER_IDS_PER_BLOCK_MAX, PartitionChange, Rejection,
    Response, VIEWS_MAX,
};
pub use delta::TopicsDelta;
pub use handle::{ImageWatch, Metadata, MetadataConfig, ProposeError};
pub use image::{
    BrokerEpoch, BrokerImage, ClusterId, Document, MemberImage, MetadataImage, PartitionImage, Replicas,
    TopicImage, is_internal_topic,
};
pub use placement::{PlacementError, place};
pub use raft::{BatchResponse, TypeConfig};
pub use snapshot::SnapshotData;
pub use store::OpenError;
pub use views::{ListedTopic, ViewImage};
