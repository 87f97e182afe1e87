//! Reading partitions without holding up the network threads.

use std::sync::Arc;

use millstream_record::{RecordBatch, RecordIter, TimestampType};

use super::{Broker, blocking};
use crate::ids::Offset;
use crate::log::batch::OPENED_BYTES_MAX;
use crate::log::error::StorageError;
use crate::log::partition::Log;
use crate::log::read::{ReadError, ReadOutcome, ReadRequest, TimestampedBatch};
use crate::partition::Partition;

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordAtTime {
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
}

impl Broker {
    /// Whole batches: from memory at once if they are there, from disk on a thread that may block otherwise.
    pub(crate) async fn read(&self, log: &Arc<Log>, request: ReadRequest) -> Result<ReadOutcome, ReadError> {
        if let Some(outcome) = log.read_cached(&request)? {
            return Ok(outcome);
        }
        let log = Arc::clone(log);
        blocking(move || log.read_blocking(&request)).await
    }

    /// The first record before `upper_bound` whose timestamp is at least `timestamp`.
    pub(crate) async fn record_at_time(
        &self,
        partition: &Arc<Partition>,
        timestamp: i64,
        upper_bound: Offset,
    ) -> Result<Option<RecordAtTime>, ReadError> {
        let log = Arc::clone(partition.log());
        let found = blocking(move || log.offset_for_timestamp(timestamp)).await;
        self.look_into(partition.log(), found, |_| timestamp, upper_bound).await
    }

    /// The record with the largest timestamp before `upper_bound`.
    pub(crate) async fn latest_record(
        &self,
        partition: &Arc<Partition>,
        upper_bound: Offset,
    ) -> Result<Option<RecordAtTime>, ReadError> {
        let log = Arc::clone(partition.log());
        let found = blocking(move || log.max_timestamp()).await;
        self.look_into(partition.log(), found, |batch| batch.max_timestamp, upper_bound).await
    }

    /// Opens the batch that was found, and looks for the first record that is as late as `timestamp` says.
    async fn look_into(
        &self,
        log: &Arc<Log>,
        found: Result<Option<TimestampedBatch>, StorageError>,
        timestamp: impl Fn(&TimestampedBatch) -> i64,
        upper_bound: Offset,
    ) -> Result<Option<RecordAtTime>, ReadError> {
        let Some(batch) = found.map_err(ReadError::Storage)? else { return Ok(None) };
        let timestamp = timestamp(&batch);
        let from = batch.base_offset.max(log.log_start_offset());
        let request = ReadRequest { from, upper_bound, bytes_max: 0, min_one_batch: true };
        let outcome = self.read(log, request).await?;
        let appended = batch.max_timestamp;
        Ok(self.openings.run(move || first_at(&outcome.data.concat(), timestamp, from, appended)).await)
    }
}

/// The first record of the batch, from offset `from` on, whose timestamp is at least `timestamp`. Records without
/// one count as of `appended`.
fn first_at(bytes: &[u8], timestamp: i64, from: Offset, appended: i64) -> Option<RecordAtTime> {
    let (batch, _) = RecordBatch::split_first(bytes).ok()?;
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Some(RecordAtTime { offset: from, timestamp: batch.max_timestamp() });
    }
    if batch.max_timestamp() < 0 {
        return Some(RecordAtTime { offset: from, timestamp: appended });
    }
    let last = RecordAtTime { offset: Offset(batch.last_offset()), timestamp: batch.max_timestamp() };
    // A batch that can't be opened is the producer's: its header is all we know, and its end is a safe answer.
    let Ok(section) = batch.uncompressed_records(OPENED_BYTES_MAX) else { return Some(last) };
    let found = RecordIter::new(&section).map_while(Result::ok).find_map(|record| {
        let (found, offset) = (batch.timestamp_of(&record), Offset(batch.offset_of(&record)));
        (found >= timestamp && offset >= from).then_some(RecordAtTime { offset, timestamp: found })
    });
    Some(found.unwrap_or(last))
}
