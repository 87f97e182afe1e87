//! Retention: which records a log no longer has to keep.

use std::sync::Arc;

use super::partition::{AppendError, Log, LogInner};
use super::span::SpanIndex;
use crate::ids::Offset;

/// How long, and how much, a log keeps (`retention.ms`, `retention.bytes`); `None` for ever, or
/// everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<u64>,
}

impl Log {
    /// Moves the log start past what the policy gives up, but not past `upper_bound`, the high
    /// watermark. Answers the new log start, if it moves. The bytes come free when the log dir
    /// reclaims.
    ///
    /// What a sealed segment holds of the log goes as a whole, as a segment does in Kafka; what the
    /// newest segment holds goes batch by batch.
    pub fn enforce_retention(
        self: &Arc<Self>,
        policy: &RetentionPolicy,
        now_ms: i64,
        upper_bound: Offset,
    ) -> Result<Option<Offset>, AppendError> {
        let start = self.inner().retained_start(policy, now_ms, upper_bound.0);
        match start {
            Some(start) => self.advance_log_start_offset(start).map(|()| Some(start)),
            None => Ok(None),
        }
    }
}

/// Consecutive records that go together.
struct Unit {
    end_offset: i64,
    bytes: u64,
    max_timestamp: i64,
}

impl LogInner {
    fn retained_start(&self, policy: &RetentionPolicy, now_ms: i64, upper_bound: i64) -> Option<Offset> {
        let log_start = self.state.log_start_offset.0;
        let mut rest: u64 = self.spans.iter().map(|span| span.live_bytes(log_start)).sum();
        let mut start = None;
        for unit in self.units(log_start) {
            let is_old = policy
                .retention_ms
                .is_some_and(|retention_ms| now_ms.saturating_sub(retention_ms) > unit.max_timestamp);
            let is_surplus =
                policy.retention_bytes.is_some_and(|keep| rest.saturating_sub(unit.bytes) >= keep);
            if !(is_old || is_surplus) || unit.end_offset > upper_bound {
                break;
            }
            rest = rest.saturating_sub(unit.bytes);
            start = Some(Offset(unit.end_offset));
        }
        start.filter(|start| start.0 > log_start)
    }

    fn units(&self, log_start: i64) -> impl Iterator<Item = Unit> {
        self.spans.iter().flat_map(move |span| {
            let (whole, entries) = match &span.index {
                SpanIndex::Sealed => {
                    let bytes = span.live_bytes(log_start);
                    let (end_offset, max_timestamp) = (span.end_offset, span.max_timestamp);
                    (Some(Unit { end_offset, bytes, max_timestamp }), &[][..])
                }
                SpanIndex::Memory(entries) => (None, entries.as_slice()),
            };
            let live = entries.partition_point(|entry| entry.last_offset < log_start);
            whole.into_iter().chain(entries[live..].iter().map(|entry| Unit {
                end_offset: entry.end_offset(),
                bytes: u64::from(entry.length),
                max_timestamp: entry.max_timestamp,
            }))
        })
    }
}
