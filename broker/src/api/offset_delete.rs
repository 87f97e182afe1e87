//! OffsetDelete: forget how far a group has come in some partitions.

use millstream_wire::ErrorCode;
use millstream_wire::offset_delete_request::OffsetDeleteRequest;
use millstream_wire::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{DeleteOffsets, GroupId};
use crate::ids::{PartitionIndex, TopicPartition};

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetDeleteRequest<'_>,
) -> OffsetDeleteResponse<'static> {
    let image = broker.metadata.image();
    let mut asked = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = image.listed(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let partition_index = partition.partition_index;
            let error_code = match known {
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(known) => {
                    let partition = PartitionIndex(partition_index);
                    asked.push(TopicPartition { topic: known.name().clone(), partition });
                    ErrorCode::NONE
                }
            };
            partitions.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        topics.push(OffsetDeleteResponseTopic { name: topic.name.into_owned().into(), partitions });
    }
    let delete = DeleteOffsets { group_id: GroupId::new(&request.group_id), partitions: asked };
    let results = match broker.groups.delete_offsets(delete).await {
        Ok(results) => results,
        Err(error) => {
            let error_code = super::error_code::of_group(error);
            broker.metrics.error(context.api, error_code);
            return OffsetDeleteResponse { error_code, ..Default::default() };
        }
    };
    // The results are those of the partitions that were asked for: the ones without an error.
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, result) in partitions.filter(|partition| !partition.error_code.is_error()).zip(results) {
        partition.error_code = result.map_or_else(super::error_code::of_group, |()| ErrorCode::NONE);
    }
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    for failed in partitions.filter(|partition| partition.error_code.is_error()) {
        broker.metrics.error(context.api, failed.error_code);
    }
    OffsetDeleteResponse { topics, ..Default::default() }
}
