//! What a plugin returns, checked: the packed encoding of `transform-batch.wit`, and what both forms have in
//! common. Everything in here is hostile until it has passed.

#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod packed;

use std::sync::Arc;

use millstream_record::RecordFault;
use millstream_record::varint::VarintError;

use crate::batch::{InputBatch, Span};
use crate::limits::REASON_BYTES_MAX;
use crate::printable::printable;

pub use packed::decode;

/// One output record. Without a body it is its input, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRecord {
    /// The input record it was made from.
    pub index: u32,
    /// Index into the stage's output topics.
    pub topic: Option<u16>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    /// Key, value and headers, in [`Transformed::payload`].
    pub body: Option<Span>,
}

/// An input record that the plugin could not process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    pub index: u32,
    pub reason: String,
}

/// What became of one batch. Reused from one call to the next, so that no call allocates in the long run.
#[derive(Debug, Default)]
pub struct Transformed {
    pub outputs: Vec<OutputRecord>,
    pub rejected: Vec<RejectedRecord>,
    /// The bytes that the outputs' bodies lie in.
    pub payload: Vec<u8>,
}

/// What outputs are checked against.
#[derive(Debug, Clone, Copy)]
pub struct OutputRules<'a> {
    /// Input records of the call.
    pub record_count: usize,
    pub outputs_max: usize,
    pub output_bytes_max: usize,
    /// The stage's output topics.
    pub topics: &'a [Arc<str>],
}

/// What is wrong with a plugin's outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    #[error("{size} bytes, more than the {max} of the plugin's limit")]
    TooLarge { size: usize, max: usize },
    #[error("more than {max} outputs for one batch")]
    TooMany { max: usize },
    #[error("output {output}: {fault}")]
    Output { output: usize, fault: OutputFault },
    #[error("rejected record {index}, but the batch has {record_count}")]
    RejectedIndex { index: u32, record_count: usize },
    #[error("record {index} is rejected more than once, or also has outputs")]
    RejectedTwice { index: u32 },
    #[error("{0}")]
    NoSuchPartition(String),
}

/// What is wrong with one output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputFault {
    #[error("cut short")]
    Truncated,
    #[error("a varint is too long")]
    VarintTooLong,
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
    #[error("names input record {index}, but the batch has {record_count}")]
    Index { index: i64, record_count: usize },
    #[error("invalid length {0}")]
    Length(i32),
    #[error("invalid partition {0}")]
    Partition(i64),
    #[error("invalid timestamp {0}")]
    Timestamp(i64),
    #[error("a run of {0} records")]
    RunLength(i32),
    #[error("topic {0:?} is not one of the stage's output topics")]
    UnknownTopic(String),
    #[error("the topic's name is not UTF-8")]
    TopicNotUtf8,
    #[error("body: {0}")]
    Body(RecordFault),
}

impl OutputError {
    /// What the plugin has written into it may be seen by others.
    pub(crate) fn masked(self, mask: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Output { output, fault: OutputFault::UnknownTopic(name) } => {
                Self::Output { output, fault: OutputFault::UnknownTopic(mask(&name)) }
            }
            other => other,
        }
    }
}

impl From<VarintError> for OutputFault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::TooLong => Self::VarintTooLong,
        }
    }
}

impl Transformed {
    pub(crate) fn clear(&mut self) {
        self.outputs.clear();
        self.rejected.clear();
        self.payload.clear();
    }

    /// Takes over a rejection; `check_rejected` looks at all of them together.
    pub(crate) fn reject(&mut self, index: u32, reason: &str) {
        self.rejected.push(RejectedRecord { index, reason: cut(reason) });
    }

    /// What the host will copy is limited, not only what the guest returned: a few bytes can name the same large
    /// record again and again. Keeping every record once is always allowed.
    pub(crate) fn check_expanded(
        &self,
        input: &InputBatch,
        output_bytes_max: usize,
    ) -> Result<(), OutputError> {
        let max = output_bytes_max.max(input.section.len());
        let length = |span: Span| (span.end - span.start) as usize;
        let bytes = |output: &OutputRecord| {
            length(output.body.unwrap_or_else(|| input.records[output.index as usize].body))
        };
        let size = self.outputs.iter().map(bytes).fold(0, usize::saturating_add);
        if size > max { Err(OutputError::TooLarge { size, max }) } else { Ok(()) }
    }

    /// Each rejected record exists, is rejected once and has no outputs: otherwise a record could be both written
    /// and dead-lettered.
    pub(crate) fn check_rejected(&self, record_count: usize) -> Result<(), OutputError> {
        if self.rejected.is_empty() {
            return Ok(());
        }
        let mut taken = vec![false; record_count];
        for output in &self.outputs {
            taken[output.index as usize] = true;
        }
        for &RejectedRecord { index, .. } in &self.rejected {
            match taken.get_mut(index as usize) {
                None => return Err(OutputError::RejectedIndex { index, record_count }),
                Some(true) => return Err(OutputError::RejectedTwice { index }),
                Some(free) => *free = true,
            }
        }
        Ok(())
    }
}

/// Text of a plugin, no longer than we keep, and fit for the terminal of whoever asks for the stage's status.
pub(crate) fn cut(text: &str) -> String {
    // No character becomes shorter. What is behind can be of any size, and is not looked at.
    let head = &text[..text.floor_char_boundary(REASON_BYTES_MAX)];
    printable(head.trim_end(), REASON_BYTES_MAX)
}

/// The place of `name` among the stage's output topics.
pub(crate) fn topic_index(name: &str, topics: &[Arc<str>]) -> Result<u16, OutputFault> {
    let index = topics.iter().position(|topic| &**topic == name);
    let index = index.ok_or_else(|| OutputFault::UnknownTopic(cut(name)))?;
    Ok(u16::try_from(index).expect("a stage has no more output topics than its limit"))
}

/// A partition's number, from outside.
pub(crate) fn check_partition(partition: i64) -> Result<i32, OutputFault> {
    i32::try_from(partition).ok().filter(|partition| *partition >= 0).ok_or(OutputFault::Partition(partition))
}

/// A timestamp, from outside. Kafka's -1 ("none") is not for plugins: an output always has one.
pub(crate) fn check_timestamp(timestamp: i64) -> Result<i64, OutputFault> {
    if timestamp >= 0 { Ok(timestamp) } else { Err(OutputFault::Timestamp(timestamp)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_of_a_text_is_looked_at() {
        let gap = " ".repeat(REASON_BYTES_MAX);
        assert_eq!(cut(&format!("because{gap}of")), "because");
        assert_eq!(cut("because\r\n"), "because");
        assert_eq!(cut(&"\u{20ac}".repeat(1000)), "\u{20ac}".repeat(341));
    }
}
