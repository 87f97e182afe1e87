//! ListGroups: the groups that this broker coordinates.

use millstream_wire::ErrorCode;
use millstream_wire::list_groups_request::ListGroupsRequest;
use millstream_wire::list_groups_response::{ListGroupsResponse, ListedGroup};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::ListGroups;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListGroupsRequest<'_>,
) -> ListGroupsResponse<'static> {
    let list = ListGroups {
        states_filter: request.states_filter.into_iter().map(Into::into).collect(),
        types_filter: request.types_filter.into_iter().map(Into::into).collect(),
    };
    match broker.groups.list_groups(list).await {
        Ok(groups) => ListGroupsResponse {
            error_code: ErrorCode::NONE,
            groups: groups
                .into_iter()
                .map(|group| ListedGroup {
                    group_id: group.group_id.to_string().into(),
                    protocol_type: group.protocol_type.as_deref().unwrap_or_default().to_owned().into(),
                    group_state: group.state.as_str().into(),
                    group_type: "classic".into(),
                })
                .collect(),
            ..Default::default()
        },
        Err(error) => {
            let error_code = super::error_code::of_group(error);
            broker.metrics.error(context.api, error_code);
            ListGroupsResponse { error_code, ..Default::default() }
        }
    }
}
