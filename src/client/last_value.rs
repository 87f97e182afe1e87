//! What the last record of a partition says that has a certain key: how a compacted topic is asked.

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{RecordBatch, RecordIter};
use millstream_runtime::stage::{FetchedPartition, TopicPartition};
use millstream_wire::{ApiKey, ErrorCode};

use super::connection::Connection;
use super::error::ClientError;
use super::fetcher::Fetcher;
use super::offsets::{Offsets, TIMESTAMP_EARLIEST, TIMESTAMP_LATEST, list_offsets, refused};
use super::transport::Transport;

/// What one batch of such a topic may take, uncompressed.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Reads all that the partition has now, which compaction keeps short. A record without a value takes it back.
pub(crate) async fn last_value<T: Transport>(
    connection: &Arc<Connection<T>>,
    partition: &TopicPartition,
    key: &[u8],
) -> Result<Option<Bytes>, ClientError> {
    let bound = async |at| {
        let found = list_offsets(connection, [(partition, at)]).await?;
        // It has no leader now.
        let missing = || refused(ApiKey::ListOffsets, partition.clone(), ErrorCode::LEADER_NOT_AVAILABLE);
        found.get(partition).copied().ok_or_else(missing)
    };
    let (mut at, end) = (bound(TIMESTAMP_EARLIEST).await?, bound(TIMESTAMP_LATEST).await?);
    let start = Offsets::from([(partition.clone(), at)]);
    let mut fetcher = Fetcher::new(Arc::clone(connection), std::slice::from_ref(partition), &start);
    let mut last = None;
    // The last record is the last one of its key, so that compaction leaves it where it is: the end will come.
    while at < end {
        for FetchedPartition { position, batches, .. } in fetcher.next().await? {
            let unreadable =
                |reason: String| ClientError::FetchedBatch { partition: partition.clone(), position, reason };
            for batch in RecordBatch::batches(&batches) {
                let batch = batch.map_err(|error| unreadable(error.to_string()))?;
                take_last(&batch, key, &mut last).map_err(unreadable)?;
                at = at.max(batch.next_offset());
            }
        }
    }
    Ok(last)
}

fn take_last(batch: &RecordBatch<'_>, key: &[u8], last: &mut Option<Bytes>) -> Result<(), String> {
    if batch.is_control() {
        return Ok(());
    }
    let section = batch.uncompressed_records(BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
    for record in RecordIter::new(&section) {
        let record = record.map_err(|error| error.to_string())?;
        if record.key == Some(key) {
            *last = record.value.map(Bytes::copy_from_slice);
        }
    }
    Ok(())
}
