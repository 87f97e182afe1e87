//! The versions of plugins: list, deploy, promote, roll back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::{Node, failed, pipeline_failed};
use crate::node::{DeployRequest, NodeState, PluginVersions, RollbackRequest};

/// Pipeline and plugin.
type Named = Result<Path<(String, String)>, PathRejection>;

/// Paths below which a plugin's versions change. They take a body, even if it is empty.
pub(super) fn routes() -> Router<Arc<NodeState>> {
    Router::new()
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/deploy", post(deploy))
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/rollback", post(roll_back))
        .route("/v1/pipelines/{pipeline}/plugins/{plugin}/promote", post(promote))
        .route("/v1/versions", get(list))
}

async fn list(State(node): Node) -> Json<BTreeMap<String, PluginVersions>> {
    Json(node.versions().into_iter().collect())
}

async fn deploy(
    State(node): Node,
    named: Named,
    request: Result<Json<DeployRequest>, JsonRejection>,
) -> Result<Response, Response> {
    let Path((pipeline, plugin)) = named.map_err(|error| failed(error.status(), error.body_text()))?;
    let Json(request) = request.map_err(|error| failed(error.status(), error.body_text()))?;
    let deployed = node.deploy(&pipeline, &plugin, request).await.map_err(pipeline_failed)?;
    Ok(Json(deployed).into_response())
}

async fn roll_back(
    State(node): Node,
    named: Named,
    request: Result<Json<RollbackRequest>, JsonRejection>,
) -> Result<Response, Response> {
    let Path((pipeline, plugin)) = named.map_err(|error| failed(error.status(), error.body_text()))?;
    let Json(request) = request.map_err(|error| failed(error.status(), error.body_text()))?;
    let rolled_back = node.roll_back(&pipeline, &plugin, request).await.map_err(pipeline_failed)?;
    Ok(Json(rolled_back).into_response())
}

async fn promote(State(node): Node, named: Named) -> Result<Response, Response> {
    let Path((pipeline, plugin)) = named.map_err(|error| failed(error.status(), error.body_text()))?;
    let promoted = node.promote(&pipeline, &plugin).await.map_err(pipeline_failed)?;
    Ok(Json(promoted).into_response())
}
