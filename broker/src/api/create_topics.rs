//! CreateTopics: each topic succeeds or fails on its own; a topic named twice fails.

use std::collections::{BTreeMap, HashMap};

use millstream_wire::ErrorCode;
use millstream_wire::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millstream_wire::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};

use super::RequestContext;
use super::error_code::of_topic;
use crate::broker::{Broker, NewTopic, TopicError};
use crate::config::describe_topic;
use crate::ids::BrokerId;
use crate::metadata::TopicImage;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: CreateTopicsRequest<'_>,
) -> CreateTopicsResponse<'static> {
    let mut named: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.clone().into_owned()).or_default() += 1;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone().into_owned();
        let created = match (named.remove(&name), new_topic(&topic, request.validate_only)) {
            (Some(1), Ok(new)) => {
                broker.create_topic(&name, new).await.map_err(|error| (of_topic(&error), error.to_string()))
            }
            (Some(1), Err(error)) => Err((of_topic(&error), error.to_string())),
            // All but the first answer of a name that came twice are left out, as in Kafka.
            (None, _) => continue,
            (Some(_), _) => Err((ErrorCode::INVALID_REQUEST, "the request names the topic twice".to_owned())),
        };
        topics.push(match created {
            Ok(topic) => result(broker, &topic),
            Err((code, message)) => {
                broker.metrics.error(context.api, code);
                CreatableTopicResult {
                    name: name.into(),
                    error_code: code,
                    error_message: Some(message.into()),
                    ..Default::default()
                }
            }
        });
    }
    CreateTopicsResponse { topics, ..Default::default() }
}

fn new_topic(topic: &CreatableTopic<'_>, validate_only: bool) -> Result<NewTopic, TopicError> {
    let configs = topic.configs.iter().filter_map(|config| {
        // A null value asks for the default, which is what leaving it out gives.
        Some((config.name.clone().into_owned(), config.value.clone()?.into_owned()))
    });
    let assignment = match topic.assignments.is_empty() {
        true => None,
        false => Some(assignment(topic)?),
    };
    Ok(NewTopic {
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignment,
        configs: configs.collect(),
        validate_only,
    })
}

/// The replicas of each partition, which the request may name in any order.
fn assignment(topic: &CreatableTopic<'_>) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let by_index: BTreeMap<i32, Vec<BrokerId>> = topic
        .assignments
        .iter()
        .map(|assigned| {
            (assigned.partition_index, assigned.broker_ids.iter().map(|&id| BrokerId(id)).collect())
        })
        .collect();
    let consecutive =
        by_index.len() == topic.assignments.len() && by_index.keys().copied().eq(0..by_index.len() as i32);
    match consecutive {
        true => Ok(by_index.into_values().collect()),
        false => Err(TopicError::Assignment("partitions are not numbered from 0 without a gap")),
    }
}

fn result(broker: &Broker, topic: &TopicImage) -> CreatableTopicResult<'static> {
    let configs =
        describe_topic(&topic.configs, &broker.config).into_iter().map(|config| CreatableTopicConfigs {
            name: config.name.into(),
            value: config.value.map(Into::into),
            read_only: config.is_read_only,
            config_source: config.source as i8,
            is_sensitive: config.is_sensitive,
        });
    CreatableTopicResult {
        name: topic.name.as_str().to_owned().into(),
        topic_id: topic.id.0,
        num_partitions: topic.partition_count(),
        replication_factor: topic.partitions.first().map_or(0, |partition| partition.replicas.len() as i16),
        configs: Some(configs.collect()),
        ..Default::default()
    }
}
