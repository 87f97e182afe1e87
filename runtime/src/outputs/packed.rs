//! The packed encoding of outputs. `sdk/wit/0.2/transform-batch.wit` is its definition.

use millstream_record::RecordBody;
use millstream_record::varint::{take_varint, take_varlong};

use super::{
    OutputError, OutputFault, OutputRecord, OutputRules, check_partition, check_timestamp, topic_index,
};
use crate::batch::Span;

const BODY: u8 = 0x01;
const TOPIC: u8 = 0x02;
const PARTITION: u8 = 0x04;
const TIMESTAMP: u8 = 0x08;
const RUN: u8 = 0x10;
const FLAGS: u8 = BODY | TOPIC | PARTITION | TIMESTAMP | RUN;

/// Reads `packed` into `outputs`, whose bodies point into `packed`. Allocates for outputs that are there, never
/// for those that are announced.
pub fn decode(
    packed: &[u8],
    rules: &OutputRules<'_>,
    outputs: &mut Vec<OutputRecord>,
) -> Result<(), OutputError> {
    if packed.len() > rules.output_bytes_max {
        return Err(OutputError::TooLarge { size: packed.len(), max: rules.output_bytes_max });
    }
    let mut decoder = Decoder { packed, rest: packed, rules, previous: -1, last_topic: None };
    let mut number = 0;
    while !decoder.rest.is_empty() {
        let (output, count) =
            decoder.take().map_err(|fault| OutputError::Output { output: number, fault })?;
        if count > rules.outputs_max - outputs.len().min(rules.outputs_max) {
            return Err(OutputError::TooMany { max: rules.outputs_max });
        }
        let run = (output.index..).take(count);
        outputs.extend(run.map(|index| OutputRecord { index, ..output }));
        number += 1;
    }
    Ok(())
}

struct Decoder<'a> {
    packed: &'a [u8],
    rest: &'a [u8],
    rules: &'a OutputRules<'a>,
    /// Input record of the output before; -1 at the start.
    previous: i64,
    /// The topic named last, by its bytes: outputs to another topic tend to name the same one.
    last_topic: Option<(&'a [u8], u16)>,
}

impl<'a> Decoder<'a> {
    /// One output, and how many input records it stands for: 1 unless it is a run.
    fn take(&mut self) -> Result<(OutputRecord, usize), OutputFault> {
        let (&flags, rest) = self.rest.split_first().ok_or(OutputFault::Truncated)?;
        self.rest = rest;
        if flags & !FLAGS != 0 || (flags & RUN != 0 && flags & (BODY | TIMESTAMP) != 0) {
            return Err(OutputFault::Flags(flags));
        }
        let first = self.previous + i64::from(take_varint(&mut self.rest)?);
        let count = if flags & RUN == 0 { 1 } else { self.take_run_length()? };
        let index = self.check_run(first, count)?;
        let topic = if flags & TOPIC == 0 { None } else { Some(self.take_topic()?) };
        let partition = if flags & PARTITION == 0 { None } else { Some(self.take_partition()?) };
        let timestamp = if flags & TIMESTAMP == 0 { None } else { Some(self.take_timestamp()?) };
        let body = if flags & BODY == 0 { None } else { Some(self.take_body()?) };
        Ok((OutputRecord { index, topic, partition, timestamp, body }, count))
    }

    fn take_run_length(&mut self) -> Result<usize, OutputFault> {
        let count = take_varint(&mut self.rest)?;
        usize::try_from(count).ok().filter(|count| *count > 0).ok_or(OutputFault::RunLength(count))
    }

    /// All records of the run exist. Moves on to its last one.
    fn check_run(&mut self, first: i64, count: usize) -> Result<u32, OutputFault> {
        let record_count = self.rules.record_count;
        // A count comes from an i32 and an index is within the batch, so nothing here overflows.
        let last = first + count as i64 - 1;
        if first < 0 || last >= record_count as i64 {
            let index = if first < 0 { first } else { last };
            return Err(OutputFault::Index { index, record_count });
        }
        self.previous = last;
        u32::try_from(first).map_err(|_| OutputFault::Index { index: first, record_count })
    }

    fn take_topic(&mut self) -> Result<u16, OutputFault> {
        let name = self.take_bytes()?;
        if let Some((last, index)) = self.last_topic
            && last == name
        {
            return Ok(index);
        }
        let text = std::str::from_utf8(name).map_err(|_| OutputFault::TopicNotUtf8)?;
        let index = topic_index(text, self.rules.topics)?;
        self.last_topic = Some((name, index));
        Ok(index)
    }

    fn take_partition(&mut self) -> Result<i32, OutputFault> {
        check_partition(take_varint(&mut self.rest)?.into())
    }

    fn take_timestamp(&mut self) -> Result<i64, OutputFault> {
        check_timestamp(take_varlong(&mut self.rest)?)
    }

    fn take_body(&mut self) -> Result<Span, OutputFault> {
        let body = self.take_bytes()?;
        RecordBody::parse(body).map_err(OutputFault::Body)?;
        let end = self.packed.len() - self.rest.len();
        Ok(Span::new(end - body.len(), end))
    }

    fn take_bytes(&mut self) -> Result<&'a [u8], OutputFault> {
        let length = take_varint(&mut self.rest)?;
        let length = usize::try_from(length).map_err(|_| OutputFault::Length(length))?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(OutputFault::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
