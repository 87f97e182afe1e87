//! OffsetFetch: how far groups have come.

use std::collections::HashSet;

use millstream_wire::ErrorCode;
use millstream_wire::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_wire::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{CommittedOffset, FetchOffsets, FetchOffsetsTopic, GroupError, GroupId};
use crate::ids::{PartitionIndex, TopicId, TopicName};
use crate::metadata::MetadataImage;

/// From here on there is an error of the whole request.
const TOP_LEVEL_ERROR_VERSION: i16 = 2;
/// From here on several groups are asked for at once.
const GROUPS_VERSION: i16 = 8;
/// From here on topics have ids instead of names (KIP-848).
const TOPIC_ID_VERSION: i16 = 10;

const NO_OFFSET: i64 = -1;
const NO_LEADER_EPOCH: i32 = -1;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequest<'_>,
) -> OffsetFetchResponse<'static> {
    let require_stable = request.require_stable;
    if context.version < GROUPS_VERSION {
        return single(broker, context, request).await;
    }
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for group in request.groups {
        // Once is enough: a name takes bytes in the request, its offsets may take megabytes.
        if seen.insert(group.group_id.clone()) {
            groups.push(fetch(broker, context, group, require_stable).await);
        }
    }
    OffsetFetchResponse { groups, ..Default::default() }
}

/// Before several groups could be asked for, the one group's answer was the response itself.
async fn single(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequest<'_>,
) -> OffsetFetchResponse<'static> {
    let topics = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..Default::default()
            })
            .collect::<Vec<_>>()
    });
    let asked = if context.version < TOP_LEVEL_ERROR_VERSION { topics.clone() } else { None };
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let mut group = fetch(broker, context, group, request.require_stable).await;
    if group.error_code.is_error() {
        // Where there is no error of the request, each partition has it.
        group.topics = asked.into_iter().flatten().map(|topic| absent(topic, group.error_code)).collect();
    }
    let topics = group
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| OffsetFetchResponsePartition {
                    partition_index: partition.partition_index,
                    committed_offset: partition.committed_offset,
                    committed_leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.metadata,
                    error_code: partition.error_code,
                })
                .collect(),
        })
        .collect();
    let error_code =
        if context.version < TOP_LEVEL_ERROR_VERSION { ErrorCode::NONE } else { group.error_code };
    OffsetFetchResponse { topics, error_code, ..Default::default() }
}

async fn fetch(
    broker: &Broker,
    context: &RequestContext,
    group: OffsetFetchRequestGroup<'_>,
    require_stable: bool,
) -> OffsetFetchResponseGroup<'static> {
    let group_id = GroupId::new(&group.group_id);
    let by_id = context.version >= TOPIC_ID_VERSION;
    let fetched = match group.topics {
        Some(topics) => asked_topics(broker, &group_id, topics, by_id, require_stable).await,
        None => all_topics(broker, &group_id, by_id, require_stable).await,
    };
    let (topics, error_code) = match fetched {
        Ok(topics) => (topics, ErrorCode::NONE),
        Err(error) => {
            let error_code = super::error_code::of_group(error);
            broker.metrics.error(context.api, error_code);
            (Vec::new(), error_code)
        }
    };
    OffsetFetchResponseGroup { group_id: group.group_id.into_owned().into(), topics, error_code }
}

async fn asked_topics(
    broker: &Broker,
    group_id: &GroupId,
    topics: Vec<OffsetFetchRequestTopics<'_>>,
    by_id: bool,
    require_stable: bool,
) -> Result<Vec<OffsetFetchResponseTopics<'static>>, GroupError> {
    let image = broker.metadata.image();
    let mut known = Vec::new();
    let mut answered = Vec::new();
    let mut seen = HashSet::new();
    for mut topic in topics {
        // Each offset once, however often it is asked for: the answer must not outgrow the question.
        if !seen.insert((topic.name.clone(), topic.topic_id)) {
            continue;
        }
        topic.partition_indexes.sort_unstable();
        topic.partition_indexes.dedup();
        match name(&image, &topic, by_id) {
            Ok((name, topic_id)) => {
                let partitions = topic.partition_indexes.into_iter().map(PartitionIndex).collect();
                known.push(FetchOffsetsTopic { topic: name, topic_id, partitions });
            }
            Err(error_code) => answered.push(absent(topic, error_code)),
        }
    }
    let topic_ids: Vec<_> = known.iter().map(|topic| topic.topic_id).collect();
    let request = FetchOffsets { group_id: group_id.clone(), topics: Some(known), require_stable };
    let fetched = broker.groups.fetch_offsets(request).await?;
    answered.extend(
        fetched.into_iter().zip(topic_ids).map(|(topic, topic_id)| {
            topic_response(&topic.topic, topic_id.filter(|_| by_id), topic.partitions)
        }),
    );
    Ok(answered)
}

async fn all_topics(
    broker: &Broker,
    group_id: &GroupId,
    by_id: bool,
    require_stable: bool,
) -> Result<Vec<OffsetFetchResponseTopics<'static>>, GroupError> {
    let request = FetchOffsets { group_id: group_id.clone(), topics: None, require_stable };
    let fetched = broker.groups.fetch_offsets(request).await?;
    let image = broker.metadata.image();
    let respond = |topic: crate::group::FetchedTopic| {
        let topic_id = match by_id {
            // A topic that is no more has no id to be told by.
            true => Some(image.listed(topic.topic.as_str())?.id()),
            false => None,
        };
        Some(topic_response(&topic.topic, topic_id, topic.partitions))
    };
    Ok(fetched.into_iter().filter_map(respond).collect())
}

/// The topic's name, and its id where it is known: offsets of another topic of that name are not its own.
/// Offsets of a topic that does not exist can be asked for by name.
fn name(
    image: &MetadataImage,
    topic: &OffsetFetchRequestTopics<'_>,
    by_id: bool,
) -> Result<(TopicName, Option<TopicId>), ErrorCode> {
    if by_id {
        let known = image.listed_by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        return Ok((known.name().clone(), Some(known.id())));
    }
    match image.listed(&topic.name) {
        Some(known) => Ok((known.name().clone(), Some(known.id()))),
        // Nothing can have been committed under a name that no topic can have.
        None => TopicName::new(&topic.name).map(|name| (name, None)).map_err(|_| ErrorCode::NONE),
    }
}

fn topic_response(
    name: &TopicName,
    topic_id: Option<TopicId>,
    partitions: Vec<(PartitionIndex, Option<CommittedOffset>)>,
) -> OffsetFetchResponseTopics<'static> {
    OffsetFetchResponseTopics {
        name: name.as_str().to_owned().into(),
        topic_id: topic_id.map(|id| id.0).unwrap_or_default(),
        partitions: partitions
            .into_iter()
            .map(|(partition, offset)| match offset {
                Some(offset) => OffsetFetchResponsePartitions {
                    partition_index: partition.0,
                    committed_offset: offset.offset.0,
                    committed_leader_epoch: offset.leader_epoch.map_or(NO_LEADER_EPOCH, |epoch| epoch.0),
                    metadata: Some(offset.metadata.to_string().into()),
                    error_code: ErrorCode::NONE,
                },
                None => nothing(partition.0, ErrorCode::NONE),
            })
            .collect(),
    }
}

fn absent(topic: OffsetFetchRequestTopics<'_>, error_code: ErrorCode) -> OffsetFetchResponseTopics<'static> {
    OffsetFetchResponseTopics {
        name: topic.name.into_owned().into(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.into_iter().map(|index| nothing(index, error_code)).collect(),
    }
}

fn nothing(partition_index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: NO_OFFSET,
        committed_leader_epoch: NO_LEADER_EPOCH,
        metadata: Some("".into()),
        error_code,
    }
}
