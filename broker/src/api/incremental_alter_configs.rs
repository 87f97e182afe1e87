//! IncrementalAlterConfigs: sets, resets, and changes lists of a topic's configuration (KIP-339).

use std::collections::{BTreeMap, HashSet};

use millstream_wire::ErrorCode;
use millstream_wire::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use millstream_wire::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::RequestContext;
use super::alter_configs::check_type;
use super::error_code::of_topic;
use crate::broker::Broker;
use crate::config::{ConfigType, TopicConfigs, describe_topic, topic_config};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest<'_>,
) -> IncrementalAlterConfigsResponse<'static> {
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
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

async fn alter(
    broker: &Broker,
    resource: &AlterConfigsResource<'_>,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    check_type(resource.resource_type)?;
    let name = &*resource.resource_name;
    let own = broker.metadata.image().topic(name).map(|topic| topic.configs.clone()).unwrap_or_default();
    let mut changes = BTreeMap::new();
    for config in &resource.configs {
        let value = new_value(broker, &own, config)?;
        if changes.insert(config.name.to_string(), value).is_some() {
            let message = format!("the request names {} twice", config.name);
            return Err((ErrorCode::INVALID_REQUEST, message));
        }
    }
    let altered = broker.alter_topic_configs(name, changes, validate_only).await;
    altered.map_err(|error| (of_topic(&error), error.to_string()))
}

/// The key's new value; `None` goes back to the default.
fn new_value(
    broker: &Broker,
    own: &TopicConfigs,
    config: &AlterableConfig<'_>,
) -> Result<Option<String>, (ErrorCode, String)> {
    let value = || {
        let missing = || (ErrorCode::INVALID_REQUEST, format!("{} is given no value", config.name));
        config.value.as_deref().ok_or_else(missing)
    };
    match config.config_operation {
        SET => value().map(|value| Some(value.to_owned())),
        DELETE => Ok(None),
        operation @ (APPEND | SUBTRACT) => {
            if topic_config(&config.name).is_some_and(|def| def.config_type != ConfigType::List) {
                let message =
                    format!("{} is not a list, so nothing can be appended or subtracted", config.name);
                return Err((ErrorCode::INVALID_CONFIG, message));
            }
            let described = describe_topic(own, &broker.config);
            let now = described.into_iter().find(|known| known.name == config.name);
            let now = now.and_then(|known| known.value).unwrap_or_default();
            let mut items: Vec<&str> = now.split(',').filter(|item| !item.is_empty()).collect();
            let changed: Vec<&str> = value()?.split(',').map(str::trim).collect();
            let known: HashSet<&str> = changed.iter().copied().collect();
            items.retain(|item| !known.contains(item));
            if operation == APPEND {
                items.extend(changed);
            }
            Ok(Some(items.join(",")))
        }
        other => Err((ErrorCode::INVALID_REQUEST, format!("configuration operation {other} is unknown"))),
    }
}
