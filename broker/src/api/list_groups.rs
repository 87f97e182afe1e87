//! ListGroups: the groups that this broker coordinates.

use std::borrow::Cow;

use millstream_wire::ErrorCode;
use millstream_wire::list_groups_request::ListGroupsRequest;
use millstream_wire::list_groups_response::{ListGroupsResponse, ListedGroup};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::{GroupState, ListGroups};

const CLASSIC: &str = "classic";

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListGroupsRequest<'_>,
) -> ListGroupsResponse<'static> {
    if !names(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    match broker.groups.list_groups(ListGroups { states: wanted_states(&request) }).await {
        Ok(groups) => ListGroupsResponse {
            error_code: ErrorCode::NONE,
            groups: groups
                .into_iter()
                .map(|group| ListedGroup {
                    group_id: group.group_id.to_string().into(),
                    protocol_type: group.protocol_type.as_deref().unwrap_or_default().to_owned().into(),
                    group_state: group.state.as_str().into(),
                    group_type: CLASSIC.into(),
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

/// Groups are compared with the states that there are, however many the request names.
fn wanted_states(request: &ListGroupsRequest<'_>) -> Vec<GroupState> {
    GroupState::ALL.into_iter().filter(|state| names(&request.states_filter, state.as_str())).collect()
}

/// Whether a filter lets the name through: an empty one does, and case doesn't matter.
fn names(filter: &[Cow<'_, str>], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_without_regard_to_case() {
        let check = |filter: &[&'static str], expected: &[GroupState]| {
            let states_filter = filter.iter().map(|name| Cow::Borrowed(*name)).collect();
            let request = ListGroupsRequest { states_filter, ..Default::default() };
            assert_eq!(wanted_states(&request), expected, "{filter:?}");
        };
        check(&[], &GroupState::ALL);
        check(&["Stable"], &[GroupState::Stable]);
        check(&["stable", "EMPTY", "stable", "Sideways"], &[GroupState::Empty, GroupState::Stable]);
        check(&["Sideways"], &[]);
    }
}
