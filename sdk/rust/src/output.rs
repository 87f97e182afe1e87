//! What becomes of the records of one call.

mod builder;
pub(crate) mod packed;
mod typed;

pub use builder::RecordBuilder;
pub(crate) use packed::Packed;
pub(crate) use typed::{TypedBody, TypedOutput};

use std::marker::PhantomData;

use crate::Record;

/// Takes what a transform emits.
#[derive(Debug)]
pub struct Output<'a> {
    sink: Sink,
    /// Reused from record to record by [`RecordBuilder::json`].
    scratch: Vec<u8>,
    /// An output belongs to one call, so that nobody keeps it.
    call: PhantomData<&'a mut ()>,
}

/// The two forms of the contract.
#[derive(Debug)]
pub(crate) enum Sink {
    Packed(Packed),
    Typed(Vec<TypedOutput>),
}

/// A place in the outputs to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    Packed(packed::Mark),
    Typed(usize),
}

/// What an output holds beside key, value and headers.
#[derive(Clone, Copy, Debug)]
struct Route<'r> {
    index: u32,
    topic: Option<&'r str>,
    partition: Option<u32>,
    timestamp: Option<i64>,
}

/// Key, value and headers of an output, still apart.
#[derive(Clone, Debug)]
struct Body<'b, H> {
    key: Option<&'b [u8]>,
    value: Option<&'b [u8]>,
    headers: H,
}

impl Output<'_> {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, scratch: Vec::new(), call: PhantomData }
    }

    /// Passes the record on as it is. The host copies it, so this costs next to nothing.
    pub fn keep(&mut self, record: &Record<'_>) {
        match &mut self.sink {
            Sink::Packed(packed) => packed.keep(record.index),
            Sink::Typed(outputs) => outputs.push(TypedOutput::unchanged(&Route::of(record))),
        }
    }

    /// Begins an output that is made from `record`: it has its key, value, headers and timestamp until another is
    /// set, and goes to the stage's output topic. Call [`emit`](RecordBuilder::emit) at the end.
    #[must_use = "a record goes nowhere until `emit()` is called"]
    pub fn record<'o, 'r>(&'o mut self, record: &'r Record<'r>) -> RecordBuilder<'o, 'r> {
        RecordBuilder::new(&mut self.sink, &mut self.scratch, record)
    }

    pub(crate) fn mark(&self) -> Mark {
        match &self.sink {
            Sink::Packed(packed) => Mark::Packed(packed.mark()),
            Sink::Typed(outputs) => Mark::Typed(outputs.len()),
        }
    }

    /// Takes back what was emitted since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        match (&mut self.sink, mark) {
            (Sink::Packed(packed), Mark::Packed(mark)) => packed.rewind(mark),
            (Sink::Typed(outputs), Mark::Typed(length)) => outputs.truncate(length),
            _ => unreachable!("a mark is of the output that made it"),
        }
    }

    pub(crate) fn into_sink(self) -> Sink {
        self.sink
    }
}

impl Route<'_> {
    fn of(record: &Record<'_>) -> Self {
        Self { index: record.index, topic: None, partition: None, timestamp: None }
    }
}

#[cfg(test)]
mod tests;
