//! ListOffsets: the earliest, the latest, or the first offset at or after a time.

use std::collections::HashSet;

use millstream_wire::ErrorCode;
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use millstream_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::ids::{LeaderEpoch, Offset};
use crate::partition::LocalTopic;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// Where the part that is on local disks begins; without tiered storage, the earliest (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// Where tiered storage ends (KIP-1005), and begins to be missing (KIP-1023): there is none.
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

const READ_COMMITTED: i8 = 1;
const UNKNOWN: i64 = -1;

/// An offset, and the timestamp of its record where the question was about time.
struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListOffsetsRequest<'_>,
) -> ListOffsetsResponse<'static> {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let repeated = repeated(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        // A view's offsets are its source's.
        let local = broker.readable(&topic.name).map(|readable| readable.topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let partition_index = wanted.partition_index;
            let found = match repeated.contains(&(&*topic.name, partition_index)) {
                true => Err(ErrorCode::INVALID_REQUEST),
                false => find(broker, local.as_deref(), wanted, read_committed).await,
            };
            partitions.push(match found {
                Ok(found) => ListOffsetsPartitionResponse {
                    partition_index,
                    error_code: ErrorCode::NONE,
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: if context.version >= 4 { found.leader_epoch } else { -1 },
                },
                Err(code) => {
                    broker.metrics.error(context.api, code);
                    ListOffsetsPartitionResponse { partition_index, error_code: code, ..Default::default() }
                }
            });
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name.clone().into_owned().into(), partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

/// Partitions that the request names more than once. As in Kafka they are not looked at at all; each look may
/// open a batch.
fn repeated<'a>(request: &'a ListOffsetsRequest<'_>) -> HashSet<(&'a str, i32)> {
    let mut seen = HashSet::new();
    let named = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (&*topic.name, partition.partition_index)));
    named.filter(|partition| !seen.insert(*partition)).collect()
}

async fn find(
    broker: &Broker,
    topic: Option<&LocalTopic>,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Found, ErrorCode> {
    let partition = topic
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
        .partition(wanted.partition_index)
        .map_err(super::error_code::of_unavailable)?;
    let epoch = (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch));
    partition.check_epoch(epoch).map_err(|error| super::error_code::of_position(&error))?;
    let bounds = partition.bounds();
    let upper_bound = if read_committed { bounds.last_stable } else { bounds.high_watermark };
    let at = |offset: Offset| Found {
        offset: offset.0,
        timestamp: UNKNOWN,
        leader_epoch: partition
            .log()
            .leader_epochs()
            .epoch_at(offset)
            .map_or(UNKNOWN as i32, |epoch| epoch.0),
    };
    let nothing = Found { offset: UNKNOWN, timestamp: UNKNOWN, leader_epoch: UNKNOWN as i32 };
    let record = match wanted.timestamp {
        LATEST => {
            let leader_epoch = partition.leader_epoch().0;
            return Ok(Found { offset: upper_bound.0, timestamp: UNKNOWN, leader_epoch });
        }
        EARLIEST | EARLIEST_LOCAL => return Ok(at(bounds.log_start)),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(nothing),
        MAX_TIMESTAMP => broker.latest_record(partition, upper_bound).await,
        time if time >= 0 => broker.record_at_time(partition, time, upper_bound).await,
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    match record {
        Ok(Some(record)) => Ok(Found { timestamp: record.timestamp, ..at(record.offset) }),
        Ok(None) => Ok(nothing),
        Err(error) => {
            tracing::error!(partition = %partition.id(), error = &error as &dyn std::error::Error, "can't read");
            Err(super::error_code::of_read(&error))
        }
    }
}
