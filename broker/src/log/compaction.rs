//! Compaction (`cleanup.policy=compact`): of the records of a key, the last one stays.
//!
//! A log's batches lie among those of all others, so they are not compacted where they are. What stays of every
//! log that is due is written into new segments, log after log, which then take the place of all that older
//! segments hold of these logs; those lose live bytes, and reclaiming gives them back. It costs what the
//! compacted logs hold, whoever they share segments with.
//!
//! ```text
//! segments   64        128       192 (newest)            64        128       129         192
//! log a      a a       a a       a               ->      -         -         a a         a
//! log b      b         b b b     b b                     b         b b b                 b b
//! ```
//!
//! Offsets don't change, and gaps stay. As in Kafka, the newest segment isn't touched, and a log is due when a
//! part of it that was never compacted (`min.cleanable.dirty.ratio`) is large enough, or old enough.

mod due;
mod filter;
mod key_map;
mod output;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use self::due::Due;
use self::filter::{Filter, Filtered, filter};
use self::key_map::KeyMap;
use self::output::Output;
use super::LogNumber;
use super::batch::IndexEntry;
use super::dir::{DirShared, LogDir};
use super::error::StorageError;
use super::partition::{Log, LogInner};
use super::queue::Command;
use super::reclaim::each_live_batch;
use super::recovery::batch_is_intact;
use super::segment::Segment;
use super::span::Span;
use crate::ids::Offset;

/// What one call compacts, unless a single log has more: so much is lost where a node stops in the middle, and for
/// so long nothing else gives space back.
const RUN_BYTES_MAX: u64 = 1 << 30;

/// How a topic is compacted, by the names of its configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactionPolicy {
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    /// How long the marker of a deleted key stays, from the first compaction that meets it.
    pub delete_retention_ms: i64,
    /// What a log may have in the newest segment before that is sealed for it.
    pub segment_bytes: u64,
    pub segment_ms: i64,
    /// Records older than that may go with the others (`cleanup.policy=compact,delete`).
    pub retention_ms: Option<i64>,
    /// Records from here on are left alone: the high watermark, or the last stable offset.
    pub upper_bound: Offset,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    pub logs: usize,
    /// Bytes of batches of these logs, before and after.
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl LogDir {
    /// Compacts logs that are due, some of them; call it again until there are none. `policy` tells how, for those
    /// that are compacted. Keys take up to `keys_bytes_max` of memory. Blocks; one call at a time does it, and
    /// readers and the writer go on meanwhile. An error is of a read, or of a file that nothing refers to yet: the
    /// log dir goes on, and a log that can't be read is left alone from then on. So it is when `stop` says so.
    pub fn compact(
        &self,
        now_ms: i64,
        keys_bytes_max: usize,
        policy: impl Fn(&Log) -> Option<CompactionPolicy>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Compacted, Arc<StorageError>> {
        let shared = self.shared();
        let _one = shared.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut segments: Vec<Arc<Segment>> = shared.segments().values().cloned().collect();
        let Some(newest) = segments.pop() else { return Ok(Compacted::default()) };
        // What comes before the compacted segments must be all there is: a seal takes a moment.
        if newest.is_sealed() || segments.iter().any(|segment| !segment.is_sealed()) {
            return Ok(Compacted::default());
        }
        let mut logs = self.logs();
        logs.sort_by_key(|log| log.number());
        let (mut due, mut wants_seal) = (Vec::new(), false);
        for log in logs.into_iter().filter(|log| !log.is_uncleanable()) {
            let Some(policy) = policy(&log) else { continue };
            wants_seal |= log.inner().has_much_in(&newest, &policy, now_ms);
            let found = Due::find(log.clone(), &newest, policy, now_ms);
            due.extend(found.map_err(|error| unreadable(shared, &log, error))?);
        }
        let first_free = segments.last().map_or(1, |last| last.number + 1);
        let numbers = first_free..newest.number;
        // There is a place for compacted segments once between two others.
        if wants_seal || (!due.is_empty() && numbers.is_empty()) {
            shared.ask(Command::Roll)?;
        }
        let due = what_fits(shared, due);
        if due.is_empty() || numbers.is_empty() {
            return Ok(Compacted::default());
        }
        let mut output = Output::new(shared, numbers, due.iter().map(|due| due.bytes).sum());
        let run = Run { now_ms, keys_max: KeyMap::keys_in(keys_bytes_max), stop };
        let compacted = write_all(&mut output, due, &run)?;
        let segments = output.finish().map_err(Arc::new)?;
        shared.ask(Command::AddSegments(Arc::new(segments)))?;
        shared.flush()?;
        shared.metrics.compacted(&compacted);
        Ok(compacted)
    }
}

/// Those of the logs that one run takes on: the compacted segments are there beside the others until those are
/// reclaimed, and there must be room for them.
fn what_fits(shared: &DirShared, due: Vec<Due>) -> Vec<Due> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for due in due {
        let with_it = bytes + due.bytes;
        if !taken.is_empty() && with_it > RUN_BYTES_MAX {
            continue;
        }
        if shared.space.has_room_for(with_it, &*shared.disk, &shared.path) {
            bytes = with_it;
            taken.push(due);
        } else {
            let (log, needed) = (due.log.topic_id_partition(), due.bytes);
            tracing::warn!(dir = %shared.path.display(), %log, needed, "no room on the disk to compact a log");
        }
    }
    taken
}

/// A log that can't be read must not keep others from being compacted.
fn unreadable(shared: &DirShared, log: &Log, error: StorageError) -> Arc<StorageError> {
    // Being told to stop, or the lack of space, says nothing about the log.
    if !matches!(error, StorageError::Closed { .. } | StorageError::NoRoom { .. }) {
        log.set_uncleanable();
        shared.metrics.uncleanable();
    }
    Arc::new(error)
}

/// What one compaction goes by.
struct Run<'a> {
    now_ms: i64,
    keys_max: usize,
    stop: &'a dyn Fn() -> bool,
}

fn write_all(output: &mut Output<'_>, due: Vec<Due>, run: &Run<'_>) -> Result<Compacted, Arc<StorageError>> {
    let mut compacted = Compacted::default();
    for mut due in due {
        let before = output.bytes();
        let written = write_log(output, &mut due, run);
        written.map_err(|error| unreadable(output.shared(), &due.log, error))?;
        compacted.logs += 1;
        compacted.bytes_before += due.bytes;
        compacted.bytes_after += output.bytes() - before;
    }
    Ok(compacted)
}

/// Writes what stays of a log. Where its keys are more than memory takes, the rest stays dirty for the next run.
fn write_log(output: &mut Output<'_>, due: &mut Due, run: &Run<'_>) -> Result<(), StorageError> {
    let segments = due.log.inner().segments_before(output.newest_number());
    let mut map = KeyMap::new(run.keys_max);
    let mut end = due.dirty.end;
    each_batch(due, &segments, run, |entry, bytes| {
        if entry.end_offset() <= due.dirty.start || entry.base_offset >= end {
            return Ok(());
        }
        filter::each_record(bytes, |offset, record| {
            if (due.dirty.start..end).contains(&offset)
                && let Some(key) = record.key
                && !map.insert(key, offset)
            {
                end = offset;
            }
        });
        Ok(())
    })?;
    due.dirty.end = end;
    write_kept(output, due, &segments, &map, run)
}

fn write_kept(
    output: &mut Output<'_>,
    due: &Due,
    segments: &[Arc<Segment>],
    map: &KeyMap,
    run: &Run<'_>,
) -> Result<(), StorageError> {
    let needed = NeededBatches::of(&due.log, segments)?;
    output.begin_log(&due.log, segments, due.dirty.end);
    let retained_from = due.policy.retention_ms.map_or(i64::MIN, |ms| run.now_ms.saturating_sub(ms));
    each_batch(due, segments, run, |entry, bytes| {
        let rules = Filter {
            now_ms: run.now_ms,
            delete_retention_ms: due.policy.delete_retention_ms,
            end: due.dirty.end,
            is_needed: needed.contains(entry),
        };
        let has_expired = entry.max_timestamp < retained_from;
        match filter(bytes, &rules, |offset, key| has_expired || map.supersedes(key, offset)) {
            Filtered::Whole => output.put(entry, bytes),
            Filtered::Rebuilt { bytes, max_timestamp } => {
                let max_timestamp = max_timestamp.unwrap_or(entry.max_timestamp);
                output.put(&IndexEntry { length: bytes.len() as u32, max_timestamp, ..*entry }, &bytes)
            }
            Filtered::Dropped => Ok(()),
        }
    })?;
    output.end_log();
    Ok(())
}

/// Hands out the log's batches, each as it was written: a new batch of a damaged one would be a sound batch of wrong
/// records.
fn each_batch(
    due: &Due,
    segments: &[Arc<Segment>],
    run: &Run<'_>,
    mut each: impl FnMut(&IndexEntry, &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    for segment in segments {
        each_live_batch(&due.log, segment, |entry, bytes| {
            if (run.stop)() {
                return Err(StorageError::Closed { path: segment.path.clone() });
            }
            if !batch_is_intact(&bytes, entry) {
                let log = due.log.topic_id_partition();
                let what = format!("the batch at offset {} of {log} is damaged", entry.base_offset);
                return Err(StorageError::inconsistent(&segment.path, what));
            }
            each(entry, &bytes)
        })?;
    }
    Ok(())
}

/// Batches that stay although no record of them does: the last, so that a reader gets to the end of the log, and
/// those that say which sequence a producer has come to (for followers, who read it out of the log).
struct NeededBatches {
    last_end: i64,
    of_producers: std::collections::HashSet<i64>,
}

impl NeededBatches {
    fn of(log: &Log, segments: &[Arc<Segment>]) -> Result<Self, StorageError> {
        let mut last_end = 0;
        for segment in segments.iter().rev() {
            log.each_entry(segment, 0, |_, entry| {
                last_end = entry.end_offset();
                Ok(ControlFlow::Continue(()))
            })?;
            if last_end > 0 {
                break;
            }
        }
        let inner = log.inner();
        let producers = inner.state.producer_states.iter();
        let last_of_each = producers.filter_map(|(_, state)| state.batches.back());
        Ok(Self { last_end, of_producers: last_of_each.map(|batch| batch.base_offset.0).collect() })
    }

    fn contains(&self, entry: &IndexEntry) -> bool {
        entry.end_offset() >= self.last_end || self.of_producers.contains(&entry.base_offset)
    }
}

impl LogInner {
    fn segments_before(&self, number: u32) -> Vec<Arc<Segment>> {
        let before = self.spans.iter().filter(|span| span.segment.number < number);
        before.map(|span| span.segment.clone()).collect()
    }
}

/// Segments that compaction has written, and what they hold of each log; the writer makes them count.
#[derive(Debug)]
pub(crate) struct CompactedSegments {
    segments: Vec<Arc<Segment>>,
    logs: Mutex<Vec<(Arc<Log>, Vec<Span>)>>,
}

impl CompactedSegments {
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.segments.iter().map(|segment| segment.number)
    }

    /// Shows them to readers.
    pub(crate) fn publish(&self, shared: &DirShared) {
        shared.segments_mut().extend(self.segments.iter().map(|segment| (segment.number, segment.clone())));
        let logs = std::mem::take(&mut *self.logs.lock().unwrap_or_else(PoisonError::into_inner));
        for (log, spans) in logs {
            // One that was deleted meanwhile has no bytes in them that count.
            if shared.logs().contains_key(&log.topic_id_partition()) {
                log.inner_mut().adopt(spans);
            }
        }
    }
}

/// What a compacted segment holds, by log.
type SpansByLog = std::collections::BTreeMap<LogNumber, (Arc<Log>, Vec<Span>)>;
