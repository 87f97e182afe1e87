//! The storage engine as a whole, on a disk in memory.

mod basics;
mod compaction;
mod crash;
mod faults;
mod files;
mod identity;
mod inspect;
mod reclaim;
mod scrub;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use uuid::Uuid;

use super::batch::ProducerBatch;
use super::config::LogDirConfig;
use super::dir::{LogDir, LogDirContext};
use super::error::{OpenError, StorageError};
use super::metrics::NoMetrics;
use super::partition::{AppendError, Log, LogListener};
use super::read::{ReadError, ReadOutcome, ReadRequest};
use super::testing::{FaultyDisk, batch_meta, client_batch};
use crate::clock::ManualClock;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition};

fn tp(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: PartitionIndex(partition) }
}

/// Segments that are full soon.
fn small_segments() -> LogDirConfig {
    LogDirConfig {
        segment_bytes: 20_000,
        tail_cache_bytes: 8_000,
        open_segments_max: 2,
        ..Default::default()
    }
}

fn dir_path() -> PathBuf {
    PathBuf::from("/logs")
}

fn open(disk: &FaultyDisk, config: &LogDirConfig) -> Result<LogDir, OpenError> {
    let clock = Arc::new(ManualClock::default());
    let context = LogDirContext { clock, disk: Arc::new(disk.clone()), metrics: Arc::new(NoMetrics) };
    LogDir::open(&dir_path(), config.clone(), context)
}

/// Appends a batch of `records` records that take about `bytes`; answers what will be on the log.
fn append(log: &Arc<Log>, records: i32, bytes: usize, producer: Option<ProducerBatch>) -> Bytes {
    append_at(log, records, bytes, producer, 1_000).expect("the log dir works")
}

fn append_at(
    log: &Arc<Log>,
    records: i32,
    bytes: usize,
    producer: Option<ProducerBatch>,
    max_timestamp: i64,
) -> Result<Bytes, AppendError> {
    let base_offset = log.next_offset();
    let payload: Vec<u8> = (0..bytes).map(|at| (at as i64 + base_offset.0) as u8).collect();
    let batch = client_batch(records, max_timestamp, producer, &payload);
    let epoch = LeaderEpoch(3);
    let meta = batch_meta(&batch, base_offset, epoch);
    log.append(batch.clone(), vec![meta])?;
    let mut stored = batch.to_vec();
    stored[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    stored[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    Ok(stored.into())
}

fn request(from: i64, bytes_max: usize) -> ReadRequest {
    ReadRequest { from: Offset(from), upper_bound: Offset(i64::MAX), bytes_max, min_one_batch: true }
}

fn read(log: &Log, from: i64, bytes_max: usize) -> ReadOutcome {
    log.read_blocking(&request(from, bytes_max)).unwrap()
}

/// Everything that a log holds, read in steps of `bytes_max`.
fn read_all(log: &Log, bytes_max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut from = log.log_start_offset();
    while from < log.log_end_offset() {
        let outcome = read(log, from.0, bytes_max);
        let Some((_, next)) = outcome.offsets else { break };
        assert_eq!(outcome.data.iter().map(Bytes::len).sum::<usize>(), outcome.bytes);
        outcome.data.iter().for_each(|chunk| all.extend_from_slice(chunk));
        assert!(next > from, "reading gets on");
        from = next;
    }
    all
}

/// Remembers what it was told.
#[derive(Default)]
struct Told {
    flushed: Mutex<Option<Offset>>,
    failed: Mutex<Option<Arc<StorageError>>>,
}

impl LogListener for Told {
    fn flushed(&self, log_end_offset: Offset) {
        assert!(self.failed.lock().unwrap().is_none(), "nothing is acknowledged after a failure");
        *self.flushed.lock().unwrap() = Some(log_end_offset);
    }

    fn failed(&self, error: &Arc<StorageError>) {
        let before = self.failed.lock().unwrap().replace(error.clone());
        assert!(before.is_none(), "a failure is told once");
    }
}
