//! Heartbeat: a member is alive, and learns whether a rebalance has begun.

use millstream_wire::ErrorCode;
use millstream_wire::heartbeat_request::HeartbeatRequest;
use millstream_wire::heartbeat_response::HeartbeatResponse;

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{GenerationId, GroupId, GroupInstanceId, Heartbeat, MemberId};

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: HeartbeatRequest<'_>,
) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group_id: GroupId::new(&request.group_id),
        generation_id: GenerationId(request.generation_id),
        member_id: MemberId::new(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(GroupInstanceId::new),
    };
    let error_code = match broker.groups.heartbeat(heartbeat).await {
        Ok(()) => ErrorCode::NONE,
        Err(error) => {
            let error_code = super::error_code::of_group(error);
            broker.metrics.error(context.api, error_code);
            error_code
        }
    };
    HeartbeatResponse { error_code, ..Default::default() }
}
