//! JoinGroup: become a member of the next generation of a classic group.

use bytes::Bytes;
use millstream_wire::ErrorCode;
use millstream_wire::join_group_request::JoinGroupRequest;
use millstream_wire::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use uuid::Uuid;

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{GroupId, GroupInstanceId, JoinGroup, JoinedMember, MemberId, Protocol};

/// From here on a rebalance timeout is sent; before, the session timeout is both.
const REBALANCE_TIMEOUT_VERSION: i16 = 1;
/// From here on a new member joins twice, to be known by its id (KIP-394).
const KNOWN_MEMBER_ID_VERSION: i16 = 4;
/// From here on the protocol's name may be null.
const NULLABLE_PROTOCOL_VERSION: i16 = 7;
/// From here on a leader can be told to leave the assignment alone (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: JoinGroupRequest<'_>,
) -> JoinGroupResponse<'static> {
    let join = JoinGroup {
        group_id: GroupId::new(&request.group_id),
        member_id: MemberId::new(&request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(GroupInstanceId::new),
        client_id: context.client_id.clone(),
        client_host: format!("/{}", context.peer.address.ip()).into(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match context.version < REBALANCE_TIMEOUT_VERSION {
            true => request.session_timeout_ms,
            false => request.rebalance_timeout_ms,
        },
        protocol_type: request.protocol_type.into(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| Protocol {
                name: protocol.name.into(),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        requires_known_member_id: context.version >= KNOWN_MEMBER_ID_VERSION,
        supports_skipping_assignment: context.version >= SKIP_ASSIGNMENT_VERSION,
        reason: request.reason.map(Into::into),
        random: Uuid::nil(),
    };
    match broker.groups.join_group(join).await {
        Ok(joined) => JoinGroupResponse {
            error_code: ErrorCode::NONE,
            generation_id: joined.generation_id.0,
            protocol_type: joined.protocol_type.map(|name| name.to_string().into()),
            protocol_name: Some(joined.protocol_name.as_deref().unwrap_or_default().to_owned().into()),
            leader: joined.leader.to_string().into(),
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id.to_string().into(),
            members: joined.members.into_iter().map(member).collect(),
            ..Default::default()
        },
        Err(refused) => {
            let error_code = super::error_code::of_group(refused.error);
            broker.metrics.error(context.api, error_code);
            JoinGroupResponse {
                error_code,
                protocol_name: (context.version < NULLABLE_PROTOCOL_VERSION).then(|| "".into()),
                member_id: refused.member_id.to_string().into(),
                ..Default::default()
            }
        }
    }
}

fn member(member: JoinedMember) -> JoinGroupResponseMember<'static> {
    JoinGroupResponseMember {
        member_id: member.member_id.to_string().into(),
        group_instance_id: member.group_instance_id.map(|id| id.to_string().into()),
        metadata: member.metadata.to_vec().into(),
    }
}
