//! Produce: begun when it is read, so that one commit serves a client's whole pipeline; answered when the
//! high watermark has passed its batches.
//!
//! A batch that an ingest hook looks at, or that must be opened to be checked, gets its turn when it is read, and its
//! offsets when its turn comes (`broker/ingest.rs`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_wire::ErrorCode;
use millstream_wire::produce_request::{ProduceRequest, TopicProduceData};
use millstream_wire::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use uuid::Uuid;

use super::{RequestContext, RequestError};
use crate::broker::{Appending, Broker, IngestError, TopicError};
use crate::connection::Outcome;
use crate::ids::TopicId;
use crate::partition::{AppendError, Appended, LocalTopic, Partition, RecordRefusal};

const ACKS_ALL: i16 = -1;
const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;

/// A Produce whose batches have their offsets, or their places in their partitions' lanes.
pub(super) struct Pending {
    acks: i16,
    timeout: Duration,
    topics: Vec<PendingTopic>,
}

struct PendingTopic {
    name: String,
    topic_id: Uuid,
    partitions: Vec<(i32, Result<Appending, Refusal>)>,
}

/// A partition's error.
#[derive(Clone)]
struct Refusal {
    code: ErrorCode,
    message: Option<String>,
    records: Vec<RecordRefusal>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, records: Vec::new() }
    }
}

impl From<IngestError> for Refusal {
    fn from(error: IngestError) -> Self {
        let message = Some(error.to_string());
        let code = super::error_code::of_ingest(&error);
        let records = match error {
            IngestError::Append(AppendError::Invalid(invalid)) => invalid.into_refusals(),
            IngestError::Refused { records, .. } => records,
            IngestError::Append(_) | IngestError::Later(_) => Vec::new(),
        };
        Self { code, message, records }
    }
}

/// Begins to append every batch of the request. What would hold up the network thread goes on in tasks.
pub(super) fn start(
    broker: &Arc<Broker>,
    context: &RequestContext,
    body: &Bytes,
) -> Result<Pending, RequestError> {
    let request = context.decode::<ProduceRequest<'_>>(body)?;
    let acks = request.acks;
    let valid = matches!(acks, ACKS_ALL | ACKS_NONE | ACKS_LEADER);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let local = match valid {
            true => find_topic(broker, context, &topic),
            false => Err(ErrorCode::INVALID_REQUIRED_ACKS.into()),
        };
        let bound = local.map(|local| (broker.hooks.ingest(local.image()), local));
        let partitions = topic
            .partition_data
            .into_iter()
            .map(|data| {
                let records = data.records.map(|records| records.share(body)).unwrap_or_default();
                let begun = match &bound {
                    Ok((binding, local)) => partition(local, data.index, acks).map(|partition| {
                        let (client_id, principal) = (&context.client_id, &context.peer.principal);
                        broker.begin_append(local, partition, binding, records, client_id, principal)
                    }),
                    Err(refusal) => Err(refusal.clone()),
                };
                (data.index, begun)
            })
            .collect();
        topics.push(PendingTopic { name: topic.name.into_owned(), topic_id: topic.topic_id, partitions });
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    Ok(Pending { acks, timeout, topics })
}

fn find_topic(
    broker: &Broker,
    context: &RequestContext,
    topic: &TopicProduceData<'_>,
) -> Result<Arc<LocalTopic>, Refusal> {
    let image = broker.metadata.image();
    let (view, local, unknown) = match context.version {
        ..13 => {
            let (view, local) = (image.view(&topic.name), broker.topics.by_name(&topic.name));
            (view, local, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        _ => {
            let id = TopicId(topic.topic_id);
            (image.view_by_id(id), broker.topics.by_id(id), ErrorCode::UNKNOWN_TOPIC_ID)
        }
    };
    if let Some(view) = view {
        let error = TopicError::IsView(view.name.clone());
        let message = Some(error.to_string());
        return Err(Refusal { code: super::error_code::of_topic(&error), message, records: Vec::new() });
    }
    let local = local.ok_or(unknown)?;
    if local.is_internal() { Err(ErrorCode::INVALID_TOPIC_EXCEPTION.into()) } else { Ok(local) }
}

fn partition(topic: &LocalTopic, index: i32, acks: i16) -> Result<&Arc<Partition>, Refusal> {
    let partition = topic.partition(index).map_err(super::error_code::of_unavailable)?;
    if acks == ACKS_ALL && !partition.has_enough_replicas() {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    }
    Ok(partition)
}

pub(super) async fn finish(broker: &Broker, context: &RequestContext, pending: Pending) -> Outcome {
    if pending.acks == ACKS_NONE {
        let mut has_failed = false;
        for (_, begun) in pending.topics.into_iter().flat_map(|topic| topic.partitions) {
            has_failed |= appended(begun).await.is_err();
        }
        context.answered(broker);
        return if has_failed { Err(RequestError::UnacknowledgedProduce) } else { Ok(None) };
    }
    let deadline = tokio::time::Instant::now() + pending.timeout;
    let mut responses = Vec::with_capacity(pending.topics.len());
    for topic in pending.topics {
        let mut partition_responses = Vec::with_capacity(topic.partitions.len());
        for (index, begun) in topic.partitions {
            let acknowledged = acknowledge(index, begun, deadline).await;
            let response = acknowledged.unwrap_or_else(|refusal| refuse(broker, context, index, refusal));
            partition_responses.push(response);
        }
        responses.push(TopicProduceResponse {
            name: topic.name.into(),
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    context.answer(broker, &ProduceResponse { responses, ..Default::default() })
}

/// Waits until the batch has its offsets.
async fn appended(begun: Result<Appending, Refusal>) -> Result<Appended, Refusal> {
    let appended = match begun? {
        Appending::Done(appended) => appended,
        Appending::InLane(task) => match task.await {
            Ok(appended) => appended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
    };
    Ok(appended?)
}

async fn acknowledge(
    index: i32,
    begun: Result<Appending, Refusal>,
    deadline: tokio::time::Instant,
) -> Result<PartitionProduceResponse<'static>, Refusal> {
    let acknowledged = async {
        let appended = appended(begun).await?;
        match appended.done.await {
            Ok(Ok(())) => Ok(PartitionProduceResponse {
                index,
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.append_time_ms.unwrap_or(-1),
                log_start_offset: appended.log_start_offset.0,
                ..Default::default()
            }),
            Ok(Err(error)) => Err(IngestError::from(AppendError::Storage(error)).into()),
            // The partition went away with its topic.
            Err(_) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into()),
        }
    };
    match tokio::time::timeout_at(deadline, acknowledged).await {
        Ok(acknowledged) => acknowledged,
        Err(_) => Err(ErrorCode::REQUEST_TIMED_OUT.into()),
    }
}

fn refuse(
    broker: &Broker,
    context: &RequestContext,
    index: i32,
    refusal: Refusal,
) -> PartitionProduceResponse<'static> {
    broker.metrics.error(context.api, refusal.code);
    let record_errors = refusal.records.into_iter().map(|record| BatchIndexAndErrorMessage {
        batch_index: record.index,
        batch_index_error_message: Some(record.message.into()),
    });
    PartitionProduceResponse {
        index,
        error_code: refusal.code,
        base_offset: -1,
        record_errors: record_errors.collect(),
        error_message: refusal.message.map(Into::into),
        ..Default::default()
    }
}
