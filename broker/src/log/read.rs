//! Reading a log: whole batches, from the tail cache if they are there, from disk otherwise.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::IndexEntry;
use super::dir::DirShared;
use super::error::StorageError;
use super::partition::{Log, LogInner};
use super::segment::{Segment, SegmentReader};
use super::slices::Slices;
use super::span::SpanIndex;
use crate::ids::Offset;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// The first batch is the one that holds this offset.
    pub from: Offset,
    /// Exclusive: the high watermark, the last stable offset, or the log end. A batch that reaches
    /// beyond it isn't read.
    pub upper_bound: Offset,
    pub bytes_max: usize,
    /// Whether the first batch is read even if it is larger than `bytes_max`, so that a consumer
    /// gets on (KIP-74).
    pub min_one_batch: bool,
}

/// Whole batches, end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOutcome {
    /// A batch may lie in two chunks; no byte was copied to avoid that.
    pub data: Vec<Bytes>,
    pub bytes: usize,
    /// The base offset of the first batch, and the offset after the last.
    pub offsets: Option<(Offset, Offset)>,
    /// The next batch did not fit into the request's bytes.
    pub is_full: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("read at offset {from}: the log holds {log_start_offset} to {log_end_offset}")]
    OffsetOutOfRange { from: Offset, log_start_offset: Offset, log_end_offset: Offset },
    #[error("read from the log")]
    Storage(#[source] StorageError),
}

/// A batch found by its timestamp. Which of its records has it, the batch itself tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedBatch {
    pub base_offset: Offset,
    /// Inclusive.
    pub last_offset: Offset,
    pub max_timestamp: i64,
}

impl From<&IndexEntry> for TimestampedBatch {
    fn from(entry: &IndexEntry) -> Self {
        Self {
            base_offset: Offset(entry.base_offset),
            last_offset: Offset(entry.last_offset),
            max_timestamp: entry.max_timestamp,
        }
    }
}

/// Segments that may be retired, one after another, while one read looks for its batches. Each time
/// the log knows the one that took its place.
const RETIRED_MAX: usize = 64;

impl Log {
    /// Reads without touching the disk; `None` if that takes the disk, and then nothing was read.
    pub fn read_cached(&self, request: &ReadRequest) -> Result<Option<ReadOutcome>, ReadError> {
        let inner = self.inner();
        if !inner.check_offset(request)? {
            return Ok(Some(ReadOutcome::default()));
        }
        let mut batches = Batches::new(&self.dir, request);
        for span in inner.spans.iter().filter(|span| span.end_offset > request.from.0) {
            let SpanIndex::Memory(entries) = &span.index else { break };
            let first = entries.partition_point(|entry| entry.last_offset < request.from.0);
            for entry in &entries[first..] {
                if !batches.take_cached(&span.segment, entry) {
                    return Ok(batches.finish_cached());
                }
            }
        }
        Ok(batches.finish_cached())
    }

    /// Reads from the caches and from disk. Blocks.
    pub fn read_blocking(&self, request: &ReadRequest) -> Result<ReadOutcome, ReadError> {
        let mut batches = Batches::new(&self.dir, request);
        let mut request = *request;
        for _ in 0..RETIRED_MAX {
            let segments = {
                let inner = self.inner();
                if !inner.check_offset(&request)? {
                    return Ok(batches.finish());
                }
                inner.segments_from(request.from.0)
            };
            let mut was_retired = false;
            for segment in segments {
                match self.read_segment(&segment, &mut batches).map_err(ReadError::Storage)? {
                    Some(ControlFlow::Continue(())) => {}
                    Some(ControlFlow::Break(())) => return Ok(batches.finish()),
                    None => {
                        was_retired = true;
                        break;
                    }
                }
            }
            if !was_retired || !batches.slices.is_empty() {
                return Ok(batches.finish());
            }
            request.from = Offset(batches.next_offset);
        }
        Ok(batches.finish())
    }

    /// The first batch with a record at or after `timestamp`. Blocks.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampedBatch>, StorageError> {
        self.find(|span_max| span_max >= timestamp, |entry| entry.max_timestamp >= timestamp)
    }

    /// The first batch with the latest timestamp of the log. Blocks.
    pub fn max_timestamp(&self) -> Result<Option<TimestampedBatch>, StorageError> {
        let latest = self.latest_timestamp()?;
        match latest {
            Some(latest) => self.find(|span_max| span_max >= latest, |entry| entry.max_timestamp >= latest),
            None => Ok(None),
        }
    }

    /// The latest timestamp of a live batch. A span knows it of all its batches, also of those before the log
    /// start; then the others are looked at.
    fn latest_timestamp(&self) -> Result<Option<i64>, StorageError> {
        let (start, spans) = {
            let inner = self.inner();
            let start = inner.state.log_start_offset.0;
            let spans: Vec<_> = inner
                .spans
                .iter()
                .map(|span| (span.segment.clone(), span.max_timestamp, span.first_offset < start))
                .collect();
            (start, spans)
        };
        let mut latest = None;
        for (segment, mut max_timestamp, is_cut) in spans {
            if is_cut {
                let mut of_live = i64::MIN;
                let read = self.each_entry(&segment, start, |_, entry| {
                    if entry.last_offset >= start {
                        of_live = of_live.max(entry.max_timestamp);
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                // A segment that was rewritten meanwhile says it of what is live.
                max_timestamp = if read.is_some() { of_live } else { max_timestamp };
            }
            latest = latest.max(Some(max_timestamp));
        }
        Ok(latest.filter(|&latest| latest > i64::MIN))
    }

    /// The first live batch that `wanted` accepts, in the first span that may hold one.
    fn find(
        &self,
        may_hold: impl Fn(i64) -> bool,
        wanted: impl Fn(&IndexEntry) -> bool,
    ) -> Result<Option<TimestampedBatch>, StorageError> {
        for _ in 0..RETIRED_MAX {
            let (start, segments) = {
                let inner = self.inner();
                let spans = inner.spans.iter().filter(|span| may_hold(span.max_timestamp));
                let segments: Vec<_> = spans.map(|span| span.segment.clone()).collect();
                (inner.state.log_start_offset.0, segments)
            };
            let mut was_retired = false;
            for segment in segments {
                let mut found = None;
                let read = self.each_entry(&segment, start, |_, entry| {
                    if entry.last_offset >= start && wanted(entry) {
                        found = Some(TimestampedBatch::from(entry));
                        return Ok(ControlFlow::Break(()));
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
                was_retired = read.is_none();
                if found.is_some() || was_retired {
                    if found.is_some() {
                        return Ok(found);
                    }
                    break;
                }
            }
            if !was_retired {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        batches: &mut Batches<'_>,
    ) -> Result<Option<ControlFlow<()>>, StorageError> {
        let from = batches.next_offset;
        self.each_entry(segment, from, |reader, entry| {
            if entry.last_offset < from {
                return Ok(ControlFlow::Continue(()));
            }
            batches.take(segment, reader, entry)
        })
    }

    /// Hands out the log's live batches in a segment, from about `from` on, until `each` breaks off;
    /// `None` if the segment is not the log's any more, so that whoever reads looks again where to go on.
    pub(crate) fn each_entry(
        &self,
        segment: &Arc<Segment>,
        from: i64,
        mut each: impl FnMut(&SegmentReader<'_>, &IndexEntry) -> Result<ControlFlow<()>, StorageError>,
    ) -> Result<Option<ControlFlow<()>>, StorageError> {
        let read = segment.read(&*self.dir.disk, |reader| {
            let mut next = from;
            loop {
                match self.index_from(segment, next) {
                    IndexPart::Gone => return Ok(None),
                    IndexPart::Nothing => return Ok(Some(ControlFlow::Continue(()))),
                    IndexPart::Memory(entries) => {
                        for entry in &entries {
                            if each(reader, entry)?.is_break() {
                                return Ok(Some(ControlFlow::Break(())));
                            }
                            next = entry.end_offset();
                        }
                    }
                    IndexPart::Sealed(live) => {
                        let mut flow = ControlFlow::Continue(());
                        reader.each_index_entry(self.number(), next.max(live.start), |entry| {
                            if entry.base_offset < live.start {
                                return Ok(ControlFlow::Continue(()));
                            }
                            if entry.end_offset() > live.end {
                                return Ok(ControlFlow::Break(()));
                            }
                            flow = each(reader, entry)?;
                            Ok(flow)
                        })?;
                        return Ok(Some(flow));
                    }
                }
            }
        })?;
        Ok(read.and_then(|(flow, was_opened)| {
            if was_opened.0 {
                self.dir.opened(segment);
            }
            flow
        }))
    }

    /// The next part of the log's index in a segment.
    fn index_from(&self, segment: &Arc<Segment>, from: i64) -> IndexPart {
        let inner = self.inner();
        let Some(span) = inner.spans.iter().find(|span| Arc::ptr_eq(&span.segment, segment)) else {
            return IndexPart::Gone;
        };
        match &span.index {
            SpanIndex::Sealed => IndexPart::Sealed(span.first_offset..span.end_offset),
            SpanIndex::Memory(entries) => {
                let first = entries.partition_point(|entry| entry.last_offset < from);
                let part: Vec<_> = entries[first..].iter().take(MEMORY_ENTRIES_MAX).copied().collect();
                if part.is_empty() { IndexPart::Nothing } else { IndexPart::Memory(part) }
            }
        }
    }
}

/// What is known of a log's batches in a segment.
enum IndexPart {
    /// The log has nothing in the segment, or nothing any more: it was truncated, or what it had is elsewhere now.
    Gone,
    Nothing,
    Memory(Vec<IndexEntry>),
    /// The segment's own index, of which these offsets are live.
    Sealed(Range<i64>),
}

/// Index entries that are copied out of a log at a time, so that the log isn't locked during I/O.
const MEMORY_ENTRIES_MAX: usize = 256;

impl LogInner {
    /// Whether there may be something to read at the request's offset.
    fn check_offset(&self, request: &ReadRequest) -> Result<bool, ReadError> {
        let (start, end) = (self.state.log_start_offset, self.state.log_end_offset);
        if request.from < start || request.from > end {
            return Err(ReadError::OffsetOutOfRange {
                from: request.from,
                log_start_offset: start,
                log_end_offset: end,
            });
        }
        Ok(request.from < end && request.from < request.upper_bound)
    }

    fn segments_from(&self, from: i64) -> Vec<Arc<Segment>> {
        let spans = self.spans.iter().filter(|span| span.end_offset > from);
        spans.map(|span| span.segment.clone()).collect()
    }
}

/// Collects the batches of one read.
struct Batches<'a> {
    dir: &'a DirShared,
    request: ReadRequest,
    slices: Slices,
    bytes: usize,
    offsets: Option<(Offset, Offset)>,
    next_offset: i64,
    /// The next batch doesn't belong into the outcome, or doesn't fit.
    is_done: bool,
    is_full: bool,
}

impl<'a> Batches<'a> {
    fn new(dir: &'a DirShared, request: &ReadRequest) -> Self {
        Self {
            dir,
            request: *request,
            slices: Slices::default(),
            bytes: 0,
            offsets: None,
            next_offset: request.from.0,
            is_done: false,
            is_full: false,
        }
    }

    fn wants(&mut self, entry: &IndexEntry) -> bool {
        let fits = self.bytes + entry.length as usize <= self.request.bytes_max;
        let must = self.slices.is_empty() && self.request.min_one_batch;
        self.is_full = entry.end_offset() <= self.request.upper_bound.0 && !(fits || must);
        self.is_done = self.is_full || entry.end_offset() > self.request.upper_bound.0;
        !self.is_done
    }

    /// Takes a batch if it is in the tail cache.
    fn take_cached(&mut self, segment: &Segment, entry: &IndexEntry) -> bool {
        let length = entry.length as usize;
        let took = self.wants(entry)
            && self.dir.tail_cache.read(segment.id, entry.position, length, &mut self.slices);
        if took {
            self.took(entry);
        }
        took
    }

    fn take(
        &mut self,
        segment: &Segment,
        reader: &SegmentReader<'_>,
        entry: &IndexEntry,
    ) -> Result<ControlFlow<()>, StorageError> {
        if !self.wants(entry) {
            return Ok(ControlFlow::Break(()));
        }
        let length = entry.length as usize;
        if !self.dir.tail_cache.read(segment.id, entry.position, length, &mut self.slices) {
            self.take_blocks(segment, reader, entry)?;
        }
        self.took(entry);
        Ok(ControlFlow::Continue(()))
    }

    fn take_blocks(
        &mut self,
        segment: &Segment,
        reader: &SegmentReader<'_>,
        entry: &IndexEntry,
    ) -> Result<(), StorageError> {
        let (mut position, end) = (entry.position, entry.end_position());
        while position < end {
            let piece = match self.dir.block_cache.get(segment.id, position) {
                Some(piece) => piece,
                None => {
                    let piece = reader.block_at(position)?.ok_or_else(|| {
                        let what = format!("there is no byte {position}, which the index refers to");
                        StorageError::inconsistent(reader.path(), what)
                    })?;
                    self.dir.metrics.read_from_disk(piece.data.len());
                    self.dir.block_cache.insert(segment.id, &piece);
                    piece
                }
            };
            let skip = (position - piece.position) as usize;
            let take = ((end - position) as usize).min(piece.data.len() - skip);
            self.slices.push(&piece.data, skip..skip + take);
            position += take as u64;
        }
        Ok(())
    }

    fn took(&mut self, entry: &IndexEntry) {
        self.bytes += entry.length as usize;
        let first = self.offsets.map_or(Offset(entry.base_offset), |(first, _)| first);
        self.offsets = Some((first, Offset(entry.end_offset())));
        self.next_offset = entry.end_offset();
    }

    /// `None` if nothing was read, but there may be something on disk.
    fn finish_cached(self) -> Option<ReadOutcome> {
        (self.is_done || !self.slices.is_empty()).then(|| self.finish())
    }

    fn finish(self) -> ReadOutcome {
        ReadOutcome {
            data: self.slices.into_bytes(),
            bytes: self.bytes,
            offsets: self.offsets,
            is_full: self.is_full,
        }
    }
}
