//! What one segment holds of one log, in memory.

use std::sync::Arc;

use super::batch::{BatchMeta, IndexEntry};
use super::schema::Range;
use super::segment::Segment;

/// A log's batches in one segment. A batch counts when it lies within the offsets: those around
/// were cut off by a truncation, or belong to a later segment now.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) segment: Arc<Segment>,
    pub(crate) first_offset: i64,
    /// Exclusive.
    pub(crate) end_offset: i64,
    /// Bytes of the batches, before any cut.
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) max_timestamp: i64,
    /// Below this, compaction has looked at every record.
    pub(crate) compacted_end: i64,
    pub(crate) index: SpanIndex,
}

#[derive(Debug)]
pub(crate) enum SpanIndex {
    /// The segment isn't sealed yet: its whole index is here, ascending.
    Memory(Vec<IndexEntry>),
    /// In the segment's `index` table.
    Sealed,
}

impl Span {
    /// The span of a log's first batch in a segment.
    pub(crate) fn new(segment: Arc<Segment>, first_offset: i64) -> Self {
        Self {
            segment,
            first_offset,
            end_offset: first_offset,
            bytes: 0,
            batches: 0,
            max_timestamp: i64::MIN,
            compacted_end: 0,
            index: SpanIndex::Memory(Vec::new()),
        }
    }

    /// What a sealed segment says it holds.
    pub(crate) fn sealed(segment: Arc<Segment>, range: &Range) -> Self {
        Self {
            segment,
            first_offset: range.first_offset,
            end_offset: range.end_offset,
            bytes: range.bytes,
            batches: range.batches,
            max_timestamp: range.max_timestamp,
            compacted_end: range.compacted_end,
            index: SpanIndex::Sealed,
        }
    }

    pub(crate) fn push(&mut self, batch: &BatchMeta, position: u64) {
        let SpanIndex::Memory(entries) = &mut self.index else {
            panic!("a batch was appended to a sealed segment");
        };
        entries.push(IndexEntry::new(batch, position));
        self.end_offset = batch.end_offset().0;
        self.bytes += u64::from(batch.length);
        self.batches += 1;
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
    }

    /// Cuts off the batches that end after `end`.
    pub(crate) fn truncate(&mut self, end: i64) {
        if end >= self.end_offset {
            return;
        }
        self.end_offset = end;
        if let SpanIndex::Memory(entries) = &mut self.index {
            let kept = entries.partition_point(|entry| entry.end_offset() <= end);
            self.bytes -= entries.drain(kept..).map(|entry| u64::from(entry.length)).sum::<u64>();
            self.batches = entries.len() as u64;
            self.max_timestamp = entries.iter().map(|entry| entry.max_timestamp).max().unwrap_or(i64::MIN);
        }
    }

    /// A span without a batch isn't empty: a truncation within a batch left a gap, which must hide
    /// what older segments hold of the same offsets.
    pub(crate) fn is_empty(&self) -> bool {
        self.first_offset >= self.end_offset
    }

    /// Bytes of the batches from `log_start_offset` on; exact for an index in memory, and in
    /// proportion to the offsets otherwise.
    pub(crate) fn live_bytes(&self, log_start_offset: i64) -> u64 {
        if log_start_offset <= self.first_offset {
            return self.bytes;
        }
        if log_start_offset >= self.end_offset {
            return 0;
        }
        match &self.index {
            SpanIndex::Memory(entries) => {
                let dead = entries.partition_point(|entry| entry.end_offset() <= log_start_offset);
                entries[dead..].iter().map(|entry| u64::from(entry.length)).sum()
            }
            SpanIndex::Sealed => {
                let live = (self.end_offset - log_start_offset) as u128;
                let all = (self.end_offset - self.first_offset) as u128;
                (u128::from(self.bytes) * live / all) as u64
            }
        }
    }
}
