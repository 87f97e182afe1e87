//! Bodies of requests: read whole before anything looks at them, within a size and a time; the large ones a few at a
//! time, so that all of them together are bounded, too.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use super::failed;

const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Uploads that are received and stored at the same time.
const UPLOADS_MAX: usize = 2;
/// How long an upload waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(60);

/// The turns of uploads.
pub(super) fn upload_turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UPLOADS_MAX))
}

/// Lets the request through when it is its turn; until then nothing of its body is read.
pub(super) async fn take_turn(State(turns): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(TURN_WAIT_MAX, turns.acquire()).await {
        Ok(turn) => {
            let response = next.run(request).await;
            drop(turn);
            response
        }
        Err(_) => failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "others are uploading plugins all the time: try again later",
        ),
    }
}

/// Reads a body of at most so many bytes.
pub(super) async fn read_whole(State(bytes_max): State<usize>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIME_MAX, read(body, bytes_max)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(refused)) => refused,
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs());
            failed(StatusCode::REQUEST_TIMEOUT, message)
        }
    }
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Response> {
    let too_large = || {
        let message = format!("the body has more than {bytes_max} bytes");
        failed(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    // What the head of the request says of its length.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut chunks = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| failed(StatusCode::BAD_REQUEST, format!("the body is cut: {error}")))?;
        if chunk.len() > bytes_max - whole.len() {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}
