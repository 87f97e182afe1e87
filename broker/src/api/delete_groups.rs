//! DeleteGroups: groups without members go, with their offsets.

use millstream_wire::ErrorCode;
use millstream_wire::delete_groups_request::DeleteGroupsRequest;
use millstream_wire::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::GroupId;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteGroupsRequest<'_>,
) -> DeleteGroupsResponse<'static> {
    // Together, so that those of one partition share an append.
    let deletions = request.groups_names.into_iter().map(|name| async move {
        let deleted = broker.groups.delete_group(GroupId::new(&name)).await;
        let error_code = deleted.map_or_else(super::error_code::of_group, |()| ErrorCode::NONE);
        if error_code.is_error() {
            broker.metrics.error(context.api, error_code);
        }
        DeletableGroupResult { group_id: name.into_owned().into(), error_code }
    });
    let results = futures_util::future::join_all(deletions).await;
    DeleteGroupsResponse { results, ..Default::default() }
}
