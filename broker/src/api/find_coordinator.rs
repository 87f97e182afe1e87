//! FindCoordinator: which broker coordinates a group.

use std::borrow::Cow;

use millstream_wire::ErrorCode;
use millstream_wire::find_coordinator_request::FindCoordinatorRequest;
use millstream_wire::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

use super::RequestContext;
use crate::broker::{Broker, OFFSETS_TOPIC};
use crate::group::GroupId;
use crate::ids::TopicName;

/// From here on several keys are asked for at once.
const BATCH_VERSION: i16 = 4;
const KEY_TYPE_GROUP: i8 = 0;
const NO_NODE: i32 = -1;
const NO_PORT: i32 = -1;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FindCoordinatorRequest<'_>,
) -> FindCoordinatorResponse<'static> {
    let keys = match context.version >= BATCH_VERSION {
        true => request.coordinator_keys,
        false => vec![request.key],
    };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = match request.key_type {
            KEY_TYPE_GROUP => find(broker, &key).await,
            _ => Err((ErrorCode::INVALID_REQUEST, "only groups have coordinators here")),
        };
        let coordinator = found.unwrap_or_else(|(error_code, message)| {
            broker.metrics.error(context.api, error_code);
            Coordinator {
                error_code,
                error_message: Some(message.into()),
                node_id: NO_NODE,
                port: NO_PORT,
                ..Default::default()
            }
        });
        coordinators.push(Coordinator { key: Cow::Owned(key.into_owned()), ..coordinator });
    }
    if context.version >= BATCH_VERSION {
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = coordinators.remove(0);
    FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() }
}

/// The leader of the group's partition of the offsets topic, which comes to be with the first group.
async fn find(broker: &Broker, group: &str) -> Result<Coordinator<'static>, (ErrorCode, &'static str)> {
    let unavailable = |message| (ErrorCode::COORDINATOR_NOT_AVAILABLE, message);
    if broker.metadata.image().topic(OFFSETS_TOPIC).is_none() {
        let name = TopicName::new(OFFSETS_TOPIC).expect("the name is valid");
        if let Err(error) = broker.auto_create_topic(&name).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "can't create the offsets topic");
            return Err(unavailable("the offsets topic can't be created now"));
        }
    }
    let image = broker.metadata.image();
    let partition = broker.groups.partition_for(&GroupId::new(group));
    let leader = image
        .topic(OFFSETS_TOPIC)
        .and_then(|topic| topic.partition(partition))
        .and_then(|partition| partition.leader)
        .and_then(|leader| image.broker(leader))
        .ok_or(unavailable("the group's partition of the offsets topic has no leader"))?;
    Ok(Coordinator {
        node_id: leader.id.0,
        host: leader.host.clone().into(),
        port: i32::from(leader.port),
        ..Default::default()
    })
}
