//! AlterConfigs: replaces a topic's whole configuration; what the request leaves out goes back to its default.

use std::collections::BTreeMap;

use millstream_wire::ErrorCode;
use millstream_wire::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use millstream_wire::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::RequestContext;
use super::describe_configs::{BROKER, TOPIC};
use super::error_code::of_topic;
use crate::broker::Broker;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AlterConfigsRequest<'_>,
) -> AlterConfigsResponse<'static> {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let altered = alter(broker, &resource, request.validate_only).await;
        let (error_code, error_message) = match altered {
            Ok(()) => (ErrorCode::NONE, None),
            Err((code, message)) => {
                broker.metrics.error(context.api, code);
                (code, Some(message.into()))
            }
        };
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.into_owned().into(),
        });
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

async fn alter(
    broker: &Broker,
    resource: &AlterConfigsResource<'_>,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    check_type(resource.resource_type)?;
    let name = &*resource.resource_name;
    let current = broker.metadata.image().topic(name).map(|topic| topic.configs.clone());
    let reset = current.iter().flat_map(|configs| configs.keys()).map(|key| (key.clone(), None));
    let mut changes: BTreeMap<String, Option<String>> = reset.collect();
    for config in &resource.configs {
        changes.insert(config.name.to_string(), config.value.as_deref().map(str::to_owned));
    }
    let altered = broker.alter_topic_configs(name, changes, validate_only).await;
    altered.map_err(|error| (of_topic(&error), error.to_string()))
}

/// Topics have configurations that can be altered here; a broker's are fixed while it runs.
pub(super) fn check_type(resource_type: i8) -> Result<(), (ErrorCode, String)> {
    match resource_type {
        TOPIC => Ok(()),
        BROKER => {
            let message =
                "broker configurations are read-only: set them in the configuration file and restart";
            Err((ErrorCode::INVALID_CONFIG, message.to_owned()))
        }
        other => {
            Err((ErrorCode::INVALID_REQUEST, format!("resource type {other} has no configuration here")))
        }
    }
}
