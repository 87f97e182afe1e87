//! The group coordinator: classic consumer groups and their committed offsets.
//!
//! ```text
//!   api -> GroupCoordinator (handle) -> one actor per partition of __consumer_offsets
//!                                          |  owns a Shard: the pure core
//!                                          |    event -> step(now) -> commands
//!                                          +-> OffsetsLog (port): append, read
//! ```
//! A group lives in the partition its id hashes to; whoever leads that partition coordinates the group. The
//! partition's records are the truth: a change that a client was promised is durable there before the client
//! is answered, and a new leader replays them before it serves.
//!
//! The core is split by what it does to a group: `join`, `static_member`, `sync`, `membership` (heartbeat and
//! leave) and `commit` handle requests, `rebalance` moves a group from one generation to the next,
//! `classic_group` holds the members and their invariants. `writes` is the group commit. `record_codec` alone
//! knows the bytes of records.

mod ids;

mod config;
mod error;
mod group_state;
mod record;
mod reply;
mod request;

mod classic_group;
mod consumer_protocol;
mod member;
mod offsets;
mod partitioner;
mod step;
mod timers;
mod writes;

mod commit;
mod join;
mod membership;
mod rebalance;
mod static_member;
mod sync;

mod shard;

mod actor;
mod coordinator;
mod offsets_log;
mod record_codec;

#[cfg(test)]
mod testing;

pub use config::GroupConfig;
pub use coordinator::GroupCoordinator;
pub use error::{AppendError, GroupError};
pub use group_state::GroupState;
pub use ids::{GenerationId, GroupId, GroupInstanceId, MemberId};
pub use offsets_log::{LogChunk, LogRecord, OffsetsLog, ReadError};
pub use partitioner::partition_for;
pub use record::{CommittedOffset, GroupMetadata, GroupRecord, MemberMetadata, OffsetKey};
pub use reply::{
    FetchedTopic, GroupDescription, JoinRefused, Joined, JoinedMember, ListedGroup, MemberDescription,
    MemberLeft, Reply, Synced,
};
pub use request::{
    CommitOffsets, DeleteOffsets, FetchOffsets, FetchOffsetsTopic, Heartbeat, JoinGroup, LeaveGroup,
    LeavingMember, ListGroups, OffsetToCommit, Protocol, Request, SyncGroup, Token,
};
pub use shard::{Event, Shard};
pub use step::{Command, Now};
