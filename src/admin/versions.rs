//! The versions of plugins: list, deploy, promote, roll back, approve, reject.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_runtime::stage::plugin_principal;
use serde::{Deserialize, Serialize};

use super::{Node, failed, pipeline_failed};
use crate::node::{
    ApproveRequest, DeployOutcome, DeployRequest, NodeState, RejectRequest, RollbackRequest, Versions,
};

/// Pipeline and plugin.
type Named = Result<Path<(String, String)>, PathRejection>;

/// Paths below which a plugin's versions change. They take a body, even if it is empty.
pub(super) fn routes() -> Router<Arc<NodeState>> {
    Router::new()
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/deploy", post(deploy))
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/rollback", post(roll_back))
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/promote", post(promote))
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/approve", post(approve))
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/reject", post(reject))
        .route("/v1/versions", get(list))
}

/// A plugin, as it is listed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListedPlugin {
    /// Who it is to the broker.
    pub(crate) principal: String,
    #[serde(flatten)]
    pub(crate) versions: Versions,
}

/// What `GET /v1/versions` answers: plugins by the names of their pipelines and their own.
pub(crate) type ListedPlugins = BTreeMap<String, BTreeMap<String, ListedPlugin>>;

async fn list(State(node): Node) -> Json<ListedPlugins> {
    let listed = |pipeline: &str, (plugin, versions): (String, Versions)| {
        let principal = plugin_principal(pipeline, &plugin);
        (plugin, ListedPlugin { principal, versions })
    };
    let all = node.versions().into_iter().map(|(pipeline, plugins)| {
        let plugins = plugins.into_iter().map(|plugin| listed(&pipeline, plugin)).collect();
        (pipeline, plugins)
    });
    Json(all.collect())
}

/// A change that takes a request.
macro_rules! change {
    ($handler:ident, $request:ty, $method:ident) => {
        async fn $handler(
            State(node): Node,
            named: Named,
            request: Result<Json<$request>, JsonRejection>,
        ) -> Result<Response, Response> {
            let Path((pipeline, plugin)) =
                named.map_err(|error| failed(error.status(), error.body_text()))?;
            let Json(request) = request.map_err(|error| failed(error.status(), error.body_text()))?;
            let changed = node.$method(&pipeline, &plugin, request).await;
            changed.map(answer).map_err(pipeline_failed)
        }
    };
}

change!(deploy, DeployRequest, deploy);
change!(roll_back, RollbackRequest, roll_back);
change!(approve, ApproveRequest, approve);
change!(reject, RejectRequest, reject);

async fn promote(State(node): Node, named: Named) -> Result<Response, Response> {
    let Path((pipeline, plugin)) = named.map_err(|error| failed(error.status(), error.body_text()))?;
    node.promote(&pipeline, &plugin).await.map(answer).map_err(pipeline_failed)
}

fn answer(outcome: DeployOutcome) -> Response {
    let status = if outcome.waiting.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    (status, Json(outcome)).into_response()
}
