//! Giving bytes back to the disk: segments without a live batch are removed, and one that is mostly
//! dead is rewritten. The newest segment is sealed for it when it is mostly dead before it is full: a quiet log
//! dir would keep its expired bytes for ever.
//!
//! Never key by key: deletes are what redb is worst at, and a file shrinks only as a whole.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use super::batch::IndexEntry;
use super::dir::{DirShared, LogDir};
use super::disk::Access;
use super::error::StorageError;
use super::partition::Log;
use super::queue::Command;
use super::roll::UNFINISHED_SUFFIX;
use super::schema::{self, SealRow, SegmentHeader, SegmentKind};
use super::segment::{Segment, open_writable};
use super::segment_builder::SegmentBuilder;

/// A segment is rewritten when less than this part of its batches is live.
const LIVE_PERCENT_MIN: u64 = 50;

/// Dead bytes of the newest segment that aren't worth a new file.
const ROLL_BYTES_MIN: u64 = 4 << 20;

/// What a reclaim did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaimed {
    pub removed_segments: usize,
    pub rewritten_segments: usize,
    /// Of batches; the files shrink by a little more.
    pub bytes: u64,
}

impl LogDir {
    /// Removes what is dead, and rewrites at most one segment, so that a call's work is bounded.
    /// Blocks; one call at a time does it, and readers and the writer go on meanwhile.
    pub fn reclaim(&self) -> Result<Reclaimed, Arc<StorageError>> {
        let shared = self.shared();
        let _one = shared.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reclaimed = Reclaimed::default();
        let mut sealed: Vec<Arc<Segment>> = shared.segments().values().cloned().collect();
        sealed.retain(|segment| segment.is_sealed());
        let mut logs: Vec<Arc<Log>> = shared.logs().values().cloned().collect();
        logs.sort_by_key(|log| log.number());
        // What isn't among the logs was deleted: once that is on disk, its batches are dead for good.
        // Whatever else makes a batch dead shows here only after it was synced.
        shared.flush()?;
        let live = live_bytes(&logs);
        roll_mostly_dead(shared, &live)?;

        // A segment may count without a live byte: see `Span::is_empty`.
        let (kept, dead): (Vec<_>, Vec<_>) =
            sealed.into_iter().partition(|segment| live.contains_key(&segment.number));
        remove(shared, &dead, &mut reclaimed)?;
        // Each rewrite at least halves the segment, so that all of them copy no more than it held at first.
        if let Some(segment) = kept.iter().find(|segment| is_mostly_dead(segment, &live)) {
            let (rewritten, freed) = rewrite(shared, &logs, segment).map_err(|error| shared.fence(error))?;
            rewritten.set_reclaim_basis(live_bytes(&logs).get(&rewritten.number).copied().unwrap_or(0));
            reclaimed.rewritten_segments += 1;
            reclaimed.bytes += freed;
        }
        shared.metrics.reclaimed(reclaimed.bytes);
        Ok(reclaimed)
    }
}

/// Has the newest segment sealed if it isn't worth waiting for it to be full; a later reclaim finds it so.
fn roll_mostly_dead(shared: &DirShared, live: &BTreeMap<u32, u64>) -> Result<(), Arc<StorageError>> {
    let newest = shared.segments().values().next_back().cloned();
    let due = newest.is_some_and(|newest| {
        !newest.is_sealed() && newest.bytes() >= ROLL_BYTES_MIN && is_mostly_dead(&newest, live)
    });
    match due {
        true => shared.ask(Command::Roll),
        false => Ok(()),
    }
}

fn is_mostly_dead(segment: &Segment, live: &BTreeMap<u32, u64>) -> bool {
    segment.has_less_than(LIVE_PERCENT_MIN, live.get(&segment.number).copied().unwrap_or(0))
}

/// Live bytes by segment; those that no log refers to aren't among them.
fn live_bytes(logs: &[Arc<Log>]) -> BTreeMap<u32, u64> {
    let mut live: BTreeMap<u32, u64> = BTreeMap::new();
    for log in logs {
        let inner = log.inner();
        for span in &inner.spans {
            let bytes = span.live_bytes(inner.state.log_start_offset.0);
            *live.entry(span.segment.number).or_default() += bytes;
        }
    }
    live
}

/// Removes segments, once their removal is on disk: a segment that is missing without a word about
/// it counts as lost.
fn remove(
    shared: &DirShared,
    dead: &[Arc<Segment>],
    reclaimed: &mut Reclaimed,
) -> Result<(), Arc<StorageError>> {
    if dead.is_empty() {
        return Ok(());
    }
    for segment in dead {
        // First of all: a segment that is opened meanwhile must not count on this one.
        shared.segments_mut().remove(&segment.number);
        shared.ask(Command::RemoveSegment(segment.number))?;
    }
    shared.flush()?;
    for segment in dead {
        let removed = segment
            .retire(|| shared.disk.remove(&segment.path).map_err(StorageError::io("remove", &segment.path)));
        removed.map_err(|error| shared.fence(error))?;
        shared.block_cache.forget(segment.id);
        reclaimed.removed_segments += 1;
        reclaimed.bytes += segment.bytes();
    }
    Ok(())
}

/// Writes a sealed segment's live batches anew, partition after partition, and puts it in the old one's place.
/// `logs` ascend, and what is not among them has no live batches. Answers the new segment, and the bytes that
/// came free.
fn rewrite(
    shared: &DirShared,
    logs: &[Arc<Log>],
    old: &Arc<Segment>,
) -> Result<(Arc<Segment>, u64), StorageError> {
    let unfinished = shared.path.join(schema::segment_file_name(old.number) + UNFINISHED_SUFFIX);
    let database = open_writable(&*shared.disk, &unfinished, Access::Create)?;
    let segment = Segment::writable(old.number, shared.next_segment_id(), unfinished.clone(), database);
    let (header, seal) = header_and_seal(shared, old)?;
    let kind = match header.kind {
        SegmentKind::Compacted => SegmentKind::Compacted,
        SegmentKind::Appended | SegmentKind::Rewritten => SegmentKind::Rewritten,
    };
    let header = SegmentHeader { kind, ..header };
    let (ranges, bytes) = segment.write(|database| {
        let mut builder = SegmentBuilder::begin(database, &unfinished, &header)?;
        for log in logs {
            copy_log(&mut builder, log, old)?;
        }
        builder.finish(seal.end_commit)
    })?;
    segment.close_writable()?;

    let new = Arc::new(Segment::sealed(old.number, segment.id, old.path.clone()));
    new.set_bytes(bytes);
    new.set_kind(kind);
    old.retire(|| {
        shared.disk.rename(&unfinished, &old.path).map_err(StorageError::io("rename", &unfinished))?;
        shared.disk.sync_dir(&shared.path).map_err(StorageError::io("sync", &shared.path))?;
        shared.segments_mut().insert(new.number, new.clone());
        shared.block_cache.forget(old.id);
        for log in logs {
            log.inner_mut().replace_segment(old, &new, ranges.get(&log.number()));
        }
        Ok((new, old.bytes().saturating_sub(bytes)))
    })
}

fn header_and_seal(shared: &DirShared, segment: &Segment) -> Result<(SegmentHeader, SealRow), StorageError> {
    let read = segment.read(&*shared.disk, |reader| {
        let row = |key| {
            let missing = || StorageError::inconsistent(reader.path(), "it has no header or seal");
            reader.segment_row(key)?.ok_or_else(missing)
        };
        let header = SegmentHeader::decode(&row(schema::SEGMENT_HEADER)?);
        let seal = SealRow::decode(&row(schema::SEGMENT_SEAL)?);
        let failed = StorageError::row(reader.path());
        Ok((header.map_err(&failed)?, seal.map_err(&failed)?))
    })?;
    Ok(read.expect("reclaiming alone retires segments, one at a time").0)
}

fn copy_log(builder: &mut SegmentBuilder, log: &Log, old: &Arc<Segment>) -> Result<(), StorageError> {
    let mut entries: Vec<IndexEntry> = Vec::new();
    let log_start = log.log_start_offset().0;
    each_live_batch(log, old, |entry, bytes| {
        entries.push(IndexEntry { position: builder.put(&bytes)?, ..*entry });
        Ok(())
    })?;
    let known = {
        let inner = log.inner();
        let span = inner.spans.iter().find(|span| Arc::ptr_eq(&span.segment, old));
        span.map(|span| (span.first_offset..span.end_offset, span.compacted_end))
    };
    if let Some((offsets, compacted_end)) = known {
        // What lies before the log start is gone, but for the batch that it lies in.
        let first_kept = entries.first().map_or(offsets.end, |first| first.base_offset);
        let offsets = offsets.start.max(log_start.min(first_kept))..offsets.end;
        builder.end_log(log.number(), &entries, offsets, compacted_end);
    }
    Ok(())
}

/// Hands out a log's live batches in a segment, with their bytes.
pub(crate) fn each_live_batch(
    log: &Log,
    segment: &Arc<Segment>,
    mut each: impl FnMut(&IndexEntry, Vec<u8>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let start = log.log_start_offset().0;
    log.each_entry(segment, start, |reader, entry| {
        if entry.last_offset >= start {
            let bytes = reader.bytes(entry.position, entry.length as usize)?.ok_or_else(|| {
                let what = format!("there are no bytes at {}, which the index refers to", entry.position);
                StorageError::inconsistent(reader.path(), what)
            })?;
            each(entry, bytes)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}
