//! The admin listener: HTTP for pipelines, plugins, status, health and metrics. Loopback unless told otherwise.
//!
//! `docs/ADMIN.md` says what it serves.

mod body;
mod guard;
mod logs;
mod server;
mod tap;
mod versions;

pub(crate) use self::versions::{ListedPlugin, ListedPlugins};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router, middleware};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use millstream_runtime::limits::COMPONENT_BYTES_MAX;
use millstream_runtime::pipeline::Problem;
use millstream_runtime::stage::StageStatus;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node::{
    ApplyRequest, CheckError, NodeState, NotDeployed, NotRunning, PipelineError, PluginStoreError,
    VersionError, Waiting,
};
use crate::signature::SIGNATURE_HEADER;

/// A pipeline file is text that a person wrote: a mebibyte at most, and what JSON adds.
const JSON_BYTES_MAX: usize = 2 * 1024 * 1024;

type Node = State<Arc<NodeState>>;

/// What `GET /v1/status` answers.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) node_id: i32,
    pub(crate) cluster_id: String,
    pub(crate) version: &'static str,
    /// Where Kafka clients are served.
    pub(crate) kafka: String,
    pub(crate) topics: usize,
    pub(crate) partitions: usize,
    pub(crate) pipelines: Vec<String>,
    /// Those of them that could not be started.
    pub(crate) not_running: Vec<NotRunning>,
    pub(crate) stages: Vec<StageStatus>,
    /// Files of the watched directory that are not what runs.
    pub(crate) not_deployed: Vec<NotDeployed>,
    /// Versions that wait for approval.
    pub(crate) waiting: Vec<Waiting>,
}

/// A request that failed.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty", skip_deserializing, default)]
    problems: Vec<Problem>,
}

/// Serves until `stop` fires, and a moment longer what was asked before.
pub(crate) async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    node: Arc<NodeState>,
    stop: CancellationToken,
) {
    server::serve(listener, router(node, address), stop).await;
}

fn router(node: Arc<NodeState>, address: SocketAddr) -> Router {
    let json = middleware::from_fn_with_state(JSON_BYTES_MAX, body::read_whole);
    let component = middleware::from_fn_with_state(COMPONENT_BYTES_MAX, body::read_whole);
    let turn = middleware::from_fn_with_state(body::upload_turns(), body::take_turn);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ready\n" }))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .merge(logs::routes())
        .merge(tap::routes())
        .route("/v1/topics", get(topics))
        .route("/v1/plugins", get(plugins))
        .route("/v1/plugins/{sha256}", put(upload).layer(component).layer(turn))
        .route("/v1/pipelines", get(pipelines).merge(post(apply).layer(json.clone())))
        .route("/v1/pipelines/validate", post(validate).layer(json.clone()))
        .route("/v1/pipelines/{name}", delete(remove))
        .merge(versions::routes().layer(json))
        .fallback(|| async { failed(StatusCode::NOT_FOUND, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            failed(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(middleware::from_fn_with_state(address, guard::refuse_foreign_pages))
        // Bodies have been read by then, each within its own limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(node)
}

async fn metrics(State(node): Node) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match node.metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn status(State(node): Node) -> Json<Status> {
    let image = node.broker.metadata().image();
    Json(Status {
        node_id: node.broker.metadata().node_id().0,
        cluster_id: image.cluster_id().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        kafka: node.broker.address().to_string(),
        topics: image.topic_count(),
        partitions: image.partition_count(),
        pipelines: node.pipelines(),
        not_running: node.not_running(),
        stages: node.stages(),
        not_deployed: node.not_deployed(),
        waiting: node.waiting(),
    })
}

async fn topics(State(node): Node) -> Json<BTreeMap<String, i32>> {
    let image = node.broker.metadata().image();
    Json(image.topics().map(|topic| (topic.name.as_str().to_owned(), topic.partition_count())).collect())
}

async fn plugins(State(node): Node) -> Response {
    match node.list_plugins() {
        Ok(plugins) => Json(plugins).into_response(),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn upload(
    State(node): Node,
    sha256: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Response> {
    let Path(sha256) = sha256.map_err(|error| failed(error.status(), error.body_text()))?;
    let signature = headers.get(SIGNATURE_HEADER).map(|header| BASE64_STANDARD.decode(header)).transpose();
    let signature = signature.map_err(|error| {
        failed(StatusCode::UNPROCESSABLE_ENTITY, format!("header {SIGNATURE_HEADER} is no base64: {error}"))
    })?;
    let put = move || node.put_plugin(&sha256, &body, signature.as_deref());
    let stored = tokio::task::spawn_blocking(put).await;
    match stored {
        Ok(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Ok(Err(error @ PluginStoreError::Io { .. })) => Err(failed(StatusCode::INTERNAL_SERVER_ERROR, error)),
        Ok(Err(error)) => Err(failed(StatusCode::UNPROCESSABLE_ENTITY, error)),
        Err(error) => Err(failed(StatusCode::INTERNAL_SERVER_ERROR, error)),
    }
}

async fn pipelines(State(node): Node) -> Json<Vec<String>> {
    Json(node.pipelines())
}

async fn validate(
    State(node): Node,
    request: Result<Json<ApplyRequest>, JsonRejection>,
) -> Result<Json<Vec<Problem>>, Response> {
    let Json(request) = request.map_err(|error| failed(error.status(), error.body_text()))?;
    let problems = node.check_pipeline(request).await;
    problems.map(Json).map_err(|error| failed(check_failed(&error), error))
}

async fn apply(State(node): Node, request: Result<Json<ApplyRequest>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(error) => return failed(error.status(), error.body_text()),
    };
    match node.apply_pipeline(request).await {
        Ok(outcome) => Json(outcome).into_response(),
        Err(error) => pipeline_failed(error),
    }
}

async fn remove(State(node): Node, name: Result<Path<String>, PathRejection>) -> Response {
    let name = match name {
        Ok(Path(name)) => name,
        Err(error) => return failed(error.status(), error.body_text()),
    };
    match node.remove_pipeline(name).await {
        Ok(applied) => Json(applied).into_response(),
        Err(error) => pipeline_failed(error),
    }
}

fn pipeline_failed(error: PipelineError) -> Response {
    let text = error.to_string();
    let (status, problems) = match error {
        PipelineError::Problems(problems) => (StatusCode::UNPROCESSABLE_ENTITY, problems),
        PipelineError::Topic { .. } => (StatusCode::UNPROCESSABLE_ENTITY, Vec::new()),
        PipelineError::Unknown(_) | PipelineError::UnknownPlugin { .. } => {
            (StatusCode::NOT_FOUND, Vec::new())
        }
        PipelineError::Version(VersionError::Limits(_) | VersionError::Grants(_)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Vec::new())
        }
        PipelineError::Version(_) | PipelineError::Document(_) => (StatusCode::CONFLICT, Vec::new()),
        PipelineError::OwnConfig { .. } => (StatusCode::UNPROCESSABLE_ENTITY, Vec::new()),
        PipelineError::Propose(_) => (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
        PipelineError::Check(error) => (check_failed(&error), Vec::new()),
    };
    (status, Json(Failed { error: text, problems })).into_response()
}

fn check_failed(error: &CheckError) -> StatusCode {
    match error {
        CheckError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        CheckError::Thread(_) | CheckError::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failed(status: StatusCode, error: impl ToString) -> Response {
    (status, Json(Failed { error: error.to_string(), problems: Vec::new() })).into_response()
}
