//! What `__consumer_offsets` holds, in domain terms; `record_codec` knows the bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};

use super::{GenerationId, GroupId, GroupInstanceId, MemberId};

/// One record: a key's value, or its tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    GroupMetadata { group_id: GroupId, value: Option<GroupMetadata> },
    OffsetCommit { key: OffsetKey, value: Option<CommittedOffset> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetKey {
    pub group_id: GroupId,
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

/// An offset a group has committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: Arc<str>,
    pub commit_timestamp_ms: i64,
    /// Set by old clients only; others leave it to the broker's retention.
    pub expire_timestamp_ms: Option<i64>,
    /// `None` in records from before topics had ids.
    pub topic_id: Option<TopicId>,
}

/// A generation as it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    pub protocol_type: Option<Arc<str>>,
    pub generation_id: GenerationId,
    pub protocol_name: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<MemberMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: MemberId,
    pub group_instance_id: Option<GroupInstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata in the generation's protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl GroupRecord {
    pub fn group_id(&self) -> &GroupId {
        match self {
            Self::GroupMetadata { group_id, .. } => group_id,
            Self::OffsetCommit { key, .. } => &key.group_id,
        }
    }

    /// No less than the record takes in a batch: for keeping a batch below its limit.
    pub(super) fn size_bound(&self) -> usize {
        // Lengths, fixed-width fields and the record's own framing.
        const FIXED: usize = 128;
        let variable = match self {
            Self::GroupMetadata { group_id, value } => {
                group_id.as_str().len() + value.as_ref().map_or(0, GroupMetadata::size_bound)
            }
            Self::OffsetCommit { key, value } => {
                let metadata = value.as_ref().map_or(0, |value| value.metadata.len());
                key.group_id.as_str().len() + key.topic.as_str().len() + metadata
            }
        };
        FIXED + variable
    }
}

impl GroupMetadata {
    fn size_bound(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let leader = self.leader.as_ref().map_or(0, |leader| leader.as_str().len());
        let members: usize = self.members.iter().map(MemberMetadata::size_bound).sum();
        text(&self.protocol_type) + text(&self.protocol_name) + leader + members
    }
}

impl MemberMetadata {
    fn size_bound(&self) -> usize {
        const FIXED: usize = 32;
        FIXED
            + self.member_id.as_str().len()
            + self.group_instance_id.as_ref().map_or(0, |id| id.as_str().len())
            + self.client_id.len()
            + self.client_host.len()
            + self.subscription.len()
            + self.assignment.len()
    }
}
