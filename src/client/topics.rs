//! How many partitions topics have, and what they demand of records.

use std::borrow::Cow;
use std::collections::BTreeMap;

use millstream_runtime::stage::TopicRules;
use millstream_wire::ErrorCode;
use millstream_wire::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use millstream_wire::describe_configs_response::DescribeConfigsResult;
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};

use super::connection::{CallError, Connection};
use super::error::ClientError;
use super::transport::Transport;

/// `ConfigResource.Type` of Kafka.
const RESOURCE_TOPIC: i8 = 2;

const BATCH_BYTES_MAX: &str = "max.message.bytes";
const CLEANUP_POLICY: &str = "cleanup.policy";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE_MAX: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER_MAX: &str = "message.timestamp.after.max.ms";
const RULES: [&str; 5] =
    [BATCH_BYTES_MAX, CLEANUP_POLICY, TIMESTAMP_TYPE, TIMESTAMP_BEFORE_MAX, TIMESTAMP_AFTER_MAX];

/// The number of partitions of each topic that exists. Names that no topic can have do not exist either.
pub(crate) async fn partition_counts<T: Transport>(
    connection: &Connection<T>,
    topics: impl IntoIterator<Item = &str>,
) -> Result<BTreeMap<String, i32>, ClientError> {
    let named = |topic| MetadataRequestTopic { name: Some(Cow::Borrowed(topic)), ..Default::default() };
    let topics: Vec<_> = topics.into_iter().map(named).collect();
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let request =
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false, ..Default::default() };
    let counts = connection.call(&request, |response, _| {
        let mut counts = BTreeMap::new();
        for topic in response.topics {
            let name = topic.name.unwrap_or_default().into_owned();
            match topic.error_code {
                ErrorCode::NONE => {
                    counts.insert(name, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
                }
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::INVALID_TOPIC_EXCEPTION => {}
                code => return Err(ClientError::Topic { topic: name, code }),
            }
        }
        Ok(counts)
    });
    counts.await?
}

/// What each of the topics demands of records. A topic whose configuration the broker does not show is not in it.
pub(crate) async fn topic_rules<T: Transport>(
    connection: &Connection<T>,
    topics: impl IntoIterator<Item = &str>,
) -> Result<BTreeMap<String, TopicRules>, ClientError> {
    let described = |topic| DescribeConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: Cow::Borrowed(topic),
        configuration_keys: Some(RULES.map(Cow::Borrowed).to_vec()),
    };
    let request = DescribeConfigsRequest {
        resources: topics.into_iter().map(described).collect(),
        ..Default::default()
    };
    if request.resources.is_empty() {
        return Ok(BTreeMap::new());
    }
    let answer = connection.call(&request, |response, _| {
        let shown = response.results.iter().filter(|result| {
            let (topic, code) = (&result.resource_name, result.error_code);
            if code.is_error() {
                tracing::debug!(%topic, %code, "the topic's configuration is not shown");
            }
            !code.is_error()
        });
        shown.map(|result| (result.resource_name.clone().into_owned(), rules_of(result))).collect()
    });
    match answer.await {
        // Not every service that speaks Kafka's protocol shows its configuration.
        Err(CallError::Version(error)) => {
            tracing::debug!(%error, "the topics' configuration is not shown");
            Ok(BTreeMap::new())
        }
        answer => Ok(answer?),
    }
}

fn rules_of(described: &DescribeConfigsResult<'_>) -> TopicRules {
    let value = |name: &str| {
        let config = described.configs.iter().find(|config| config.name == name)?;
        config.value.as_deref()
    };
    let mut rules = TopicRules::default();
    if let Some(max) = value(BATCH_BYTES_MAX).and_then(|max| max.parse().ok()) {
        rules.batch_bytes_max = max;
    }
    rules.needs_keys = value(CLEANUP_POLICY).is_some_and(|policy| policy.contains("compact"));
    if let Some((before, after)) = &mut rules.timestamp_ms_max {
        *before = value(TIMESTAMP_BEFORE_MAX).and_then(|max| max.parse().ok()).unwrap_or(*before);
        *after = value(TIMESTAMP_AFTER_MAX).and_then(|max| max.parse().ok()).unwrap_or(*after);
    }
    if value(TIMESTAMP_TYPE) == Some("LogAppendTime") {
        rules.timestamp_ms_max = None;
    }
    rules
}
