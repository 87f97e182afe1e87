//! One batch on its way through a guest: what it has read, and what it has written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::varint::take_varint;
use millstream_record::{RecordBody, RecordFault};

use crate::batch::{InputBatch, InputRecord, Span};
use crate::outputs::{OutputError, OutputFault, OutputRecord, OutputRules, Transformed, topic_index};

/// The one option of a write: the topic's name, with its length before it.
const TOPIC_OPTION: u8 = 0x01;
/// That byte, a varint, and the longest name that a topic can have.
const OPTIONS_BYTES_MAX: usize = 1 + 5 + 249;
/// In a batch's attributes: the broker has stamped its records.
const APPEND_TIME: i16 = 0x08;

/// See the module.
pub(super) struct Job {
    section: Bytes,
    records: Vec<InputRecord>,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
    /// Of the record to be read next.
    next: usize,
    pub(super) budget: Duration,
    topics: Vec<Arc<str>>,
    outputs_max: usize,
    output_bytes_max: usize,
    out: Transformed,
}

/// A batch's header, as far as the guest gets to see it: of the leader and the producer it learns nothing.
pub(super) struct Header {
    pub(super) base_offset: i64,
    pub(super) record_count: i32,
    pub(super) attributes: i16,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Longest body of its records.
    pub(super) record_bytes_max: i32,
}

/// One record, to be read.
pub(super) struct Unread<'a> {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) body: &'a [u8],
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("a record was written before one was read")]
    NoRecord,
    #[error("a malformed record was written: {0}")]
    Record(RecordFault),
    #[error("a record was written with malformed options")]
    Options,
    #[error("a record was not written: {0}")]
    Topic(OutputFault),
    /// Whoever goes on after this one would lose records.
    #[error(transparent)]
    Limit(#[from] OutputError),
}

impl Job {
    pub(super) fn new(
        input: &InputBatch,
        rules: &OutputRules<'_>,
        budget: Duration,
        out: Transformed,
    ) -> Self {
        Self {
            section: input.section.clone(),
            records: input.records.clone(),
            base_offset: input.base_offset,
            base_timestamp: input.base_timestamp,
            append_time: input.append_time,
            next: 0,
            budget,
            topics: rules.topics.to_vec(),
            outputs_max: rules.outputs_max,
            // Writing each record as it was read is always allowed.
            output_bytes_max: rules.output_bytes_max.max(input.section.len()),
            out,
        }
    }

    pub(super) fn into_outputs(self) -> Transformed {
        self.out
    }

    pub(super) fn header(&self) -> Header {
        let last = self.records.last();
        let body = |record: &InputRecord| record.body.of(&self.section).len();
        let record_bytes_max = self.records.iter().map(body).max().unwrap_or_default();
        let timestamps = self.records.iter().map(|record| record.timestamp);
        let count = |count: usize| i32::try_from(count).expect("a batch's records are counted by an i32");
        Header {
            base_offset: self.base_offset,
            record_count: count(self.records.len()),
            attributes: if self.append_time.is_some() { APPEND_TIME } else { 0 },
            last_offset_delta: last.map_or(0, |record| record.offset_delta),
            base_timestamp: self.base_timestamp,
            max_timestamp: timestamps.max().unwrap_or(self.base_timestamp),
            record_bytes_max: count(record_bytes_max),
        }
    }

    /// The record to be read next; none behind the last one.
    pub(super) fn unread(&self) -> Option<Unread<'_>> {
        let record = self.records.get(self.next)?;
        Some(Unread {
            offset: self.base_offset.saturating_add(i64::from(record.offset_delta)),
            timestamp: record.timestamp,
            body: record.body.of(&self.section),
        })
    }

    /// The record was read: what is written from now on is made from it.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Takes a record that the guest has made from the one that it read last.
    pub(super) fn write(&mut self, body: &[u8], options: &[u8]) -> Result<(), WriteError> {
        let index = self.next.checked_sub(1).ok_or(WriteError::NoRecord)?;
        // Before anything looks at the bytes, which can be all of the guest's memory.
        let (start, end) = (self.out.payload.len(), self.out.payload.len() + body.len());
        if end > self.output_bytes_max {
            return Err(OutputError::TooLarge { size: end, max: self.output_bytes_max }.into());
        }
        if self.out.outputs.len() >= self.outputs_max {
            return Err(OutputError::TooMany { max: self.outputs_max }.into());
        }
        RecordBody::parse(body).map_err(WriteError::Record)?;
        let topic = topic_option(options)?.map(|name| topic_index(name, &self.topics));
        let topic = topic.transpose().map_err(WriteError::Topic)?;
        self.out.payload.extend_from_slice(body);
        let index = u32::try_from(index).expect("a batch's records are counted by an i32");
        let body = Some(Span::new(start, end));
        self.out.outputs.push(OutputRecord { index, topic, partition: None, timestamp: None, body });
        Ok(())
    }
}

/// The topic that a write names.
fn topic_option(options: &[u8]) -> Result<Option<&str>, WriteError> {
    // They can be all of the guest's memory, and no time limit interrupts the host.
    if options.len() > OPTIONS_BYTES_MAX {
        return Err(WriteError::Options);
    }
    let Some((&key, mut rest)) = options.split_first() else { return Ok(None) };
    if key != TOPIC_OPTION {
        return Err(WriteError::Options);
    }
    let length = take_varint(&mut rest).map_err(|_| WriteError::Options)?;
    if usize::try_from(length) != Ok(rest.len()) {
        return Err(WriteError::Options);
    }
    std::str::from_utf8(rest).map(Some).map_err(|_| WriteError::Topic(OutputFault::TopicNotUtf8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::tests::sample;

    proptest! {
        /// Whatever a guest hands over, what is taken of it is what a stage can work with.
        #[test]
        fn what_is_taken_is_within_the_rules(
            writes in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(0_u8..8, 0..5)), 0..40),
        ) {
            let topics: [Arc<str>; 2] = ["\u{1}\u{2}".into(), "\u{3}".into()];
            let rules = OutputRules { record_count: 5, outputs_max: 6, output_bytes_max: 80, topics: &topics };
            let mut job = Job::new(&sample(5), &rules, Duration::ZERO, Transformed::default());
            for (read, body, options) in &writes {
                if *read && job.unread().is_some() {
                    job.advance();
                }
                // Bytes that parse are rare by chance.
                let framed = [&[1, 2 * body.len() as u8][..], body, &[0]].concat();
                for body in [body, &framed] {
                    let before = job.out.outputs.len();
                    let taken = job.write(body, options).is_ok();
                    prop_assert_eq!(job.out.outputs.len(), before + usize::from(taken));
                }
            }
            let out = job.into_outputs();
            prop_assert!(out.outputs.len() <= rules.outputs_max && out.payload.len() <= 80);
            let mut previous = 0;
            for output in &out.outputs {
                prop_assert!(output.index >= previous && (output.index as usize) < rules.record_count);
                prop_assert!(output.topic.is_none_or(|topic| usize::from(topic) < topics.len()));
                prop_assert!(RecordBody::parse(output.body.expect("a body").of(&out.payload)).is_ok());
                previous = output.index;
            }
        }
    }
}
