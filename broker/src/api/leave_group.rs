//! LeaveGroup: members go, or an administrator removes static ones.

use millstream_wire::ErrorCode;
use millstream_wire::leave_group_request::LeaveGroupRequest;
use millstream_wire::leave_group_response::{LeaveGroupResponse, MemberResponse};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{GroupId, GroupInstanceId, LeaveGroup, LeavingMember, MemberId, MemberLeft};

/// From here on several members leave at once, each with its own result (KIP-345).
const BATCH_VERSION: i16 = 3;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: LeaveGroupRequest<'_>,
) -> LeaveGroupResponse<'static> {
    let batch = context.version >= BATCH_VERSION;
    let members = match batch {
        true => request
            .members
            .into_iter()
            .map(|member| LeavingMember {
                member_id: MemberId::new(&member.member_id),
                group_instance_id: member.group_instance_id.as_deref().map(GroupInstanceId::new),
            })
            .collect(),
        false => {
            vec![LeavingMember { member_id: MemberId::new(&request.member_id), group_instance_id: None }]
        }
    };
    let leave = LeaveGroup { group_id: GroupId::new(&request.group_id), members };
    let error = |error| {
        let error_code = super::error_code::of_group(error);
        broker.metrics.error(context.api, error_code);
        error_code
    };
    match broker.groups.leave_group(leave).await {
        Ok(left) if batch => LeaveGroupResponse {
            error_code: ErrorCode::NONE,
            members: left
                .into_iter()
                .map(|MemberLeft { member_id, group_instance_id, result }| MemberResponse {
                    member_id: member_id.to_string().into(),
                    group_instance_id: group_instance_id.map(|id| id.to_string().into()),
                    error_code: result.map_or_else(error, |()| ErrorCode::NONE),
                })
                .collect(),
            ..Default::default()
        },
        Ok(left) => {
            let result = left.into_iter().try_for_each(|member| member.result);
            let error_code = result.map_or_else(error, |()| ErrorCode::NONE);
            LeaveGroupResponse { error_code, ..Default::default() }
        }
        Err(refused) => LeaveGroupResponse { error_code: error(refused), ..Default::default() },
    }
}
