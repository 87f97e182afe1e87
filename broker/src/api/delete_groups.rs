//! DeleteGroups: groups without members go, with their offsets.

use std::collections::HashSet;

use futures_util::future::join_all;
use millstream_wire::ErrorCode;
use millstream_wire::delete_groups_request::DeleteGroupsRequest;
use millstream_wire::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};

use super::RequestContext;
use crate::broker::Broker;
use crate::group::GroupId;

/// Deletions of a request that are on their way at a time: some, so that those of one partition share an append.
const TOGETHER_MAX: usize = 64;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteGroupsRequest<'_>,
) -> DeleteGroupsResponse<'static> {
    let mut seen = HashSet::new();
    let names: Vec<_> = request.groups_names.into_iter().filter(|name| seen.insert(name.clone())).collect();
    let mut results = Vec::new();
    for together in names.chunks(TOGETHER_MAX) {
        results.extend(join_all(together.iter().map(|name| delete(broker, context, name))).await);
    }
    DeleteGroupsResponse { results, ..Default::default() }
}

async fn delete(broker: &Broker, context: &RequestContext, name: &str) -> DeletableGroupResult<'static> {
    let deleted = broker.groups.delete_group(GroupId::new(name)).await;
    let error_code = deleted.map_or_else(super::error_code::of_group, |()| ErrorCode::NONE);
    if error_code.is_error() {
        broker.metrics.error(context.api, error_code);
    }
    DeletableGroupResult { group_id: name.to_owned().into(), error_code }
}
