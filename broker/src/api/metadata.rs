//! Metadata: brokers, topics, partitions and who leads them; creates topics on a client's interest.

use std::collections::HashSet;

use millstream_wire::ErrorCode;
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millstream_wire::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::ids::{BrokerId, TopicId, TopicName};
use crate::metadata::{ListedTopic, MetadataImage};

const NO_LEADER: i32 = -1;
/// "Not asked for", as authorization does not exist.
const OPERATIONS_OMITTED: i32 = i32::MIN;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: MetadataRequest<'_>,
) -> MetadataResponse<'static> {
    let may_create = request.allow_auto_topic_creation && broker.config.auto_create_topics_enable;
    let topics = match request.topics {
        // Version 0 has no null: an empty list asks for all.
        Some(topics) if context.version == 0 && topics.is_empty() => all(&broker.metadata.image()),
        None => all(&broker.metadata.image()),
        Some(topics) => {
            let mut seen = HashSet::new();
            let mut described = Vec::new();
            for topic in topics {
                // Once is enough: a name takes bytes in the request, its partitions may take megabytes.
                if !seen.insert((topic.name.clone(), topic.topic_id)) {
                    continue;
                }
                described.push(describe(broker, topic, may_create).await);
            }
            described
        }
    };
    for topic in topics.iter().filter(|topic| topic.error_code != ErrorCode::NONE) {
        broker.metrics.error(context.api, topic.error_code);
    }
    let image = broker.metadata.image();
    MetadataResponse {
        brokers: image
            .brokers()
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id.0,
                host: broker.host.clone().into(),
                port: i32::from(broker.port),
                rack: broker.rack.clone().map(Into::into),
            })
            .collect(),
        cluster_id: Some(image.cluster_id().to_string().into()),
        controller_id: broker.metadata.controller().map_or(NO_LEADER, |id| id.0),
        topics,
        cluster_authorized_operations: OPERATIONS_OMITTED,
        ..Default::default()
    }
}

fn all(image: &MetadataImage) -> Vec<MetadataResponseTopic<'static>> {
    image.all_listed().map(topic_response).collect()
}

async fn describe(
    broker: &Broker,
    wanted: MetadataRequestTopic<'_>,
    may_create: bool,
) -> MetadataResponseTopic<'static> {
    let image = broker.metadata.image();
    let Some(name) = &wanted.name else {
        return match image.listed_by_id(TopicId(wanted.topic_id)) {
            Some(topic) => topic_response(topic),
            None => MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                topic_id: wanted.topic_id,
                ..Default::default()
            },
        };
    };
    if let Some(topic) = image.listed(name) {
        return topic_response(topic);
    }
    let error = match (TopicName::new(name), may_create) {
        (Err(_), _) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        (Ok(_), false) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        (Ok(name), true) => match broker.auto_create_topic(&name).await {
            Ok(()) => match broker.metadata.image().listed(name.as_str()) {
                Some(topic) => return topic_response(topic),
                // It was deleted again.
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            },
            Err(error) => super::error_code::of_topic(&error),
        },
    };
    MetadataResponseTopic {
        error_code: error,
        name: Some(name.clone().into_owned().into()),
        ..Default::default()
    }
}

fn topic_response(topic: ListedTopic<'_>) -> MetadataResponseTopic<'static> {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let partitions = topic
        .partitions()
        .map(|(index, partition)| MetadataResponsePartition {
            error_code: match partition.leader {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::LEADER_NOT_AVAILABLE,
            },
            partition_index: index.0,
            leader_id: partition.leader.map_or(NO_LEADER, |id| id.0),
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: ids(&partition.replicas),
            isr_nodes: ids(&partition.isr),
            ..Default::default()
        })
        .collect();
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(topic.name().as_str().to_owned().into()),
        topic_id: topic.id().0,
        is_internal: topic.is_internal(),
        partitions,
        topic_authorized_operations: OPERATIONS_OMITTED,
    }
}
