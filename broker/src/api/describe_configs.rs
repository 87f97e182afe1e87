//! DescribeConfigs: every configuration of a topic or of this broker, with where its value comes from.

use std::borrow::Cow;
use std::collections::HashSet;

use millstream_wire::ErrorCode;
use millstream_wire::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use millstream_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::RequestContext;
use super::error_code::of_topic;
use crate::broker::{Broker, TopicError};
use crate::config::{DescribedConfig, describe_broker, describe_topic};
use crate::ids::TopicName;

/// `ConfigResource.Type` of Kafka.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// What to tell beside values.
#[derive(Clone, Copy)]
struct Include {
    synonyms: bool,
    documentation: bool,
}

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeConfigsRequest<'_>,
) -> DescribeConfigsResponse<'static> {
    let include =
        Include { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let describe = |resource: DescribeConfigsResource<'_>| {
        let (resource_type, name) = (resource.resource_type, resource.resource_name.clone().into_owned());
        let result =
            DescribeConfigsResult { resource_type, resource_name: name.into(), ..Default::default() };
        match described(broker, &resource) {
            Ok(configs) => {
                let wanted = wanted_keys(&resource);
                let configs = configs
                    .into_iter()
                    .filter(|config| wanted.as_ref().is_none_or(|wanted| wanted.contains(config.name)))
                    .map(|config| config_result(config, include))
                    .collect();
                DescribeConfigsResult { configs, ..result }
            }
            Err((code, message)) => {
                broker.metrics.error(context.api, code);
                DescribeConfigsResult { error_code: code, error_message: Some(message.into()), ..result }
            }
        }
    };
    // Once is enough: a name takes bytes in the request, its description takes kilobytes.
    let mut seen = HashSet::new();
    let resources = request
        .resources
        .into_iter()
        .filter(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    DescribeConfigsResponse { results: resources.map(describe).collect(), ..Default::default() }
}

fn wanted_keys<'a>(resource: &'a DescribeConfigsResource<'_>) -> Option<HashSet<&'a str>> {
    resource.configuration_keys.as_ref().map(|keys| keys.iter().map(Cow::as_ref).collect())
}

fn described(
    broker: &Broker,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<DescribedConfig>, (ErrorCode, String)> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => match (TopicName::new(name), broker.metadata.image().listed(name)) {
            (_, Some(topic)) => {
                let configs = describe_topic(&topic.stored().configs, &broker.config).into_iter();
                // A view's are its source's, and changed there.
                let is_read_only = topic.view().is_some();
                Ok(configs.map(|config| DescribedConfig { is_read_only, ..config }).collect())
            }
            (Err(error), None) => Err((ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string())),
            (Ok(_), None) => {
                let error = TopicError::Unknown(name.to_owned());
                Err((of_topic(&error), error.to_string()))
            }
        },
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER if name.parse() == Ok(broker.config.id().0) => Ok(describe_broker(&broker.config)),
        BROKER => {
            let message = format!("this is broker {}, ask broker {name} itself", broker.config.id());
            Err((ErrorCode::INVALID_REQUEST, message))
        }
        other => {
            Err((ErrorCode::INVALID_REQUEST, format!("resource type {other} has no configuration here")))
        }
    }
}

fn config_result(config: DescribedConfig, include: Include) -> DescribeConfigsResourceResult<'static> {
    let synonym = |synonym: crate::config::ConfigSynonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source as i8,
    };
    let synonyms = if include.synonyms { config.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: config.name.into(),
        value: config.value.map(Into::into),
        read_only: config.is_read_only,
        config_source: config.source as i8,
        is_sensitive: config.is_sensitive,
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: config.config_type as i8,
        documentation: include.documentation.then(|| config.documentation.into()),
    }
}
