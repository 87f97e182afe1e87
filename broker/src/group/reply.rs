//! What the coordinator answers, in domain terms.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{PartitionIndex, TopicName};

use super::{
    AppendError, CommittedOffset, GenerationId, GroupError, GroupId, GroupInstanceId, GroupState, MemberId,
};

/// The answer to the [`Request`](super::Request) of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// One result per leaving member, in the request's order.
    Leave(Result<Vec<MemberLeft>, GroupError>),
    /// One result per offset, in the request's order.
    CommitOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    FetchOffsets(Result<Vec<FetchedTopic>, GroupError>),
    /// One result per partition, in the request's order.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    DeleteGroup(Result<(), GroupError>),
    DescribeGroup(Result<GroupDescription, GroupError>),
    ListGroups(Result<Vec<ListedGroup>, GroupError>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub generation_id: GenerationId,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub leader: MemberId,
    pub member_id: MemberId,
    /// Everyone in the generation, for the leader only.
    pub members: Vec<JoinedMember>,
    /// The leader keeps the assignment that stands (a static leader that came back, KIP-814).
    pub skip_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    pub metadata: Bytes,
}

/// A refused join also says which id the client is to use from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: GroupError,
    pub member_id: MemberId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLeft {
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    pub result: Result<(), GroupError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    pub topic: TopicName,
    /// `None` where nothing is committed.
    pub partitions: Vec<(PartitionIndex, Option<CommittedOffset>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub state: GroupState,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Empty unless the group is stable, like the assignment.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: GroupId,
    pub protocol_type: Option<Arc<str>>,
    pub state: GroupState,
}

impl Reply {
    /// This answer's counterpart for when what it promises could not be written.
    pub(super) fn not_durable(self, error: AppendError) -> Self {
        match self {
            Self::Join(Ok(joined)) => {
                Self::Join(Err(JoinRefused { error: error.for_group(), member_id: joined.member_id }))
            }
            Self::Join(Err(refused)) => Self::Join(Err(refused)),
            Self::Sync(_) => Self::Sync(Err(error.for_group())),
            Self::Heartbeat(_) => Self::Heartbeat(Err(error.for_group())),
            Self::Leave(_) => Self::Leave(Err(error.for_group())),
            Self::CommitOffsets(_) => Self::CommitOffsets(Err(error.for_offsets())),
            Self::FetchOffsets(_) => Self::FetchOffsets(Err(error.for_group())),
            Self::DeleteOffsets(_) => Self::DeleteOffsets(Err(error.for_group())),
            Self::DeleteGroup(_) => Self::DeleteGroup(Err(error.for_group())),
            Self::DescribeGroup(_) => Self::DescribeGroup(Err(error.for_group())),
            Self::ListGroups(_) => Self::ListGroups(Err(error.for_group())),
        }
    }
}
