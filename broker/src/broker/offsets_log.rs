//! `__consumer_offsets` as the group coordinator sees it: partitions of this broker, read and appended to like
//! any other.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use millstream_record::{BatchBuilder, RecordBatch, RecordIter};

use super::{OFFSETS_TOPIC, blocking};
use crate::clock::SharedClock;
use crate::config::BrokerConfig;
use crate::group::{self, GroupConfig, GroupCoordinator, LogChunk, LogRecord, OffsetsLog};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex};
use crate::log;
use crate::log::batch::OPENED_BYTES_MAX;
use crate::log::partition::Log;
use crate::log::read::ReadRequest;
use crate::partition::{AppendError, InvalidBatch, LocalTopics, Origin, Partition, Unavailable};

/// How much of a partition is held while it is replayed.
const REPLAY_BYTES: usize = 1024 * 1024;

/// The coordinator over the partitions of `topics`.
pub(super) fn coordinator(
    config: &BrokerConfig,
    clock: &SharedClock,
    topics: &Arc<LocalTopics>,
) -> GroupCoordinator {
    let partition_count = config.offsets_topic_num_partitions;
    let log = Arc::new(LocalOffsetsLog { topics: Arc::clone(topics), clock: Arc::clone(clock) });
    GroupCoordinator::new(GroupConfig::new(config), partition_count, log, Arc::clone(clock))
}

struct LocalOffsetsLog {
    topics: Arc<LocalTopics>,
    clock: SharedClock,
}

impl LocalOffsetsLog {
    fn partition(&self, index: PartitionIndex) -> Result<Arc<Partition>, Unavailable> {
        let topic = self.topics.by_name(OFFSETS_TOPIC).ok_or(Unavailable::Unknown)?;
        topic.partition(index.0).cloned()
    }

    fn begin(
        &self,
        index: PartitionIndex,
        leader_epoch: LeaderEpoch,
        records: &[LogRecord],
    ) -> Result<crate::partition::ProduceDone, group::AppendError> {
        let partition = self.partition(index).map_err(|unavailable| match unavailable {
            Unavailable::Unknown => group::AppendError::UnknownPartition,
            Unavailable::Offline => group::AppendError::StorageFailed,
        })?;
        if partition.leader_epoch() != leader_epoch {
            return Err(group::AppendError::NotLeader);
        }
        if !partition.has_enough_replicas() {
            return Err(group::AppendError::NotEnoughReplicas);
        }
        let bytes_max = usize::try_from(partition.config().max_message_bytes).unwrap_or(0);
        let mut batch = BatchBuilder::new(bytes_max);
        for record in records {
            batch
                .append(self.clock.wall_ms(), Some(&record.key), record.value.as_deref(), [])
                .map_err(|_| group::AppendError::TooLarge)?;
        }
        let bytes = batch.finish().map_err(|_| group::AppendError::TooLarge)?;
        match partition.append(bytes.into(), Origin::Coordinator) {
            Ok(appended) => Ok(appended.done),
            Err(AppendError::Invalid(InvalidBatch::TooLarge { .. })) => Err(group::AppendError::TooLarge),
            Err(AppendError::Log(log::partition::AppendError::QueueFull { .. })) => {
                Err(group::AppendError::TimedOut)
            }
            Err(AppendError::Log(log::partition::AppendError::Deleted)) => {
                Err(group::AppendError::UnknownPartition)
            }
            Err(AppendError::Log(log::partition::AppendError::DiskFull { .. })) => {
                Err(group::AppendError::TimedOut)
            }
            Err(AppendError::Storage(_) | AppendError::Log(log::partition::AppendError::Fenced(_))) => {
                Err(group::AppendError::StorageFailed)
            }
            Err(AppendError::Invalid(_) | AppendError::Producer(_)) => {
                unreachable!("the batch was built here, without a producer")
            }
        }
    }
}

impl OffsetsLog for LocalOffsetsLog {
    fn append(
        &self,
        partition: PartitionIndex,
        leader_epoch: LeaderEpoch,
        records: Vec<LogRecord>,
    ) -> BoxFuture<'static, Result<(), group::AppendError>> {
        let begun = self.begin(partition, leader_epoch, &records);
        async move {
            match begun?.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(group::AppendError::StorageFailed),
                // The topic was deleted.
                Err(_) => Err(group::AppendError::UnknownPartition),
            }
        }
        .boxed()
    }

    fn read(
        &self,
        partition: PartitionIndex,
        from: Offset,
    ) -> BoxFuture<'static, Result<LogChunk, group::ReadError>> {
        let partition = self.partition(partition);
        async move {
            let partition = partition.map_err(|_| group::ReadError::NotLeader)?;
            let upper_bound = partition.bounds().high_watermark;
            let log = Arc::clone(partition.log());
            let chunk = blocking(move || read_chunk(&log, from, upper_bound)).await;
            chunk.map_err(|error| group::ReadError::Storage(Box::new(error)))
        }
        .boxed()
    }
}

fn read_chunk(log: &Log, from: Offset, upper_bound: Offset) -> Result<LogChunk, log::read::ReadError> {
    let from = from.max(log.log_start_offset());
    let request = ReadRequest { from, upper_bound, bytes_max: REPLAY_BYTES, min_one_batch: true };
    let outcome = log.read_blocking(&request)?;
    let Some((_, end)) = outcome.offsets else { return Ok(LogChunk { records: Vec::new(), next: None }) };
    let bytes = Bytes::from(outcome.data.concat());
    let mut records = Vec::new();
    for batch in RecordBatch::batches(&bytes) {
        let section = batch.ok().and_then(|batch| batch.uncompressed_records(OPENED_BYTES_MAX).ok());
        let Some(section) = section else {
            // What can't be read here could not be replayed by any coordinator; the rest can.
            tracing::error!(log = %log.topic_id_partition(), "a damaged batch of {OFFSETS_TOPIC} is skipped");
            continue;
        };
        for record in RecordIter::new(&section).map_while(Result::ok) {
            records.push(LogRecord {
                key: Bytes::copy_from_slice(record.key.unwrap_or_default()),
                value: record.value.map(Bytes::copy_from_slice),
            });
        }
    }
    Ok(LogChunk { records, next: Some(end) })
}
