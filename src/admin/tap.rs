//! `GET /v1/tap`: records as they pass a stage, an ingest or a view.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::stream;
use millstream_runtime::stage::{Tap, TapError, TapFate, TapFilter, TapNews, TapRecord, TapSide};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Node, failed};
use crate::node::NodeState;
use crate::record_json::{RecordHeader, key, value};

/// Taps of all stages: each has one of the listener's connections, of which others need some.
const TAPS_MAX: usize = 16;
/// A client that is gone is noticed when something is written.
const QUIET_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    pipeline: String,
    stage: String,
    side: Option<TapSide>,
    partition: Option<i32>,
    key: Option<String>,
    value_contains: Option<String>,
    fate: Option<TapFate>,
}

#[derive(Serialize)]
struct Line<'a> {
    side: TapSide,
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fate: Option<TapFate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    timestamp: i64,
    #[serde(flatten, serialize_with = "key")]
    key: Option<&'a [u8]>,
    #[serde(flatten, serialize_with = "value")]
    value: Option<&'a [u8]>,
    headers: Vec<RecordHeader<'a>>,
    /// Key, value or headers are longer than that.
    cut: bool,
}

pub(super) fn routes() -> Router<Arc<NodeState>> {
    let places = Extension(Arc::new(Semaphore::new(TAPS_MAX)));
    Router::new().route("/v1/tap", get(tap).layer(places))
}

async fn tap(
    State(node): Node,
    Extension(places): Extension<Arc<Semaphore>>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(question) = question.map_err(|error| failed(error.status(), error.body_text()))?;
    let Question { pipeline, stage, side, partition, key, value_contains, fate } = question;
    let Ok(place) = places.try_acquire_owned() else {
        let message = format!("{TAPS_MAX} taps are open already: close one");
        return Err(failed(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    let filter = TapFilter { side, partition, key, fate, value_contains };
    let tap = node.tap(&pipeline, &stage, filter).map_err(|error| match error {
        TapError::NoStage { .. } => failed(StatusCode::NOT_FOUND, error),
        TapError::TooMany => failed(StatusCode::SERVICE_UNAVAILABLE, error),
    })?;
    let open = Open { node, tap, _place: place };
    let lines = stream::unfold(Some(open), |open| async { Some(open?.next().await) });
    let body = Body::from_stream(lines);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A tap whose client is there. Dropped with the connection.
struct Open {
    node: Arc<NodeState>,
    tap: Tap,
    _place: OwnedSemaphorePermit,
}

impl Open {
    /// The next lines, and itself if there will be more.
    async fn next(self) -> (Result<Bytes, std::convert::Infallible>, Option<Self>) {
        let news = tokio::select! {
            biased;
            () = self.node.stopping() => None,
            news = tokio::time::timeout(QUIET_MAX, self.tap.news()) => Some(news.unwrap_or_default()),
        };
        let Some(news) = news else {
            return (Ok(line(&json!({"over": "the node stops"})).into()), None);
        };
        let is_over = news.over;
        (Ok(lines(&news).into()), (!is_over).then_some(self))
    }
}

fn lines(news: &TapNews) -> Vec<u8> {
    let mut lines: Vec<u8> = news.records.iter().flat_map(|record| line(&shown(record))).collect();
    if news.missed > 0 {
        lines.extend(line(&json!({"missed": news.missed})));
    }
    if news.over {
        lines.extend(line(&json!({"over": "the stage was stopped, or started anew"})));
    }
    if lines.is_empty() { b"\n".to_vec() } else { lines }
}

fn line(document: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(document).expect("records are texts, numbers and lists");
    line.push(b'\n');
    line
}

fn shown(record: &TapRecord) -> Line<'_> {
    Line {
        side: record.side,
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        fate: record.fate,
        outputs: record.fate.map(|_| record.outputs),
        plugin: record.plugin.as_deref(),
        reason: record.reason.as_deref(),
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| RecordHeader { key, value: value.as_deref() })
            .collect(),
        cut: record.cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> TapRecord {
        TapRecord {
            side: TapSide::In,
            topic: "in".into(),
            partition: 1,
            offset: 42,
            fate: Some(TapFate::DeadLettered),
            outputs: 0,
            plugin: Some("check".to_owned()),
            reason: Some("why".to_owned()),
            timestamp: 7,
            key: Some(vec![0xff]),
            value: None,
            headers: vec![("h".to_owned(), None)],
            cut: false,
        }
    }

    #[test]
    fn news_are_lines() {
        let news = TapNews { records: vec![record()], missed: 3, over: true };
        let text = String::from_utf8(lines(&news)).unwrap();
        let expected = "{\"side\":\"in\",\"topic\":\"in\",\"partition\":1,\"offset\":42,\"fate\":\"dead_lettered\",\
                        \"outputs\":0,\"plugin\":\"check\",\"reason\":\"why\",\"timestamp\":7,\"key_base64\":\"/w==\",\
                        \"value\":null,\"headers\":[{\"key\":\"h\",\"value\":null}],\"cut\":false}\n\
                        {\"missed\":3}\n{\"over\":\"the stage was stopped, or started anew\"}\n";
        assert_eq!(text, expected);
        let output = TapRecord { side: TapSide::Out, fate: None, ..record() };
        let text = String::from_utf8(line(&shown(&output))).unwrap();
        assert!(text.contains("\"out\"") && !text.contains("outputs") && !text.contains("fate"), "{text}");
        assert_eq!(lines(&TapNews::default()), b"\n");
    }
}
