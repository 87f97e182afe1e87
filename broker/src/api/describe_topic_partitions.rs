//! DescribeTopicPartitions: topics page by page, so that a cluster of any size fits responses (KIP-966).

use millstream_wire::ErrorCode;
use millstream_wire::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use millstream_wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::ids::BrokerId;
use crate::metadata::ListedTopic;

/// `max.request.partition.size.limit` of Kafka.
const PARTITIONS_MAX: i32 = 2000;
const NO_LEADER: i32 = -1;
const OPERATIONS_OMITTED: i32 = i32::MIN;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest<'_>,
) -> DescribeTopicPartitionsResponse<'static> {
    let image = broker.metadata.image();
    let mut names: Vec<String> = match request.topics.is_empty() {
        true => image.all_listed().map(|topic| topic.name().as_str().to_owned()).collect(),
        false => request.topics.iter().map(|topic| topic.name.to_string()).collect(),
    };
    // A cursor goes on in the order of names.
    names.sort_unstable();
    names.dedup();
    let (mut first_topic, mut first_partition) = (String::new(), 0);
    if let Some(cursor) = request.cursor {
        (first_topic, first_partition) = (cursor.topic_name.into_owned(), cursor.partition_index.max(0));
    }
    let mut left = request.response_partition_limit.clamp(1, PARTITIONS_MAX) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= first_topic) {
        let skip = if name == first_topic { first_partition as usize } else { 0 };
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name.into(), partition_index: skip as i32 });
            break;
        }
        let Some(topic) = image.listed(&name) else {
            let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            broker.metrics.error(context.api, error_code);
            let missing = DescribeTopicPartitionsResponseTopic { error_code, ..described(None, Vec::new()) };
            response.topics.push(DescribeTopicPartitionsResponseTopic { name: Some(name.into()), ..missing });
            continue;
        };
        let partitions: Vec<_> = partitions(topic).skip(skip).take(left).collect();
        left -= partitions.len();
        let described_to = skip + partitions.len();
        response.topics.push(described(Some(topic), partitions));
        if described_to < topic.stored().partitions.len() {
            response.next_cursor =
                Some(Cursor { topic_name: name.into(), partition_index: described_to as i32 });
            break;
        }
    }
    response
}

fn described(
    topic: Option<ListedTopic<'_>>,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic<'static> {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::NONE,
        name: topic.map(|topic| topic.name().as_str().to_owned().into()),
        topic_id: topic.map(|topic| topic.id().0).unwrap_or_default(),
        is_internal: topic.is_some_and(|topic| topic.is_internal()),
        partitions,
        topic_authorized_operations: OPERATIONS_OMITTED,
    }
}

fn partitions(
    topic: ListedTopic<'_>,
) -> impl Iterator<Item = DescribeTopicPartitionsResponsePartition> + use<'_> {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    topic.partitions().map(move |(index, partition)| DescribeTopicPartitionsResponsePartition {
        error_code: match partition.leader {
            Some(_) => ErrorCode::NONE,
            None => ErrorCode::LEADER_NOT_AVAILABLE,
        },
        partition_index: index.0,
        leader_id: partition.leader.map_or(NO_LEADER, |id| id.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        // Java's Admin takes null for an error of its own.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..Default::default()
    })
}
