//! What a stage knows of a topic: how many partitions it has, and which records it takes.

use std::sync::Arc;

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    pub partitions: i32,
    pub rules: TopicRules,
}

/// What a topic demands of what is written to it. A stage asks before it writes: a record that the broker refuses
/// would come back with every attempt, and hold up the partition that it was read from for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRules {
    /// The largest batch, compressed: `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// The topic is compacted.
    pub needs_keys: bool,
    /// How far a timestamp may lie before now and behind it; none if the broker sets the timestamps.
    pub timestamp_ms_max: Option<(i64, i64)>,
}

impl Default for TopicRules {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            batch_bytes_max: 1_048_588,
            needs_keys: false,
            timestamp_ms_max: Some((i64::MAX, 60 * 60 * 1000)),
        }
    }
}

impl TopicRules {
    pub(super) fn takes_timestamp(&self, timestamp: i64, now_ms: i64) -> bool {
        let Some((before, after)) = self.timestamp_ms_max else { return true };
        // A negative one means that there is none.
        timestamp < 0
            || (now_ms.saturating_sub(timestamp) <= before && timestamp.saturating_sub(now_ms) <= after)
    }
}

/// A topic that a stage writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputTopic {
    pub(crate) name: Arc<str>,
    pub(crate) partitions: i32,
    pub(crate) rules: TopicRules,
}

/// Why a topic does not take a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "a record of {bytes} bytes is too large for topic {topic:?}, which takes {max} bytes, compressed \
         (max.message.bytes)"
    )]
    TooLarge { topic: Arc<str>, bytes: usize, max: usize },
    #[error("topic {0:?} is compacted, and takes no record without a key (cleanup.policy)")]
    NoKey(Arc<str>),
    #[error(
        "the timestamp {timestamp} is too far from now for topic {topic:?} (message.timestamp.before.max.ms, \
         message.timestamp.after.max.ms)"
    )]
    Timestamp { topic: Arc<str>, timestamp: i64 },
}
