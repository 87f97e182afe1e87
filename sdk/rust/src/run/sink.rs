//! What a consumer plugin works with.

use std::time::Duration;

use super::{Outgoing, host};
use crate::Result;

/// A record that was polled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Where it was read.
    pub topic: String,
    /// Of that topic.
    pub partition: u32,
    /// In that partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    /// The key, if there is one.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value; empty if there is none.
    pub fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// Whether there is no value: in compacted topics, the key is taken back.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The value as text.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.value()).map_err(|_| crate::Error::reject("the value is not UTF-8"))
    }

    /// In their order; keys may repeat.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// One of the pipeline's `from:`.
    pub topic: String,
    /// From 0.
    pub partition: u32,
}

/// Where to read a partition from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The next offset to be read.
    Offset(i64),
    /// The first record of at least that timestamp; the end, if there is none.
    Timestamp(i64),
    /// The first record that there is.
    Beginning,
    /// What comes from now on.
    End,
    /// What is committed; the beginning, if nothing is.
    Committed,
}

/// A member of the sink's consumer group. There is one, which the host lends to the function under `#[sink]`.
#[derive(Debug)]
pub struct Sink(pub(crate) ());

impl Sink {
    #[doc(hidden)]
    #[must_use]
    pub const fn __new() -> Self {
        Self(())
    }

    /// Reads only these of the pipeline's `from:`. Other topics than before mean to join the group anew: what was polled and
    /// not committed is delivered again.
    pub fn subscribe(&mut self, topics: &[&str]) -> Result<()> {
        host::subscribe(topics)
    }

    /// At most so many records. Waits for the first ones as long as it may; an empty list says that there were none.
    pub fn poll(&mut self, max_records: u32, timeout: Duration) -> Result<Vec<Message>> {
        host::poll(max_records, timeout)
    }

    /// Writes what was sent, then commits everything that was polled. False if the group has given the partitions to
    /// another member meanwhile, which gets those records again.
    pub fn commit(&mut self) -> Result<bool> {
        host::commit()
    }

    /// Writes what was sent, then commits these offsets: of each partition the next one to be read.
    pub fn commit_offsets(&mut self, offsets: &[(Partition, i64)]) -> Result<bool> {
        host::commit_offsets(offsets)
    }

    /// Says that a record which was polled and is not committed is bad: the pipeline's `on_error` decides whether it goes to
    /// the dead letter topic, is skipped, or stops the sink. With the first two, go on with the next record, and commit.
    pub fn reject(&mut self, message: &Message, reason: impl std::fmt::Display) -> Result<()> {
        let partition = Partition { topic: message.topic.clone(), partition: message.partition };
        host::reject(&partition, message.offset, &reason.to_string())
    }

    /// Queues a message for the pipeline's `to:`. It is written with the next commit at the latest.
    pub fn send(&mut self, message: Outgoing) -> Result<()> {
        host::send(message)
    }

    /// Goes on reading a partition elsewhere. False if it is not this member's (any more).
    pub fn seek(&mut self, partition: &Partition, to: SeekTo) -> Result<bool> {
        host::seek(partition, to)
    }

    /// Polls no records of a partition until it is resumed.
    pub fn pause(&mut self, partition: &Partition) -> Result<bool> {
        host::pause(partition)
    }

    /// Goes on with a partition where it was paused.
    pub fn resume(&mut self, partition: &Partition) -> Result<bool> {
        host::resume(partition)
    }

    /// The partitions that are this member's now.
    pub fn assignment(&self) -> Vec<Partition> {
        host::assignment()
    }

    /// Waits.
    pub fn sleep(&mut self, time: Duration) -> Result<()> {
        host::sleep(time)
    }
}
