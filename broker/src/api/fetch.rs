//! Fetch: whole batches from each partition, in the request's order; waits for `min_bytes` like Kafka's
//! DelayedFetch.
//!
//! Sessions (KIP-227) are declined, which the protocol allows: the response's session id is 0, and the client
//! names all its partitions each time.
//!
//! A view is read from its source: positions, bounds and waits are the source's, as is what counts for `min_bytes`.
//! Only the batches are what the view makes of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_wire::fetch_request::FetchRequest;
use millstream_wire::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use millstream_wire::{ErrorCode, Records};
use uuid::Uuid;

use super::RequestContext;
use super::fetch_marker::marked_if_empty;
use crate::broker::{Broker, ReadView, Readable};
use crate::connection::ResponseLease;
use crate::hooks::VIEW_TIME_MAX;
use crate::ids::{LeaderEpoch, Offset, TopicId};
use crate::log::read::ReadRequest;
use crate::metadata::ViewImage;
use crate::partition::{Bounds, FetchWait, Partition};

const READ_COMMITTED: i8 = 1;
/// What a fetch of views gets at most: they hold memory as long as hooks take, so many must have room.
const VIEW_FETCH_BYTES_MAX: usize = 1024 * 1024;
const FULL_FETCH_EPOCHS: std::ops::RangeInclusive<i32> = -1..=0;

/// A topic of the request, with the partitions that this broker leads: of a view, its source's.
struct WantedTopic {
    name: String,
    topic_id: Uuid,
    view: Option<Arc<ViewImage>>,
    partitions: Vec<Wanted>,
}

struct Wanted {
    index: i32,
    partition: Result<Arc<Partition>, ErrorCode>,
    offset: Offset,
    epoch: Option<LeaderEpoch>,
    bytes_max: usize,
}

/// What a request still may take.
struct Allowance {
    bytes: usize,
    /// The first batch is sent whatever its size, or a consumer could never pass it.
    nothing_yet: bool,
    /// What views have not shown by then is left for the next request.
    views_until: tokio::time::Instant,
}

/// One pass over the wanted partitions.
struct Pass {
    topics: Vec<Vec<Read>>,
    bytes: usize,
    /// What counts for `min_bytes`.
    stored_bytes: usize,
    /// The client must hear of it at once: an error, or more records than it takes of a partition.
    urgent: bool,
}

impl Pass {
    /// The records hold the lease until the last of them is sent.
    fn leased(mut self, lease: ResponseLease) -> Self {
        let chunks = self.topics.iter_mut().flatten().flat_map(|read| &mut read.chunks);
        if let Some(last) = chunks.last() {
            *last = lease.attach_to(std::mem::take(last), self.bytes);
        }
        self
    }
}

struct Read {
    error: ErrorCode,
    bounds: Option<Bounds>,
    chunks: Vec<Bytes>,
    stored_bytes: usize,
    is_full: bool,
}

impl Read {
    fn nothing(error: ErrorCode, bounds: Option<Bounds>) -> Self {
        Self { error, bounds, chunks: Vec::new(), stored_bytes: 0, is_full: false }
    }
}

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FetchRequest<'_>,
) -> FetchResponse<'static> {
    if request.session_id != 0 || !FULL_FETCH_EPOCHS.contains(&request.session_epoch) {
        let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        broker.metrics.error(context.api, code);
        return FetchResponse { error_code: code, ..Default::default() };
    }
    let bytes_max =
        usize::try_from(request.max_bytes).unwrap_or(0).min(broker.config.fetch_max_bytes as usize);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let wait_ms = request.max_wait_ms.clamp(0, broker.config.fetch_max_wait_ms);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms as u64);
    let read_committed = request.isolation_level == READ_COMMITTED;
    let wanted = resolve(broker, context, request);
    let has_views = wanted.iter().any(|topic| topic.view.is_some());
    let (budget, bytes_max) = match has_views {
        true => (&broker.view_response_budget, bytes_max.min(VIEW_FETCH_BYTES_MAX)),
        false => (&broker.response_budget, bytes_max),
    };
    let min_bytes = min_bytes.min(bytes_max);
    let wait = FetchWait::default();
    loop {
        // Registered first: a change during the pass is seen by the wait.
        for wanted in wanted.iter().flat_map(|topic| &topic.partitions) {
            if let Ok(partition) = &wanted.partition {
                partition.wait(&wait.0);
            }
        }
        let lease = budget.lease(bytes_max).await;
        let pass = read_all(broker, &wanted, bytes_max.min(lease.bytes()), read_committed).await;
        let stopping = broker.stopping.is_cancelled();
        if pass.urgent
            || stopping
            || pass.stored_bytes >= min_bytes
            || tokio::time::Instant::now() >= deadline
        {
            return respond(broker, context, wanted, pass.leased(lease));
        }
        drop((lease, pass));
        tokio::select! {
            () = wait.0.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = broker.stopping.cancelled() => {}
        }
    }
}

fn resolve(broker: &Broker, context: &RequestContext, request: FetchRequest<'_>) -> Vec<WantedTopic> {
    let by_id = context.version >= 13;
    let topic = |topic: millstream_wire::fetch_request::FetchTopic<'_>| {
        let readable = match by_id {
            true => broker.readable_by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
            false => broker.readable(&topic.topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let partition = |wanted: millstream_wire::fetch_request::FetchPartition| Wanted {
            index: wanted.partition,
            partition: readable.as_ref().map_err(|&code| code).and_then(|Readable { topic, .. }| {
                topic.partition(wanted.partition).cloned().map_err(super::error_code::of_unavailable)
            }),
            offset: Offset(wanted.fetch_offset),
            epoch: (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch)),
            bytes_max: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        };
        let partitions = topic.partitions.into_iter().map(partition).collect();
        let view = readable.ok().and_then(|readable| readable.view);
        WantedTopic { name: topic.topic.into_owned(), topic_id: topic.topic_id, view, partitions }
    };
    request.topics.into_iter().map(topic).collect()
}

async fn read_all(broker: &Broker, topics: &[WantedTopic], bytes_max: usize, read_committed: bool) -> Pass {
    let mut pass =
        Pass { topics: Vec::with_capacity(topics.len()), bytes: 0, stored_bytes: 0, urgent: false };
    let views_until = tokio::time::Instant::now() + VIEW_TIME_MAX;
    let mut allowance = Allowance { bytes: bytes_max, nothing_yet: true, views_until };
    for topic in topics {
        let mut reads = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let read = match read_one(broker, wanted, topic.view.as_ref(), &allowance, read_committed).await {
                Ok(read) => read,
                Err(error) => {
                    pass.urgent = true;
                    Read::nothing(error, None)
                }
            };
            let bytes: usize = read.chunks.iter().map(Bytes::len).sum();
            pass.bytes += bytes;
            pass.stored_bytes += read.stored_bytes;
            pass.urgent |= read.is_full;
            allowance.bytes = allowance.bytes.saturating_sub(bytes);
            allowance.nothing_yet &= bytes == 0;
            reads.push(read);
        }
        pass.topics.push(reads);
    }
    pass
}

async fn read_one(
    broker: &Broker,
    wanted: &Wanted,
    view: Option<&Arc<ViewImage>>,
    allowance: &Allowance,
    read_committed: bool,
) -> Result<Read, ErrorCode> {
    let partition = wanted.partition.as_ref().map_err(|&code| code)?;
    let is_gone = |view: &Arc<ViewImage>| broker.metadata.image().view_by_id(view.id).is_none();
    if partition.is_deleted() || view.is_some_and(is_gone) {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let bounds = match partition.check_position(wanted.offset, wanted.epoch) {
        Ok(bounds) => bounds,
        Err(error) => return Err(super::error_code::of_position(&error)),
    };
    let upper_bound = if read_committed { bounds.last_stable } else { bounds.high_watermark };
    let bytes_max = wanted.bytes_max.min(allowance.bytes);
    if wanted.offset >= upper_bound || (bytes_max == 0 && !allowance.nothing_yet) {
        return Ok(Read::nothing(ErrorCode::NONE, Some(bounds)));
    }
    let read =
        ReadRequest { from: wanted.offset, upper_bound, bytes_max, min_one_batch: allowance.nothing_yet };
    let outcome = broker.read(partition.log(), read).await.map_err(|error| {
        tracing::error!(partition = %partition.id(), error = &error as &dyn std::error::Error, "can't read");
        super::error_code::of_read(&error)
    })?;
    let (mut read, stored_bytes) = (Read::nothing(ErrorCode::NONE, Some(bounds)), outcome.bytes);
    (read.chunks, read.is_full) = match view {
        None => (outcome.data, outcome.is_full),
        Some(view) => {
            let read = ReadView {
                view,
                source: &partition.id().topic,
                partition: partition.id().partition,
                batches: outcome.data,
                bytes_max,
                min_one_batch: allowance.nothing_yet,
                deadline: allowance.views_until,
            };
            let shown = broker.show(read).await.map_err(|error| super::error_code::of_view(&error))?;
            (shown.batches, shown.is_full || outcome.is_full)
        }
    };
    read.chunks = marked_if_empty(read.chunks);
    Ok(Read { stored_bytes, ..read })
}

fn respond(
    broker: &Broker,
    context: &RequestContext,
    wanted: Vec<WantedTopic>,
    pass: Pass,
) -> FetchResponse<'static> {
    broker.metrics.fetched(pass.bytes);
    let responses = wanted
        .into_iter()
        .zip(pass.topics)
        .map(|(topic, reads)| FetchableTopicResponse {
            topic: topic.name.into(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .zip(reads)
                .map(|(wanted, read)| partition_data(broker, context, wanted.index, read))
                .collect(),
        })
        .collect();
    FetchResponse { responses, ..Default::default() }
}

fn partition_data(
    broker: &Broker,
    context: &RequestContext,
    partition_index: i32,
    read: Read,
) -> PartitionData<'static> {
    if read.error != ErrorCode::NONE {
        broker.metrics.error(context.api, read.error);
    }
    let bounds = read.bounds;
    PartitionData {
        partition_index,
        error_code: read.error,
        high_watermark: bounds.map_or(-1, |bounds| bounds.high_watermark.0),
        last_stable_offset: bounds.map_or(-1, |bounds| bounds.last_stable.0),
        log_start_offset: bounds.map_or(-1, |bounds| bounds.log_start.0),
        // Null for read_uncommitted; without transactions there is none to list for read_committed either.
        aborted_transactions: None,
        records: Some(Records::from_chunks(read.chunks)),
        ..Default::default()
    }
}
