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

mod bits;
mod filter;
mod key_map;
mod output;

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use self::bits::Bits;
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
use super::segment::Segment;
use super::span::{Span, SpanIndex};
use crate::ids::Offset;

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

/// A log that is due.
struct Due {
    log: Arc<Log>,
    policy: CompactionPolicy,
    /// What compaction has not seen yet, and may look at.
    dirty: Range<i64>,
    bytes: u64,
}

impl LogDir {
    /// Compacts the logs that are due; `policy` tells how, for those that are compacted. Keys take up to
    /// `keys_bytes_max` of memory at a time. Blocks; one call at a time does it, and readers and the writer go
    /// on meanwhile. An error is of a read, or of a file that nothing refers to yet: the log dir goes on. So it is
    /// when `stop` says so.
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
        for log in logs {
            let Some(policy) = policy(&log) else { continue };
            let inner = log.inner();
            wants_seal |= inner.has_much_in(&newest, &policy, now_ms);
            let dirty = inner.dirty_part(&newest, &policy, now_ms);
            drop(inner);
            if let Some((dirty, bytes)) = dirty {
                due.push(Due { log, policy, dirty, bytes });
            }
        }
        let first_free = segments.last().map_or(1, |last| last.number + 1);
        let numbers = first_free..newest.number;
        // There is a place for compacted segments once between two others.
        if wants_seal || (!due.is_empty() && numbers.is_empty()) {
            shared.ask(Command::Roll)?;
        }
        if due.is_empty() || numbers.is_empty() || !has_room(shared, &due) {
            return Ok(Compacted::default());
        }
        let mut output = Output::new(shared, numbers, due.iter().map(|due| due.bytes).sum());
        let run = Run { now_ms, keys_max: KeyMap::keys_in(keys_bytes_max), stop };
        let written = write_all(&mut output, &due, &run);
        match written.and_then(|compacted| Ok((output.finish()?, compacted))) {
            Ok((segments, compacted)) => {
                shared.ask(Command::AddSegments(Arc::new(segments)))?;
                shared.flush()?;
                shared.metrics.compacted(&compacted);
                Ok(compacted)
            }
            Err(error) => Err(Arc::new(error)),
        }
    }
}

/// The compacted segments are there beside the others until those are reclaimed.
fn has_room(shared: &DirShared, due: &[Due]) -> bool {
    let needed: u64 = due.iter().map(|due| due.bytes).sum();
    let has_room = shared.space.has_room_for(needed, &*shared.disk, &shared.path);
    if !has_room {
        tracing::warn!(dir = %shared.path.display(), needed, "no room on the disk to compact");
    }
    has_room
}

/// What one compaction goes by.
struct Run<'a> {
    now_ms: i64,
    keys_max: usize,
    stop: &'a dyn Fn() -> bool,
}

fn write_all(output: &mut Output<'_>, due: &[Due], run: &Run<'_>) -> Result<Compacted, StorageError> {
    let mut compacted = Compacted::default();
    for due in due {
        let before = output.bytes();
        write_log(output, due, run)?;
        compacted.logs += 1;
        compacted.bytes_before += due.bytes;
        compacted.bytes_after += output.bytes() - before;
    }
    Ok(compacted)
}

/// Writes what stays of a log. Where its keys are more than memory takes, it is looked through as often as that
/// takes: each time, the records are marked that a later one of so many keys supersedes.
fn write_log(output: &mut Output<'_>, due: &Due, run: &Run<'_>) -> Result<(), StorageError> {
    let segments = due.log.inner().segments_before(output.newest_number());
    let mut superseded = Bits::default();
    let mut from = due.dirty.start;
    loop {
        let (map, end) = read_keys(due, &segments, from..due.dirty.end, run)?;
        if end >= due.dirty.end {
            return write_kept(output, due, &segments, &map, &superseded, run);
        }
        mark(due, &segments, &map, end, &mut superseded, run)?;
        from = end;
    }
}

/// The last offset of each key in the dirty part, and where it ends: there, or where memory did.
fn read_keys(
    due: &Due,
    segments: &[Arc<Segment>],
    dirty: Range<i64>,
    run: &Run<'_>,
) -> Result<(KeyMap, i64), StorageError> {
    let mut map = KeyMap::new(run.keys_max);
    let mut end = dirty.end;
    each_batch(due, segments, run, |entry, bytes| {
        if entry.end_offset() <= dirty.start || entry.base_offset >= end {
            return Ok(());
        }
        filter::each_record(bytes, |offset, record| {
            if (dirty.start..end).contains(&offset)
                && let Some(key) = record.key
                && !map.insert(key, offset)
            {
                end = offset;
            }
        });
        Ok(())
    })?;
    Ok((map, end))
}

/// Marks the records before `end` that a later one supersedes.
fn mark(
    due: &Due,
    segments: &[Arc<Segment>],
    map: &KeyMap,
    end: i64,
    superseded: &mut Bits,
    run: &Run<'_>,
) -> Result<(), StorageError> {
    each_batch(due, segments, run, |_, bytes| {
        filter::each_record(bytes, |offset, record| {
            if offset < end && record.key.is_some_and(|key| map.supersedes(key, offset)) {
                superseded.set(offset);
            }
        });
        Ok(())
    })
}

fn write_kept(
    output: &mut Output<'_>,
    due: &Due,
    segments: &[Arc<Segment>],
    map: &KeyMap,
    superseded: &Bits,
    run: &Run<'_>,
) -> Result<(), StorageError> {
    let needed = NeededBatches::of(&due.log, segments)?;
    output.begin_log(&due.log, segments, due.dirty.end);
    each_batch(due, segments, run, |entry, bytes| {
        let rules = Filter {
            now_ms: run.now_ms,
            delete_retention_ms: due.policy.delete_retention_ms,
            end: due.dirty.end,
            is_needed: needed.contains(entry),
        };
        let filtered =
            filter(bytes, &rules, |offset, key| superseded.get(offset) || map.supersedes(key, offset));
        match filtered {
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

fn each_batch(
    due: &Due,
    segments: &[Arc<Segment>],
    run: &Run<'_>,
    mut each: impl FnMut(&IndexEntry, &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    for segment in segments {
        each_live_batch(&due.log, segment, |entry, bytes| match (run.stop)() {
            true => Err(StorageError::Closed { path: segment.path.clone() }),
            false => each(entry, &bytes),
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

    /// Whether the newest segment holds so much of the log that it should be sealed for it.
    fn has_much_in(&self, newest: &Arc<Segment>, policy: &CompactionPolicy, now_ms: i64) -> bool {
        let Some(span) = self.spans.iter().find(|span| Arc::ptr_eq(&span.segment, newest)) else {
            return false;
        };
        let SpanIndex::Memory(entries) = &span.index else { return false };
        // The time of a record is its producer's; what is written now isn't old, whatever that says.
        let oldest = entries.first().map(|first| first.max_timestamp.max(newest.opened_ms()));
        span.bytes >= policy.segment_bytes
            || oldest.is_some_and(|oldest| now_ms.saturating_sub(oldest) >= policy.segment_ms)
    }

    /// The offsets that are to be compacted, if there are enough of them, and the bytes of all that has to be
    /// written again for it.
    fn dirty_part(
        &self,
        newest: &Arc<Segment>,
        policy: &CompactionPolicy,
        now_ms: i64,
    ) -> Option<(Range<i64>, u64)> {
        let log_start = self.state.log_start_offset.0;
        let start = self.compacted_to.max(log_start);
        let spans: Vec<&Span> =
            self.spans.iter().filter(|span| span.segment.number < newest.number).collect();
        let is_dirty = |span: &&&Span| span.end_offset > start;
        let is_too_young =
            |span: &Span| now_ms.saturating_sub(policy.min_compaction_lag_ms) < span.max_timestamp;
        let first_young = spans.iter().filter(is_dirty).find(|span| is_too_young(span));
        let end = match first_young {
            Some(young) => young.first_offset,
            None => spans.last()?.end_offset,
        };
        let end = end.min(policy.upper_bound.0);
        if end <= start {
            return None;
        }
        let bytes: u64 = spans.iter().map(|span| span.live_bytes(log_start)).sum();
        let dirty_bytes: u64 = spans.iter().map(|span| span.live_bytes(start)).sum();
        let is_old = |span: &&Span| now_ms.saturating_sub(span.max_timestamp) > policy.max_compaction_lag_ms;
        let is_due = dirty_bytes as f64 > bytes as f64 * policy.min_cleanable_dirty_ratio
            || spans.iter().filter(is_dirty).any(is_old);
        (dirty_bytes > 0 && is_due).then_some((start..end, bytes))
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
