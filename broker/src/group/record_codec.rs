//! The bytes of `__consumer_offsets`: Kafka's formats, so that its tools read ours and we read its.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use millstream_wire::group_metadata_key::GroupMetadataKey;
use millstream_wire::group_metadata_value::{GroupMetadataValue, MemberMetadata as WireMember};
use millstream_wire::offset_commit_key::OffsetCommitKey;
use millstream_wire::offset_commit_value::OffsetCommitValue;
use millstream_wire::{
    CoordinatorKey, DecodeError, EncodeError, coordinator_record_type, decode_coordinator_key,
    decode_versioned, encode_coordinator_key, encode_versioned,
};
use uuid::Uuid;

use super::{
    CommittedOffset, GenerationId, GroupId, GroupInstanceId, GroupMetadata, GroupRecord, LogRecord, MemberId,
    MemberMetadata, OffsetKey,
};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName, TopicNameError};

/// Kafka 4.3 writes group metadata in this version.
const GROUP_METADATA_VERSION: i16 = 3;
/// The version that has topic ids.
const OFFSET_COMMIT_VERSION: i16 = 4;
/// The one version that has an expiry time of the offset's own.
const OFFSET_COMMIT_EXPIRING_VERSION: i16 = 1;

/// Commits to topics from before Kafka 0.9 had their own key version with the same fields.
const OFFSET_COMMIT_OLD_RECORD_TYPE: i16 = 0;

/// A record that can't be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("malformed record key")]
    Key(#[source] DecodeError),
    #[error("malformed value of group {group_id}")]
    Value { group_id: GroupId, source: DecodeError },
    #[error("invalid topic name in a commit of group {group_id}")]
    Topic { group_id: GroupId, source: TopicNameError },
}

pub(super) fn encode(record: &GroupRecord) -> LogRecord {
    const BOUNDED: &str = "what a record holds came in through the protocol's own limits";
    match record {
        GroupRecord::GroupMetadata { group_id, value } => {
            let key = encode_coordinator_key(&GroupMetadataKey { group: group_id.as_str().into() });
            let value = value.as_ref().map(|value| encode_group(value).expect(BOUNDED));
            LogRecord { key: key.expect(BOUNDED), value }
        }
        GroupRecord::OffsetCommit { key, value } => {
            let key = encode_coordinator_key(&OffsetCommitKey {
                group: key.group_id.as_str().into(),
                topic: key.topic.as_str().into(),
                partition: key.partition.0,
            });
            let value = value.as_ref().map(|value| encode_offset(value).expect(BOUNDED));
            LogRecord { key: key.expect(BOUNDED), value }
        }
    }
}

fn encode_group(value: &GroupMetadata) -> Result<Bytes, EncodeError> {
    let members = value.members.iter().map(|member| WireMember {
        member_id: member.member_id.as_str().into(),
        group_instance_id: member.group_instance_id.as_ref().map(|id| id.as_str().into()),
        client_id: (*member.client_id).into(),
        client_host: (*member.client_host).into(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: (&*member.subscription).into(),
        assignment: (&*member.assignment).into(),
    });
    let value = GroupMetadataValue {
        protocol_type: value.protocol_type.as_deref().unwrap_or_default().into(),
        generation: value.generation_id.0,
        protocol: value.protocol_name.as_deref().map(Into::into),
        leader: value.leader.as_ref().map(|leader| leader.as_str().into()),
        current_state_timestamp: value.state_timestamp_ms.unwrap_or(-1),
        members: members.collect(),
    };
    encode_versioned(&value, GROUP_METADATA_VERSION)
}

fn encode_offset(value: &CommittedOffset) -> Result<Bytes, EncodeError> {
    let version = match value.expire_timestamp_ms {
        Some(_) => OFFSET_COMMIT_EXPIRING_VERSION,
        None => OFFSET_COMMIT_VERSION,
    };
    let value = OffsetCommitValue {
        offset: value.offset.0,
        leader_epoch: value.leader_epoch.map_or(-1, |epoch| epoch.0),
        metadata: (*value.metadata).into(),
        commit_timestamp: value.commit_timestamp_ms,
        expire_timestamp: value.expire_timestamp_ms.unwrap_or(-1),
        topic_id: value.topic_id.map_or(Uuid::nil(), |id| id.0),
    };
    encode_versioned(&value, version)
}

/// `None` for a record of a kind that is not ours: other group types, and what is yet to be invented.
pub(super) fn decode(record: &LogRecord) -> Result<Option<GroupRecord>, RecordError> {
    let record_type = coordinator_record_type(&record.key).map_err(RecordError::Key)?;
    match record_type {
        GroupMetadataKey::RECORD_TYPE => decode_group(record).map(Some),
        OffsetCommitKey::RECORD_TYPE | OFFSET_COMMIT_OLD_RECORD_TYPE => decode_offset(record).map(Some),
        _ => Ok(None),
    }
}

fn decode_group(record: &LogRecord) -> Result<GroupRecord, RecordError> {
    let key: GroupMetadataKey<'_> = decode_coordinator_key(&record.key).map_err(RecordError::Key)?;
    let group_id = GroupId::new(&key.group);
    let Some(bytes) = &record.value else {
        return Ok(GroupRecord::GroupMetadata { group_id, value: None });
    };
    let (_, value) = match decode_versioned::<GroupMetadataValue<'_>>(bytes) {
        Ok(decoded) => decoded,
        Err(source) => return Err(RecordError::Value { group_id, source }),
    };
    let members = value.members.into_iter().map(|member| MemberMetadata {
        member_id: MemberId::new(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(GroupInstanceId::new),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        // Version 0 had one timeout for both.
        rebalance_timeout_ms: match member.rebalance_timeout {
            -1 => member.session_timeout,
            timeout => timeout,
        },
        session_timeout_ms: member.session_timeout,
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    });
    let value = GroupMetadata {
        protocol_type: Some(value.protocol_type).filter(|name| !name.is_empty()).map(Arc::from),
        generation_id: GenerationId(value.generation),
        protocol_name: value.protocol.map(Arc::from),
        leader: value.leader.as_deref().map(MemberId::new),
        state_timestamp_ms: Some(value.current_state_timestamp).filter(|timestamp| *timestamp != -1),
        members: members.collect(),
    };
    Ok(GroupRecord::GroupMetadata { group_id, value: Some(value) })
}

fn decode_offset(record: &LogRecord) -> Result<GroupRecord, RecordError> {
    let key: OffsetCommitKey<'_> = decode_coordinator_key(&record.key).map_err(RecordError::Key)?;
    let group_id = GroupId::new(&key.group);
    let topic = match TopicName::new(&key.topic) {
        Ok(topic) => topic,
        Err(source) => return Err(RecordError::Topic { group_id, source }),
    };
    let value = match &record.value {
        None => None,
        Some(bytes) => match decode_versioned::<OffsetCommitValue<'_>>(bytes) {
            Ok((_, value)) => Some(committed_offset(value)),
            Err(source) => return Err(RecordError::Value { group_id, source }),
        },
    };
    let key = OffsetKey { group_id, topic, partition: PartitionIndex(key.partition) };
    Ok(GroupRecord::OffsetCommit { key, value })
}

fn committed_offset(value: OffsetCommitValue<'_>) -> CommittedOffset {
    CommittedOffset {
        offset: Offset(value.offset),
        leader_epoch: (value.leader_epoch >= 0).then_some(LeaderEpoch(value.leader_epoch)),
        metadata: value.metadata.into(),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
        topic_id: (!value.topic_id.is_nil()).then_some(TopicId(value.topic_id)),
    }
}
