//! OffsetCommit: how far a group has come.

use millstream_wire::ErrorCode;
use millstream_wire::offset_commit_request::{OffsetCommitRequest, OffsetCommitRequestTopic};
use millstream_wire::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{
    CommitOffsets, GenerationId, GroupError, GroupId, GroupInstanceId, MemberId, OffsetToCommit,
};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::metadata::MetadataImage;

/// From here on a group that does not exist is an error of its own.
const NOT_FOUND_VERSION: i16 = 9;
/// From here on topics have ids instead of names (KIP-848).
const TOPIC_ID_VERSION: i16 = 10;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetCommitRequest<'_>,
) -> OffsetCommitResponse<'static> {
    let image = broker.metadata.image();
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(collect(&image, context.version, topic, &mut offsets));
    }
    let committed = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        let commit = CommitOffsets {
            group_id: GroupId::new(&request.group_id),
            generation_id: GenerationId(request.generation_id_or_member_epoch),
            member_id: MemberId::new(&request.member_id),
            group_instance_id: request.group_instance_id.as_deref().map(GroupInstanceId::new),
            retention_time_ms: Some(request.retention_time_ms).filter(|retention| *retention >= 0),
            knows_group_id_not_found: context.version >= NOT_FOUND_VERSION,
            offsets,
        };
        broker.groups.commit_offsets(commit).await
    };
    settle(&mut topics, committed);
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    for failed in partitions.filter(|partition| partition.error_code.is_error()) {
        broker.metrics.error(context.api, failed.error_code);
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// Takes the offsets of partitions that exist. Their part of the response waits for the commit; that of the
/// others has its error.
fn collect(
    image: &MetadataImage,
    version: i16,
    topic: OffsetCommitRequestTopic<'_>,
    offsets: &mut Vec<OffsetToCommit>,
) -> OffsetCommitResponseTopic<'static> {
    let (known, unknown) = match version >= TOPIC_ID_VERSION {
        true => (image.listed_by_id(TopicId(topic.topic_id)), ErrorCode::UNKNOWN_TOPIC_ID),
        false => (image.listed(&topic.name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        let index = PartitionIndex(partition.partition_index);
        let error_code = match known {
            None => unknown,
            // Offsets are kept only for what exists: otherwise a client could fill the memory with them.
            Some(known) if known.partition(index).is_none() => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(known) => {
                offsets.push(OffsetToCommit {
                    topic: known.name().clone(),
                    topic_id: Some(known.id()),
                    partition: index,
                    offset: Offset(partition.committed_offset),
                    leader_epoch: (partition.committed_leader_epoch >= 0)
                        .then_some(LeaderEpoch(partition.committed_leader_epoch)),
                    metadata: partition.committed_metadata.unwrap_or_default().into(),
                });
                ErrorCode::NONE
            }
        };
        partitions.push(OffsetCommitResponsePartition { partition_index: index.0, error_code });
    }
    OffsetCommitResponseTopic { name: topic.name.into_owned().into(), topic_id: topic.topic_id, partitions }
}

/// Gives the commit's results to the partitions that took part in it, which are those without an error.
fn settle(
    topics: &mut [OffsetCommitResponseTopic<'static>],
    committed: Result<Vec<Result<(), GroupError>>, GroupError>,
) {
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let taken = partitions.filter(|partition| !partition.error_code.is_error());
    let of = super::error_code::of_group;
    match committed {
        Ok(results) => {
            for (partition, result) in taken.zip(results) {
                partition.error_code = result.map_or_else(of, |()| ErrorCode::NONE);
            }
        }
        Err(error) => taken.for_each(|partition| partition.error_code = of(error)),
    }
}
