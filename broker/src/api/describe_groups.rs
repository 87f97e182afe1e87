//! DescribeGroups: the state and the members of groups.

use std::collections::HashSet;

use millstream_wire::ErrorCode;
use millstream_wire::describe_groups_request::DescribeGroupsRequest;
use millstream_wire::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{GroupDescription, GroupError, GroupId, GroupState, MemberDescription};

/// From here on a group that does not exist is an error; before, it is described as dead (KIP-1043).
const NOT_FOUND_VERSION: i16 = 6;
/// "Not asked for", as authorization does not exist.
const OPERATIONS_OMITTED: i32 = i32::MIN;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeGroupsRequest<'_>,
) -> DescribeGroupsResponse<'static> {
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for name in request.groups {
        let group_id = GroupId::new(&name);
        // Once is enough: a name takes bytes in the request, its description may take megabytes.
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let described = match broker.groups.describe_group(group_id.clone()).await {
            Ok(description) => describe(description),
            Err(GroupError::GroupIdNotFound) => not_found(&group_id, context.version),
            Err(error) => {
                let error_code = super::error_code::of_group(error);
                DescribedGroup { error_code, ..Default::default() }
            }
        };
        if described.error_code.is_error() {
            broker.metrics.error(context.api, described.error_code);
        }
        groups.push(DescribedGroup {
            group_id: group_id.to_string().into(),
            authorized_operations: OPERATIONS_OMITTED,
            ..described
        });
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn not_found(group_id: &GroupId, version: i16) -> DescribedGroup<'static> {
    let dead = DescribedGroup { group_state: GroupState::Dead.as_str().into(), ..DescribedGroup::default() };
    if version < NOT_FOUND_VERSION {
        return dead;
    }
    DescribedGroup {
        error_code: ErrorCode::GROUP_ID_NOT_FOUND,
        error_message: Some(format!("Group {group_id} not found.").into()),
        ..dead
    }
}

fn describe(group: GroupDescription) -> DescribedGroup<'static> {
    DescribedGroup {
        error_code: ErrorCode::NONE,
        group_state: group.state.as_str().into(),
        protocol_type: group.protocol_type.as_deref().unwrap_or_default().to_owned().into(),
        protocol_data: group.protocol_name.as_deref().unwrap_or_default().to_owned().into(),
        members: group.members.into_iter().map(describe_member).collect(),
        ..Default::default()
    }
}

fn describe_member(member: MemberDescription) -> DescribedGroupMember<'static> {
    DescribedGroupMember {
        member_id: member.member_id.to_string().into(),
        group_instance_id: member.group_instance_id.map(|id| id.to_string().into()),
        client_id: member.client_id.to_string().into(),
        client_host: member.client_host.to_string().into(),
        member_metadata: member.metadata.to_vec().into(),
        member_assignment: member.assignment.to_vec().into(),
    }
}
