//! OffsetForLeaderEpoch: where a leader epoch ended, so that a reader finds out whether the log was truncated
//! under it (KIP-320).

use millstream_wire::ErrorCode;
use millstream_wire::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use millstream_wire::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::ids::LeaderEpoch;
use crate::partition::LocalTopic;

const UNDEFINED: i32 = -1;

pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest<'_>,
) -> OffsetForLeaderEpochResponse<'static> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let local = broker.readable(&topic.topic).map(|readable| readable.topic);
        let end = |wanted: OffsetForLeaderPartition| {
            end_offset(local.as_deref(), &wanted).unwrap_or_else(|code| {
                broker.metrics.error(context.api, code);
                EpochEndOffset { error_code: code, partition: wanted.partition, ..Default::default() }
            })
        };
        let partitions = topic.partitions.into_iter().map(end).collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic.into_owned().into(), partitions });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

fn end_offset(
    topic: Option<&LocalTopic>,
    wanted: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    let partition = topic
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
        .partition(wanted.partition)
        .map_err(super::error_code::of_unavailable)?;
    let believed = (wanted.current_leader_epoch >= 0).then_some(LeaderEpoch(wanted.current_leader_epoch));
    partition.check_epoch(believed).map_err(|error| super::error_code::of_position(&error))?;
    let asked = LeaderEpoch(wanted.leader_epoch);
    let (leader_epoch, end_offset) = match asked {
        // The epoch that is being written ends at what consumers may see.
        asked if asked == partition.leader_epoch() => (asked.0, partition.bounds().high_watermark.0),
        asked => partition
            .log()
            .epoch_end_offset(asked)
            .map_or((UNDEFINED, i64::from(UNDEFINED)), |(epoch, offset)| (epoch.0, offset.0)),
    };
    Ok(EpochEndOffset { error_code: ErrorCode::NONE, partition: wanted.partition, leader_epoch, end_offset })
}
