//! SyncGroup: the leader brings the assignment, every member takes its own.

use bytes::Bytes;
use millstream_wire::ErrorCode;
use millstream_wire::sync_group_request::SyncGroupRequest;
use millstream_wire::sync_group_response::SyncGroupResponse;

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{GenerationId, GroupError, GroupId, GroupInstanceId, MemberId, SyncGroup};

/// From here on members say which protocol they have agreed on (KIP-559).
const PROTOCOL_VERSION: i16 = 5;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: SyncGroupRequest<'_>,
) -> SyncGroupResponse<'static> {
    let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
    let sync = SyncGroup {
        group_id: GroupId::new(&request.group_id),
        generation_id: GenerationId(request.generation_id),
        member_id: MemberId::new(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(GroupInstanceId::new),
        protocol_type: request.protocol_type.map(Into::into),
        protocol_name: request.protocol_name.map(Into::into),
        assignments: request
            .assignments
            .into_iter()
            .map(|member| (MemberId::new(&member.member_id), Bytes::copy_from_slice(&member.assignment)))
            .collect(),
    };
    let synced = match context.version >= PROTOCOL_VERSION && unnamed {
        true => Err(GroupError::InconsistentGroupProtocol),
        false => broker.groups.sync_group(sync).await,
    };
    match synced {
        Ok(synced) => SyncGroupResponse {
            error_code: ErrorCode::NONE,
            protocol_type: synced.protocol_type.map(|name| name.to_string().into()),
            protocol_name: synced.protocol_name.map(|name| name.to_string().into()),
            assignment: synced.assignment.to_vec().into(),
            ..Default::default()
        },
        Err(error) => {
            let error_code = super::error_code::of_group(error);
            broker.metrics.error(context.api, error_code);
            SyncGroupResponse { error_code, ..Default::default() }
        }
    }
}
