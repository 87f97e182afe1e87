//! `GET /v1/logs`: lines that plugins have logged.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use millstream_runtime::plugin::{KeptLines, LineFilter};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Node, failed};
use crate::node::NodeState;

/// Requests that wait at a time: each has one of the listener's connections, of which others need some.
const WAITERS_MAX: usize = 16;
const WAIT_MAX: Duration = Duration::from_secs(30);
const NEWEST: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    pipeline: Option<String>,
    stage: Option<String>,
    plugin: Option<String>,
    after: Option<u64>,
    newest: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Debug, Serialize)]
struct Answer {
    begun_ms: i64,
    #[serde(flatten)]
    kept: KeptLines,
}

pub(super) fn routes() -> Router<Arc<NodeState>> {
    let waiters = Extension(Arc::new(Semaphore::new(WAITERS_MAX)));
    Router::new().route("/v1/logs", get(logs).layer(waiters))
}

async fn logs(
    State(node): Node,
    Extension(waiters): Extension<Arc<Semaphore>>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Json<Answer>, Response> {
    let Query(question) = question.map_err(|error| failed(error.status(), error.body_text()))?;
    let Question { pipeline, stage, plugin, after, newest, wait_ms } = question;
    let filter = LineFilter { pipeline, stage, plugin };
    let logs = node.logs();
    let answer = |kept| Json(Answer { begun_ms: logs.begun_ms(), kept });
    let Some(after) = after else {
        return Ok(answer(logs.newest(newest.unwrap_or(NEWEST), &filter)));
    };
    let mut kept = logs.after(after, &filter);
    if wait_ms == 0 || !kept.lines.is_empty() {
        return Ok(answer(kept));
    }
    let Ok(_place) = waiters.try_acquire() else {
        let message =
            format!("{WAITERS_MAX} others wait for lines already: try again later, or without wait_ms");
        return Err(failed(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let waited = tokio::time::sleep(Duration::from_millis(wait_ms).min(WAIT_MAX));
    let mut waited = std::pin::pin!(waited);
    // Lines of others wake it, too.
    while kept.lines.is_empty() {
        tokio::select! {
            biased;
            () = node.stopping() => break,
            () = &mut waited => break,
            () = logs.until_behind(kept.after) => {}
        }
        let lost = kept.lost;
        kept = logs.after(kept.after, &filter);
        kept.lost += lost;
    }
    Ok(answer(kept))
}
