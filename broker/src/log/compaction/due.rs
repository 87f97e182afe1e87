//! Which logs are due to be compacted, and what of them.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::CompactionPolicy;
use crate::log::error::StorageError;
use crate::log::partition::{Log, LogInner};
use crate::log::segment::Segment;
use crate::log::span::{Span, SpanIndex};

/// A log that is due.
pub(super) struct Due {
    pub(super) log: Arc<Log>,
    pub(super) policy: CompactionPolicy,
    /// What compaction has not seen yet, and may look at.
    pub(super) dirty: Range<i64>,
    /// Of all that has to be written again for it.
    pub(super) bytes: u64,
}

/// What a log has that was never compacted.
struct Dirty {
    offsets: Range<i64>,
    /// Of the segments that hold nothing else.
    whole_bytes: u64,
    /// Those that hold something else as well.
    in_part: Vec<Arc<Segment>>,
    first_segment: Arc<Segment>,
    /// Of all that lies before the newest segment.
    bytes: u64,
}

impl Due {
    /// The log's part that is due, if there is one.
    pub(super) fn find(
        log: Arc<Log>,
        newest: &Segment,
        policy: CompactionPolicy,
        now_ms: i64,
    ) -> Result<Option<Self>, StorageError> {
        let dirty = log.inner().dirty(newest, &policy, now_ms);
        let Some(dirty) = dirty else { return Ok(None) };
        let dirty_bytes = dirty.bytes(&log)?;
        if dirty_bytes == 0 {
            return Ok(None);
        }
        let is_enough = dirty_bytes as f64 > dirty.bytes as f64 * policy.min_cleanable_dirty_ratio;
        if !is_enough && !dirty.is_old(&log, &policy, now_ms)? {
            return Ok(None);
        }
        Ok(Some(Self { log, policy, dirty: dirty.offsets, bytes: dirty.bytes }))
    }
}

impl Dirty {
    /// Bytes of the batches that begin in the dirty part.
    fn bytes(&self, log: &Log) -> Result<u64, StorageError> {
        let mut bytes = self.whole_bytes;
        for segment in &self.in_part {
            log.each_entry(segment, self.offsets.start, |_, entry| {
                if entry.base_offset >= self.offsets.end {
                    return Ok(ControlFlow::Break(()));
                }
                if entry.end_offset() > self.offsets.start {
                    bytes += u64::from(entry.length);
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(bytes)
    }

    /// Whether a record waits for longer than it may: the first one, as in Kafka.
    fn is_old(&self, log: &Log, policy: &CompactionPolicy, now_ms: i64) -> Result<bool, StorageError> {
        let mut is_old = false;
        log.each_entry(&self.first_segment, self.offsets.start, |_, entry| {
            if entry.end_offset() <= self.offsets.start {
                return Ok(ControlFlow::Continue(()));
            }
            is_old = now_ms.saturating_sub(entry.max_timestamp) > policy.max_compaction_lag_ms;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(is_old)
    }
}

impl LogInner {
    /// Whether the newest segment holds so much of the log, or for so long, that it should be sealed for it.
    pub(super) fn has_much_in(&self, newest: &Arc<Segment>, policy: &CompactionPolicy, now_ms: i64) -> bool {
        let Some(span) = self.spans.iter().find(|span| Arc::ptr_eq(&span.segment, newest)) else {
            return false;
        };
        let SpanIndex::Memory(entries) = &span.index else { return false };
        let Some(first) = entries.first() else { return false };
        // The time of a record is its producer's: what was written since the segment was begun is no older, and
        // nothing was written in the future. A segment that a node found when it started has no beginning.
        let time = if first.max_timestamp > now_ms { i64::MIN } else { first.max_timestamp };
        let age_ms = now_ms.saturating_sub(time.max(newest.opened_ms()));
        span.bytes >= policy.segment_bytes || age_ms >= policy.segment_ms.min(policy.max_compaction_lag_ms)
    }

    fn dirty(&self, newest: &Segment, policy: &CompactionPolicy, now_ms: i64) -> Option<Dirty> {
        let log_start = self.state.log_start_offset.0;
        let start = self.compacted_to.max(log_start);
        let spans: Vec<&Span> =
            self.spans.iter().filter(|span| span.segment.number < newest.number).collect();
        let dirty = || spans.iter().filter(|span| span.end_offset > start);
        // As in Kafka, no time keeps back a log that has no lag.
        let is_too_young = |span: &&&Span| {
            policy.min_compaction_lag_ms > 0
                && now_ms.saturating_sub(policy.min_compaction_lag_ms) < span.max_timestamp
        };
        let end = match dirty().find(is_too_young) {
            Some(young) => young.first_offset,
            None => spans.last()?.end_offset,
        };
        let end = end.min(policy.upper_bound.0);
        if end <= start {
            return None;
        }
        let is_whole = |span: &&&Span| span.first_offset >= start && span.end_offset <= end;
        let has_some = |span: &&&Span| span.first_offset < end;
        let (whole, in_part): (Vec<&&Span>, Vec<&&Span>) = dirty().filter(has_some).partition(is_whole);
        Some(Dirty {
            offsets: start..end,
            whole_bytes: whole.iter().map(|span| span.bytes).sum(),
            in_part: in_part.iter().map(|span| span.segment.clone()).collect(),
            first_segment: dirty().next()?.segment.clone(),
            bytes: spans.iter().map(|span| span.live_bytes(log_start)).sum(),
        })
    }
}
