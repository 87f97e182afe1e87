//! DeleteRecords: moves the log starts of partitions, so that what lies before is gone.

use millstream_wire::ErrorCode;
use millstream_wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use millstream_wire::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use super::RequestContext;
use crate::broker::{Broker, Readable};
use crate::ids::Offset;
use crate::partition::DeleteRecordsError;

/// Everything that consumers may see.
const HIGH_WATERMARK: i64 = -1;
const NO_WATERMARK: i64 = -1;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteRecordsRequest<'_>,
) -> DeleteRecordsResponse<'static> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let readable = broker.readable(&topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let deleted = delete(readable.as_ref(), &wanted).await;
            if let Err(code) = deleted {
                broker.metrics.error(context.api, code);
            }
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: deleted.map_or(NO_WATERMARK, |offset| offset.0),
                error_code: deleted.err().unwrap_or(ErrorCode::NONE),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name.into_owned().into(), partitions });
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

async fn delete(topic: Option<&Readable>, wanted: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    let Readable { topic, view } = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    // A view has no records of its own.
    if topic.is_internal() || view.is_some() {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if !topic.config().cleanup_policy.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let partition = topic.partition(wanted.partition_index).map_err(super::error_code::of_unavailable)?;
    let before = match wanted.offset {
        HIGH_WATERMARK => None,
        offset => Some(Offset(offset)),
    };
    partition.delete_records(before).await.map_err(|error| match error {
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        DeleteRecordsError::Storage => ErrorCode::KAFKA_STORAGE_ERROR,
    })
}
