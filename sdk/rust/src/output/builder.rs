//! One output, while it is being put together.

use std::borrow::Cow;
use std::iter;

use millstream_record::Header;
use serde::Serialize;

use super::{Body, Route, Sink, TypedOutput};
use crate::{Error, Headers, Payload, Record, Result};

/// Kafka's limit on the name of a topic.
const TOPIC_BYTES_MAX: usize = 249;

/// One output, while it is being put together. Nothing is written until [`emit`](Self::emit).
#[derive(Debug)]
#[must_use = "a record goes nowhere until `emit()` is called"]
pub struct RecordBuilder<'o, 'r> {
    sink: &'o mut Sink,
    scratch: &'o mut Vec<u8>,
    input: &'r Record<'r>,
    key: Field<'r>,
    value: Field<'r>,
    headers: Headers<'r>,
    headers_cleared: bool,
    headers_added: Vec<(Cow<'r, str>, Option<Payload<'r>>)>,
    topic: Option<Cow<'r, str>>,
    partition: Option<u32>,
    timestamp: Option<i64>,
    error: Option<Error>,
}

/// What becomes of a key or a value.
#[derive(Debug)]
enum Field<'r> {
    Input,
    Null,
    Bytes(Payload<'r>),
    Scratch,
}

impl<'o, 'r> RecordBuilder<'o, 'r> {
    pub(super) fn new(sink: &'o mut Sink, scratch: &'o mut Vec<u8>, input: &'r Record<'r>) -> Self {
        Self {
            sink,
            scratch,
            input,
            key: Field::Input,
            value: Field::Input,
            headers: input.headers(),
            headers_cleared: false,
            headers_added: Vec::new(),
            topic: None,
            partition: None,
            timestamp: None,
            error: None,
        }
    }

    /// Sets the key.
    pub fn key(mut self, key: impl Into<Payload<'r>>) -> Self {
        self.key = Field::Bytes(key.into());
        self
    }

    /// Makes the key null.
    pub fn null_key(mut self) -> Self {
        self.key = Field::Null;
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl Into<Payload<'r>>) -> Self {
        self.value = Field::Bytes(value.into());
        self
    }

    /// Makes the value null: a tombstone where the topic is compacted.
    pub fn null_value(mut self) -> Self {
        self.value = Field::Null;
        self
    }

    /// Sets the value to `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.scratch.clear();
        self.value = Field::Scratch;
        if let Err(error) = serde_json::to_writer(&mut *self.scratch, value) {
            self.error.get_or_insert_with(|| Error::reject(format!("can't be written as JSON: {error}")));
        }
        self
    }

    /// Adds a header, behind those that are there.
    pub fn header(mut self, key: impl Into<Cow<'r, str>>, value: impl Into<Payload<'r>>) -> Self {
        self.headers_added.push((key.into(), Some(value.into())));
        self
    }

    /// Adds a header whose value is null.
    pub fn null_header(mut self, key: impl Into<Cow<'r, str>>) -> Self {
        self.headers_added.push((key.into(), None));
        self
    }

    /// Removes all headers, those of the input and those added so far.
    pub fn clear_headers(mut self) -> Self {
        self.headers_cleared = true;
        self.headers_added.clear();
        self
    }

    /// Sends it to another topic, one of those that the stage declares as its outputs.
    pub fn topic(mut self, topic: impl Into<Cow<'r, str>>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Sends it to that partition, instead of the one that follows from the key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since the Unix epoch, instead of the input record's.
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Writes the output. It fails, and so rejects the input record if the error is returned, where Kafka could
    /// not take it: a topic's name that is none, a negative timestamp, a partition past 2^31.
    pub fn emit(mut self) -> Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let route = Route {
            index: self.input.index,
            topic: self.topic.as_deref(),
            partition: self.partition,
            timestamp: self.timestamp,
        };
        check(&route)?;
        if self.is_unchanged() {
            match self.sink {
                Sink::Packed(packed) => packed.unchanged(&route),
                Sink::Typed(outputs) => outputs.push(TypedOutput::unchanged(&route)),
            }
            return Ok(());
        }
        let body = Body {
            key: self.key.bytes(self.input.key, self.scratch),
            value: self.value.bytes(self.input.value, self.scratch),
            headers: AllHeaders {
                input: (!self.headers_cleared).then(|| self.headers.clone()),
                added: self.headers_added.iter(),
            },
        };
        match self.sink {
            Sink::Packed(packed) => packed.changed(&route, body),
            Sink::Typed(outputs) => outputs.push(TypedOutput::changed(&route, body)),
        }
        Ok(())
    }

    fn is_unchanged(&self) -> bool {
        matches!((&self.key, &self.value), (Field::Input, Field::Input))
            && self.headers_added.is_empty()
            && (!self.headers_cleared || self.headers.len() == 0)
    }
}

impl Field<'_> {
    fn bytes<'b>(&'b self, input: Option<&'b [u8]>, scratch: &'b [u8]) -> Option<&'b [u8]> {
        match self {
            Self::Input => input,
            Self::Null => None,
            Self::Bytes(payload) => Some(payload.as_bytes()),
            Self::Scratch => Some(scratch),
        }
    }
}

/// The input's headers, then the added ones.
#[derive(Clone)]
struct AllHeaders<'b, 'r> {
    input: Option<Headers<'r>>,
    added: std::slice::Iter<'b, (Cow<'r, str>, Option<Payload<'r>>)>,
}

impl<'b, 'r: 'b> Iterator for AllHeaders<'b, 'r> {
    type Item = Header<'b>;

    fn next(&mut self) -> Option<Header<'b>> {
        self.input.as_mut().and_then(Iterator::next).or_else(|| {
            let (key, value) = self.added.next()?;
            Some(Header { key: key.as_bytes(), value: value.as_ref().map(Payload::as_bytes) })
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.input.as_ref().map_or(0, ExactSizeIterator::len) + self.added.len();
        (count, Some(count))
    }
}

impl<'b, 'r: 'b> ExactSizeIterator for AllHeaders<'b, 'r> {}
impl<'b, 'r: 'b> iter::FusedIterator for AllHeaders<'b, 'r> {}

fn check(route: &Route<'_>) -> Result<()> {
    if let Some(topic) = route.topic {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.bytes().all(is_legal);
        if !is_name || topic == "." || topic == ".." {
            return Err(format!("{topic:?} is not a topic's name").into());
        }
    }
    if route.timestamp.is_some_and(|timestamp| timestamp < 0) {
        return Err("the timestamp is before 1970".into());
    }
    if route.partition.is_some_and(|partition| i32::try_from(partition).is_err()) {
        return Err("the partition is past 2147483647".into());
    }
    Ok(())
}
