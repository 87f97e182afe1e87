//! Where a group stands, and where partitions begin.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use millstream_runtime::stage::{CommittedOffset, TopicPartition};
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_wire::{ApiKey, ErrorCode};

use super::by_topic::by_topic;
use super::connection::Connection;
use super::error::{ClientError, check};
use super::membership::{GroupClient, Membership};
use super::transport::Transport;

/// A consumer, not a follower.
pub(crate) const REPLICA_ID_CONSUMER: i32 = -1;

/// ListOffsets' words for where a partition begins, and where it ends.
pub(crate) const TIMESTAMP_EARLIEST: i64 = -2;
pub(crate) const TIMESTAMP_LATEST: i64 = -1;

/// The coordinator's word for "nothing committed", and ListOffsets' for "no such record".
pub(crate) const NO_OFFSET: i64 = -1;

/// Offsets by partition.
pub(crate) type Offsets = HashMap<TopicPartition, i64>;

impl<T: Transport> GroupClient<T> {
    /// The offsets that the group has committed; partitions without one are left out.
    pub(crate) async fn committed(&self, partitions: &[TopicPartition]) -> Result<Offsets, ClientError> {
        let key = ApiKey::OffsetFetch;
        let topics = partitions.iter().map(|of| (Arc::clone(&of.topic), of.partition));
        let topics = by_topic(topics);
        let topics = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopics {
            name: Cow::Borrowed(name),
            partition_indexes: partitions.clone(),
            ..Default::default()
        });
        // Member and epoch are for the new consumer protocol: classic groups leave them out.
        let group = OffsetFetchRequestGroup {
            group_id: Cow::Borrowed(&self.config.group_id),
            topics: Some(topics.collect()),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
        let read = self.connection.call(&request, |response, _| {
            let missing = || ClientError::Incomplete { key, missing: "the group".to_owned() };
            let group = response.groups.into_iter().next().ok_or_else(missing)?;
            check(key, group.error_code)?;
            let mut offsets = Offsets::new();
            for topic in group.topics {
                let name: Arc<str> = topic.name.as_ref().into();
                for found in topic.partitions {
                    let partition =
                        TopicPartition { topic: Arc::clone(&name), partition: found.partition_index };
                    if found.error_code.is_error() {
                        return Err(refused(key, partition, found.error_code));
                    }
                    if found.committed_offset != NO_OFFSET {
                        offsets.insert(partition, found.committed_offset);
                    }
                }
            }
            Ok(offsets)
        });
        read.await?
    }

    /// Commits as a member of the generation; fails if any of the partitions was refused.
    pub(crate) async fn commit(
        &self,
        membership: &Membership,
        offsets: &[CommittedOffset],
    ) -> Result<(), ClientError> {
        let key = ApiKey::OffsetCommit;
        let topics = by_topic(offsets.iter().map(|offset| (Arc::clone(&offset.topic), offset)));
        let topics = topics.iter().map(|(name, offsets)| OffsetCommitRequestTopic {
            name: Cow::Borrowed(name),
            partitions: offsets.iter().copied().map(committed_partition).collect(),
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: Cow::Borrowed(&self.config.group_id),
            generation_id_or_member_epoch: membership.generation_id,
            member_id: Cow::Borrowed(&membership.member_id),
            group_instance_id: self.config.group_instance_id.as_deref().map(Cow::Borrowed),
            topics: topics.collect(),
            ..Default::default()
        };
        let read = self.connection.call(&request, |response, _| {
            let mut answered = 0;
            for topic in response.topics {
                for found in topic.partitions {
                    answered += 1;
                    if found.error_code.is_error() {
                        let (topic, partition) = (topic.name.as_ref().into(), found.partition_index);
                        return Err(refused(key, TopicPartition { topic, partition }, found.error_code));
                    }
                }
            }
            if answered < offsets.len() {
                return Err(ClientError::Incomplete { key, missing: "each partition".to_owned() });
            }
            Ok(())
        });
        read.await?
    }
}

fn committed_partition(offset: &CommittedOffset) -> OffsetCommitRequestPartition<'_> {
    OffsetCommitRequestPartition {
        partition_index: offset.partition,
        committed_offset: offset.next_offset,
        committed_metadata: Some(Cow::Borrowed(&offset.metadata)),
        ..Default::default()
    }
}

/// The first offsets of partitions whose records have at least that timestamp, or where they begin or end. A partition
/// that has no such record has [`NO_OFFSET`]; one that has an error now is left out, unless it will have it for ever.
pub(crate) async fn list_offsets<'a, T: Transport>(
    connection: &Connection<T>,
    partitions: impl IntoIterator<Item = (&'a TopicPartition, i64)>,
) -> Result<Offsets, ClientError> {
    let questions = partitions.into_iter();
    let topics = by_topic(questions.map(|(of, at)| (Arc::clone(&of.topic), (of.partition, at))));
    if topics.is_empty() {
        return Ok(Offsets::new());
    }
    let question = |&(partition_index, timestamp): &(i32, i64)| ListOffsetsPartition {
        partition_index,
        timestamp,
        ..Default::default()
    };
    let topics = topics.iter().map(|(name, partitions)| ListOffsetsTopic {
        name: Cow::Borrowed(name),
        partitions: partitions.iter().map(question).collect(),
    });
    let request = ListOffsetsRequest {
        replica_id: REPLICA_ID_CONSUMER,
        topics: topics.collect(),
        ..Default::default()
    };
    let read = connection.call(&request, |response, _| {
        let mut offsets = Offsets::new();
        for topic in response.topics {
            let name: Arc<str> = topic.name.as_ref().into();
            for found in topic.partitions {
                let partition = TopicPartition { topic: Arc::clone(&name), partition: found.partition_index };
                match found.error_code {
                    ErrorCode::NONE => {
                        offsets.insert(partition, found.offset);
                    }
                    code if code.is_retriable() => {}
                    code => return Err(refused(ApiKey::ListOffsets, partition, code)),
                }
            }
        }
        Ok(offsets)
    });
    read.await?
}

pub(crate) fn refused(key: ApiKey, partition: TopicPartition, code: ErrorCode) -> ClientError {
    ClientError::PartitionRefused { key, partition, code, detail: String::new() }
}
