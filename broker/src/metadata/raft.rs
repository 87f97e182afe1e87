//! Raft's types as this cluster uses them.

use openraft::{BasicNode, LogId, StoredMembership, Vote};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::{CommandBatch, Rejection, Response};
use super::image::ClusterId;
use super::snapshot::SnapshotData;
use crate::codec::Encoded;
use crate::ids::BrokerId;

openraft::declare_raft_types!(
    /// Node ids are broker ids; a node's address is where brokers reach it.
    pub TypeConfig:
        D = CommandBatch,
        R = BatchResponse,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = SnapshotData,
);

/// What became of each command of an entry, in order; empty for Raft's own entries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchResponse(pub Vec<Result<Response, Rejection>>);

pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type Membership = StoredMembership<u64, BasicNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type Raft = openraft::Raft<TypeConfig>;

/// How far the state has come; stored with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct AppliedState {
    pub(super) last_applied: Option<LogId<u64>>,
    pub(super) membership: Membership,
}

/// Whose file it is. A voter that came back under another number could vote twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) node_id: BrokerId,
    /// Checked when brokers meet, before any entry of a log is exchanged.
    pub(super) cluster_id: ClusterId,
}

/// Which disk this is, and whether it began the cluster. It is in the file from its first byte on: a joiner that forgot would
/// begin a cluster of its own under the name of the one that it has joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) incarnation: Uuid,
    pub(super) is_founder: bool,
}

impl Encoded for Vote<u64> {
    const KIND: u8 = 1;
}

impl Encoded for LogId<u64> {
    const KIND: u8 = 2;
}

impl Encoded for Entry {
    const KIND: u8 = 3;
}

impl Encoded for AppliedState {
    const KIND: u8 = 4;
}

// 5 is `Row`.

impl Encoded for Identity {
    const KIND: u8 = 6;
}

impl Encoded for Origin {
    const KIND: u8 = 16;
}

impl Encoded for super::command::Command {
    const KIND: u8 = 7;
}
