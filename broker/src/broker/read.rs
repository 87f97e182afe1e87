//! Reading partitions without holding up the network threads.

use std::sync::Arc;

use millstream_record::{RecordBatch, TimestampType};

use super::Broker;
use crate::ids::Offset;
use crate::log::partition::Log;
use crate::log::read::{ReadError, ReadOutcome, ReadRequest};
use crate::partition::Partition;

/// A batch may expand to this much while a timestamp is looked for in it.
const RECORDS_BYTES_MAX: usize = 128 * 1024 * 1024;

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
        self.blocking(move || log.read_blocking(&request)).await
    }

    /// The first record before `upper_bound` whose timestamp is at least `timestamp`.
    pub(crate) async fn record_at_time(
        &self,
        partition: &Arc<Partition>,
        timestamp: i64,
        upper_bound: Offset,
    ) -> Result<Option<RecordAtTime>, ReadError> {
        let log = Arc::clone(partition.log());
        self.blocking(move || {
            let found = log.offset_for_timestamp(timestamp).map_err(ReadError::Storage)?;
            found.map_or(Ok(None), |batch| look_into(&log, batch.base_offset, timestamp, upper_bound))
        })
        .await
    }

    /// The record with the largest timestamp before `upper_bound`.
    pub(crate) async fn latest_record(
        &self,
        partition: &Arc<Partition>,
        upper_bound: Offset,
    ) -> Result<Option<RecordAtTime>, ReadError> {
        let log = Arc::clone(partition.log());
        self.blocking(move || {
            let found = log.max_timestamp().map_err(ReadError::Storage)?;
            found.map_or(Ok(None), |batch| {
                look_into(&log, batch.base_offset, batch.max_timestamp, upper_bound)
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Opens the batch at `base` and looks for the record.
fn look_into(
    log: &Log,
    base: Offset,
    timestamp: i64,
    upper_bound: Offset,
) -> Result<Option<RecordAtTime>, ReadError> {
    let from = base.max(log.log_start_offset());
    let outcome = log.read_blocking(&ReadRequest { from, upper_bound, bytes_max: 0, min_one_batch: true })?;
    let bytes = outcome.data.concat();
    let Ok((batch, _)) = RecordBatch::split_first(&bytes) else { return Ok(None) };
    let last = RecordAtTime { offset: Offset(batch.last_offset()), timestamp: batch.max_timestamp() };
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(Some(RecordAtTime { offset: from, timestamp: batch.max_timestamp() }));
    }
    // A batch that can't be opened is the producer's: its header is all we know, and its end is a safe answer.
    let Ok(section) = batch.uncompressed_records(RECORDS_BYTES_MAX) else { return Ok(Some(last)) };
    let records = millstream_record::RecordIter::new(&section);
    let found = records.map_while(Result::ok).find_map(|record| {
        let (found, offset) = (batch.timestamp_of(&record), Offset(batch.offset_of(&record)));
        (found >= timestamp && offset >= from).then_some(RecordAtTime { offset, timestamp: found })
    });
    Ok(Some(found.unwrap_or(last)))
}
