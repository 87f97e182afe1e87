//! One instance of a transform and the loop over a batch, the same for both forms of the contract.

use millstream_record::RecordIter;

use crate::output::{Output, Packed, Sink, TypedOutput};
use crate::record::{Batch, Message};
use crate::{Error, Record, Result, Transform};

/// A transform whose type no longer matters.
pub(crate) trait Instance {
    /// The fast form: a records section in, packed outputs out.
    fn batch(&mut self, batch: &Batch, records: &[u8]) -> Result<(Vec<u8>, Vec<Rejected>)>;

    /// The plain form.
    fn messages(&mut self, batch: &Batch, messages: &[Message]) -> Result<(Vec<TypedOutput>, Vec<Rejected>)>;
}

/// A record that the transform could not process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) index: u32,
    pub(crate) reason: String,
}

/// Makes an instance from the pipeline's configuration, which is `null` where there is none.
pub(crate) fn instantiate<T: Transform>(config: &str) -> Result<Box<dyn Instance>> {
    Ok(Box::new(Held(T::new(self::config(config)?)?)))
}

/// The pipeline's configuration; one that it does not state is empty.
pub(crate) fn config<C: serde::de::DeserializeOwned>(text: &str) -> Result<C> {
    let text = if text.trim() == "null" { "{}" } else { text };
    serde_json::from_str(text).map_err(Error::stop)
}

struct Held<T>(T);

impl<T: Transform> Instance for Held<T> {
    fn batch(&mut self, batch: &Batch, records: &[u8]) -> Result<(Vec<u8>, Vec<Rejected>)> {
        let mut out = Output::new(Sink::Packed(Packed::new()));
        let mut rejected = Vec::new();
        for (index, record) in (0..).zip(RecordIter::new(records)) {
            let record = record.map_err(|error| Error::stop(format!("malformed batch: {error}")))?;
            step(&mut self.0, Record::from_packed(batch, index, record), &mut out, &mut rejected)?;
        }
        match out.into_sink() {
            Sink::Packed(packed) => Ok((packed.finish(), rejected)),
            Sink::Typed(_) => unreachable!("the sink stays what it was made"),
        }
    }

    fn messages(&mut self, batch: &Batch, messages: &[Message]) -> Result<(Vec<TypedOutput>, Vec<Rejected>)> {
        let mut out = Output::new(Sink::Typed(Vec::new()));
        let mut rejected = Vec::new();
        for (index, message) in (0..).zip(messages) {
            step(&mut self.0, Record::from_typed(batch, index, message), &mut out, &mut rejected)?;
        }
        match out.into_sink() {
            Sink::Typed(outputs) => Ok((outputs, rejected)),
            Sink::Packed(_) => unreachable!("the sink stays what it was made"),
        }
    }
}

/// One record. A rejected one has no outputs: whatever it had emitted before is taken back.
#[inline]
fn step<T: Transform>(
    transform: &mut T,
    record: Record<'_>,
    out: &mut Output<'_>,
    rejected: &mut Vec<Rejected>,
) -> Result<()> {
    let index = record.index;
    let mark = out.mark();
    match transform.record(record, out) {
        Ok(()) => Ok(()),
        Err(Error::Reject(reason)) => {
            out.rewind(mark);
            rejected.push(Rejected { index, reason });
            Ok(())
        }
        Err(error @ (Error::Retry(_) | Error::Stop(_) | Error::Stopping)) => Err(error),
    }
}
