//! What clients ask of the coordinator, in domain terms.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName, TopicPartition};

use super::{GenerationId, GroupError, GroupId, GroupInstanceId, GroupState, JoinRefused, MemberId, Reply};

/// Stands for one request until it is answered. It can't be copied, so it can't be answered twice.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

#[derive(Debug, Clone)]
pub enum Request {
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    DeleteGroup(GroupId),
    DescribeGroup(GroupId),
    ListGroups(ListGroups),
}

#[derive(Debug, Clone)]
pub struct JoinGroup {
    pub group_id: GroupId,
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// A member without an id is given one and has to join again (JoinGroup v4, KIP-394).
    pub requires_known_member_id: bool,
    /// The client knows `skip_assignment` (JoinGroup v9, KIP-814).
    pub supports_skipping_assignment: bool,
    pub reason: Option<Arc<str>>,
    /// Makes the id of a new member.
    pub random: Uuid,
}

/// An assignment protocol a member knows, and what it has to say in it. The bytes are the clients' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

impl Protocol {
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.metadata.len()
    }
}

#[derive(Debug, Clone)]
pub struct SyncGroup {
    pub group_id: GroupId,
    pub generation_id: GenerationId,
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    /// Sent by the leader only.
    pub assignments: Vec<(MemberId, Bytes)>,
}

#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub group_id: GroupId,
    pub generation_id: GenerationId,
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
}

#[derive(Debug, Clone)]
pub struct LeaveGroup {
    pub group_id: GroupId,
    pub members: Vec<LeavingMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// Unknown (empty) when an administrator removes a static member by its instance id.
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
}

#[derive(Debug, Clone)]
pub struct CommitOffsets {
    pub group_id: GroupId,
    /// Negative for a client that takes no part in the group's rebalances.
    pub generation_id: GenerationId,
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    /// Kept this long instead of the broker's retention (OffsetCommit v2 to v4).
    pub retention_time_ms: Option<i64>,
    /// The client knows GROUP_ID_NOT_FOUND (OffsetCommit v9).
    pub knows_group_id_not_found: bool,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone)]
pub struct OffsetToCommit {
    pub topic: TopicName,
    pub topic_id: Option<TopicId>,
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: Arc<str>,
}

#[derive(Debug, Clone)]
pub struct FetchOffsets {
    pub group_id: GroupId,
    /// `None` asks for all the group has.
    pub topics: Option<Vec<FetchOffsetsTopic>>,
    /// Answer only when every commit accepted before has become durable or failed.
    pub require_stable: bool,
}

#[derive(Debug, Clone)]
pub struct FetchOffsetsTopic {
    pub topic: TopicName,
    /// When given, an offset committed for another topic of the same name is not answered.
    pub topic_id: Option<TopicId>,
    pub partitions: Vec<PartitionIndex>,
}

#[derive(Debug, Clone)]
pub struct DeleteOffsets {
    pub group_id: GroupId,
    pub partitions: Vec<TopicPartition>,
}

/// The groups that are in one of these states; by default, in any.
#[derive(Debug, Clone)]
pub struct ListGroups {
    pub states: Vec<GroupState>,
}

impl Default for ListGroups {
    fn default() -> Self {
        Self { states: GroupState::ALL.to_vec() }
    }
}

impl Request {
    /// The group it is about; `None` for all.
    pub(super) fn group_id(&self) -> Option<&GroupId> {
        match self {
            Self::Join(request) => Some(&request.group_id),
            Self::Sync(request) => Some(&request.group_id),
            Self::Heartbeat(request) => Some(&request.group_id),
            Self::Leave(request) => Some(&request.group_id),
            Self::CommitOffsets(request) => Some(&request.group_id),
            Self::FetchOffsets(request) => Some(&request.group_id),
            Self::DeleteOffsets(request) => Some(&request.group_id),
            Self::DeleteGroup(group_id) | Self::DescribeGroup(group_id) => Some(group_id),
            Self::ListGroups(_) => None,
        }
    }

    /// Requests of members need a group with a name; committed offsets may be kept under the empty one, as
    /// in Kafka, where ancient clients did that.
    pub(super) fn needs_named_group(&self) -> bool {
        match self {
            Self::Join(_) | Self::Sync(_) | Self::Heartbeat(_) | Self::Leave(_) | Self::DeleteOffsets(_) => {
                true
            }
            Self::CommitOffsets(_)
            | Self::FetchOffsets(_)
            | Self::DeleteGroup(_)
            | Self::DescribeGroup(_)
            | Self::ListGroups(_) => false,
        }
    }

    /// The answer to a request that can't be looked at.
    pub(super) fn refuse(&self, error: GroupError) -> Reply {
        match self {
            Self::Join(request) => {
                Reply::Join(Err(JoinRefused { error, member_id: request.member_id.clone() }))
            }
            Self::Sync(_) => Reply::Sync(Err(error)),
            // A member can't tell a coordinator that is loading from one that has lost it: keep it calm.
            Self::Heartbeat(_) if error == GroupError::CoordinatorLoadInProgress => Reply::Heartbeat(Ok(())),
            Self::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Self::Leave(_) => Reply::Leave(Err(error)),
            Self::CommitOffsets(_) => Reply::CommitOffsets(Err(error)),
            Self::FetchOffsets(_) => Reply::FetchOffsets(Err(error)),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Self::DeleteGroup(_) => Reply::DeleteGroup(Err(error)),
            Self::DescribeGroup(_) => Reply::DescribeGroup(Err(error)),
            Self::ListGroups(_) => Reply::ListGroups(Err(error)),
        }
    }
}
