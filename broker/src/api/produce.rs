//! Produce: begun when it is read, so that one commit serves a client's whole pipeline; answered when the
//! high watermark has passed its batches.

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
use crate::broker::Broker;
use crate::connection::Outcome;
use crate::ids::TopicId;
use crate::partition::{self, AppendError, Appended, LocalTopic, Origin, RecordRefusal};

const ACKS_ALL: i16 = -1;
const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;

/// A Produce whose batches have their offsets.
pub(super) struct Pending {
    acks: i16,
    timeout: Duration,
    topics: Vec<PendingTopic>,
}

struct PendingTopic {
    name: String,
    topic_id: Uuid,
    partitions: Vec<(i32, Result<Appended, Refusal>)>,
}

/// A partition's error.
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

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let message = Some(error.to_string());
        let code = super::error_code::of_append(&error);
        let records = match error {
            AppendError::Invalid(invalid) => invalid.into_refusals(),
            _ => Vec::new(),
        };
        Self { code, message, records }
    }
}

/// Appends at once; `None`, and nothing is done, where that would hold up the network thread.
pub(super) fn start_now(
    broker: &Broker,
    context: &RequestContext,
    body: &Bytes,
) -> Result<Option<Pending>, RequestError> {
    let request = context.decode::<ProduceRequest<'_>>(body)?;
    Ok((!must_decompress(broker, context, &request)).then(|| append_all(broker, context, body, request)))
}

/// Appends on whatever thread it takes.
pub(super) async fn start(
    broker: &Arc<Broker>,
    context: &RequestContext,
    body: &Bytes,
) -> Result<Pending, RequestError> {
    if let Some(pending) = start_now(broker, context, body)? {
        return Ok(pending);
    }
    let (opener, context, body) = (Arc::clone(broker), context.clone(), body.clone());
    let opened = move || {
        let request = context.decode::<ProduceRequest<'_>>(&body)?;
        Ok(append_all(&opener, &context, &body, request))
    };
    broker.openings.run(opened).await
}

fn must_decompress(broker: &Broker, context: &RequestContext, request: &ProduceRequest<'_>) -> bool {
    request.topic_data.iter().any(|topic| {
        find_topic(broker, context, topic).is_ok_and(|local| {
            let mut batches = topic.partition_data.iter().filter_map(|data| data.records.as_ref());
            batches.any(|records| partition::must_decompress(&records.contiguous(), local.config()))
        })
    })
}

fn append_all(
    broker: &Broker,
    context: &RequestContext,
    body: &Bytes,
    request: ProduceRequest<'_>,
) -> Pending {
    let acks = request.acks;
    let valid = matches!(acks, ACKS_ALL | ACKS_NONE | ACKS_LEADER);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let local = match valid {
            true => find_topic(broker, context, &topic),
            false => Err(ErrorCode::INVALID_REQUIRED_ACKS),
        };
        let partitions = topic
            .partition_data
            .into_iter()
            .map(|data| {
                let records = data.records.map(|records| records.share(body));
                let appended = match &local {
                    Ok(local) => append(broker, local, data.index, records.unwrap_or_default(), acks),
                    Err(code) => Err(Refusal::from(*code)),
                };
                (data.index, appended)
            })
            .collect();
        topics.push(PendingTopic { name: topic.name.into_owned(), topic_id: topic.topic_id, partitions });
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    Pending { acks, timeout, topics }
}

fn find_topic(
    broker: &Broker,
    context: &RequestContext,
    topic: &TopicProduceData<'_>,
) -> Result<Arc<LocalTopic>, ErrorCode> {
    let local = match context.version {
        ..13 => broker.topics.by_name(&topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?,
        _ => broker.topics.by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?,
    };
    if local.is_internal() { Err(ErrorCode::INVALID_TOPIC_EXCEPTION) } else { Ok(local) }
}

fn append(
    broker: &Broker,
    topic: &LocalTopic,
    index: i32,
    records: Bytes,
    acks: i16,
) -> Result<Appended, Refusal> {
    let partition = topic.partition(index).map_err(super::error_code::of_unavailable)?;
    if acks == ACKS_ALL && !partition.has_enough_replicas() {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    }
    let bytes = records.len();
    let appended = partition.append(records, Origin::Client)?;
    broker.metrics.produced(appended.records, bytes);
    Ok(appended)
}

pub(super) async fn finish(broker: &Broker, context: &RequestContext, pending: Pending) -> Outcome {
    if pending.acks == ACKS_NONE {
        let failed = pending.topics.iter().flat_map(|topic| &topic.partitions).any(|(_, r)| r.is_err());
        context.answered(broker);
        return if failed { Err(RequestError::UnacknowledgedProduce) } else { Ok(None) };
    }
    let deadline = tokio::time::Instant::now() + pending.timeout;
    let mut responses = Vec::with_capacity(pending.topics.len());
    for topic in pending.topics {
        let mut partition_responses = Vec::with_capacity(topic.partitions.len());
        for (index, appended) in topic.partitions {
            let acknowledged = match appended {
                Ok(appended) => acknowledge(index, appended, deadline).await,
                Err(refusal) => Err(refusal),
            };
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

async fn acknowledge(
    index: i32,
    appended: Appended,
    deadline: tokio::time::Instant,
) -> Result<PartitionProduceResponse<'static>, Refusal> {
    match tokio::time::timeout_at(deadline, appended.done).await {
        Ok(Ok(Ok(()))) => Ok(PartitionProduceResponse {
            index,
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.append_time_ms.unwrap_or(-1),
            log_start_offset: appended.log_start_offset.0,
            ..Default::default()
        }),
        Ok(Ok(Err(error))) => Err(AppendError::Storage(error).into()),
        // The partition went away with its topic.
        Ok(Err(_)) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into()),
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
