//! The plain form of a transform: typed records, one by one. Turned into what the packed form yields, so that the
//! stage sees no difference.

use std::borrow::Cow;

use millstream_record::varint::{put_varint, varint_bytes};
use wasmtime::Store;

use super::bindings::transform::{BatchOutput, HeaderParam, HeaderResult, Message, MessageBody, Output};
use super::bindings::{Transformer, types};
use super::host::HostState;
use crate::batch::{InputBatch, InputRecord, Span};
use crate::outputs::{
    OutputError, OutputFault, OutputRecord, OutputRules, Transformed, check_partition, check_timestamp,
    topic_index,
};

/// A record and a header as they lie in a guest's memory, without their bytes.
const RECORD_BYTES: usize = 48;
const HEADER_BYTES: usize = 20;
/// What a sink's message has beside: its topic and its partition.
const PLACE_BYTES: usize = 16;
/// No guest's allocator is finer.
const ALLOCATION_BYTES: usize = 8;

/// What a record takes at least in the memory of a guest that gets it in typed form. The host takes some three times as
/// much for it, so what no guest has room for is not even begun: a record has room for millions of headers.
fn guest_bytes(input: &InputBatch, record: &InputRecord) -> usize {
    let (key, value, headers) = input.fields(record).fields();
    let headers: usize =
        headers.map(|header| HEADER_BYTES + allocated(Some(header.key)) + allocated(header.value)).sum();
    RECORD_BYTES + allocated(key) + allocated(value) + headers
}

fn allocated(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len).next_multiple_of(ALLOCATION_BYTES)
}

/// The same of a sink, each of whose messages names its topic.
pub(crate) fn message_bytes(input: &InputBatch, record: &InputRecord) -> usize {
    guest_bytes(input, record) + PLACE_BYTES + allocated(Some(input.topic.as_bytes()))
}

/// Whether a guest with so much memory may have room for all of them.
pub(super) fn has_room(input: &InputBatch, memory_bytes_max: u64) -> bool {
    let sizes = input.records.iter().map(|record| guest_bytes(input, record) as u64);
    sizes.sum::<u64>() <= memory_bytes_max
}

pub(super) async fn call(
    exports: &Transformer,
    store: &mut Store<HostState>,
    input: &InputBatch,
) -> wasmtime::Result<Result<BatchOutput, types::BatchError>> {
    let info = super::call::batch_info(input);
    let keys = header_keys(input);
    let headers = headers(input, &keys);
    let messages = messages(input, &headers);
    exports.millstream_plugin_transform().call_transform(store, info, &messages).await
}

/// The keys of all headers, as text. Most records have none, and then nothing is allocated.
pub(super) fn header_keys(input: &InputBatch) -> Vec<Cow<'_, str>> {
    let bodies = input.records.iter().map(|record| input.fields(record));
    bodies.flat_map(|body| body.fields().2).map(|header| String::from_utf8_lossy(header.key)).collect()
}

pub(super) fn headers<'a>(input: &'a InputBatch, keys: &'a [Cow<'_, str>]) -> Vec<HeaderParam<'a>> {
    let values = input.records.iter().flat_map(|record| input.fields(record).fields().2);
    values.zip(keys).map(|(header, key)| HeaderParam { key, value: header.value }).collect()
}

pub(super) fn messages<'a>(input: &'a InputBatch, headers: &'a [HeaderParam<'a>]) -> Vec<Message<'a>> {
    let mut rest = headers;
    let message = |record| {
        let (key, value, own) = input.fields(record).fields();
        let (headers, others) = rest.split_at(own.len());
        rest = others;
        Message { offset: input.offset(record), timestamp: record.timestamp, key, value, headers }
    };
    input.records.iter().map(message).collect()
}

/// Checks the outputs and packs their bodies.
pub(super) fn take_outputs(
    returned: &BatchOutput,
    rules: &OutputRules<'_>,
    out: &mut Transformed,
) -> Result<(), OutputError> {
    if returned.outputs.len() > rules.outputs_max {
        return Err(OutputError::TooMany { max: rules.outputs_max });
    }
    for (number, output) in returned.outputs.iter().enumerate() {
        let taken = take_output(output, rules, &mut out.payload);
        out.outputs.push(taken.map_err(|fault| OutputError::Output { output: number, fault })?);
        if out.payload.len() > rules.output_bytes_max {
            return Err(OutputError::TooLarge { size: out.payload.len(), max: rules.output_bytes_max });
        }
    }
    Ok(())
}

fn take_output(
    output: &Output,
    rules: &OutputRules<'_>,
    payload: &mut Vec<u8>,
) -> Result<OutputRecord, OutputFault> {
    let record_count = rules.record_count;
    if output.index as usize >= record_count {
        return Err(OutputFault::Index { index: output.index.into(), record_count });
    }
    let topic = output.topic.as_deref().map(|name| topic_index(name, rules.topics)).transpose()?;
    let partition = output.partition.map(|partition| check_partition(partition.into())).transpose()?;
    let timestamp = output.timestamp.map(check_timestamp).transpose()?;
    let body = output.body.as_ref().map(|body| pack(body, rules, payload)).transpose()?;
    Ok(OutputRecord { index: output.index, topic, partition, timestamp, body })
}

/// Writes a body as it stands in a record.
fn pack(body: &MessageBody, rules: &OutputRules<'_>, payload: &mut Vec<u8>) -> Result<Span, OutputFault> {
    let start = payload.len();
    let headers = body.headers.iter().map(|HeaderResult { key, value }| (key.as_str(), value.as_deref()));
    put_body(payload, body.key.as_deref(), body.value.as_deref(), headers)?;
    // Spans are narrower than buffers; the caller turns this much into an error right after.
    let end = payload.len().min(rules.output_bytes_max.saturating_add(start));
    Ok(Span::new(start, end))
}

/// Key, value and headers as they stand in a record.
pub(super) fn put_body<'a>(
    payload: &mut Vec<u8>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Result<(), OutputFault> {
    put_bytes(payload, key)?;
    put_bytes(payload, value)?;
    put_varint(payload, length(headers.len())?);
    for (key, value) in headers {
        put_bytes(payload, Some(key.as_bytes()))?;
        put_bytes(payload, value)?;
    }
    Ok(())
}

fn put_bytes(payload: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), OutputFault> {
    let Some(bytes) = bytes else {
        put_varint(payload, -1);
        return Ok(());
    };
    let length = length(bytes.len())?;
    payload.reserve(varint_bytes(length) + bytes.len());
    put_varint(payload, length);
    payload.extend_from_slice(bytes);
    Ok(())
}

fn length(length: usize) -> Result<i32, OutputFault> {
    i32::try_from(length).map_err(|_| OutputFault::Length(i32::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_record::{Header, RecordBody};

    use super::*;

    fn output(index: u32) -> Output {
        Output { index, topic: None, partition: None, timestamp: None, body: None }
    }

    fn body(value: &[u8]) -> Option<MessageBody> {
        let header = HeaderResult { key: "h".to_owned(), value: None };
        Some(MessageBody { key: None, value: Some(value.to_vec()), headers: vec![header] })
    }

    fn take(outputs: Vec<Output>) -> Result<Transformed, OutputError> {
        let topics: [Arc<str>; 2] = ["out".into(), "foo".into()];
        let rules = OutputRules { record_count: 3, outputs_max: 4, output_bytes_max: 100, topics: &topics };
        let mut out = Transformed::default();
        take_outputs(&BatchOutput { outputs, rejected: Vec::new() }, &rules, &mut out)?;
        Ok(out)
    }

    #[test]
    fn typed_outputs_become_what_packed_ones_are() {
        let topic = Some("foo".to_owned());
        let changed = Output { topic, partition: Some(1), timestamp: Some(5), body: body(b"v"), ..output(1) };
        let out = take(vec![output(0), changed]).unwrap();
        assert_eq!(out.outputs[0].body, None);
        let OutputRecord { index, topic, partition, timestamp, body } = out.outputs[1];
        assert_eq!((index, topic, partition, timestamp), (1, Some(1), Some(1), Some(5)));
        let (key, value, headers) = RecordBody::parse(body.unwrap().of(&out.payload)).unwrap().fields();
        assert_eq!((key, value), (None, Some(&b"v"[..])));
        assert_eq!(headers.collect::<Vec<_>>(), [Header { key: b"h", value: None }]);
    }

    #[test]
    fn typed_outputs_are_checked_like_packed_ones() {
        let fault = |output: Output| match take(vec![output]) {
            Err(OutputError::Output { output: 0, fault }) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(output(3)), OutputFault::Index { index: 3, record_count: 3 });
        assert_eq!(
            fault(Output { topic: Some("bar".to_owned()), ..output(0) }),
            OutputFault::UnknownTopic("bar".to_owned())
        );
        assert_eq!(
            fault(Output { partition: Some(u32::MAX), ..output(0) }),
            OutputFault::Partition(u32::MAX.into())
        );
        assert_eq!(fault(Output { timestamp: Some(-1), ..output(0) }), OutputFault::Timestamp(-1));
        assert!(matches!(take((0..5).map(|_| output(0)).collect()), Err(OutputError::TooMany { max: 4 })));
        let large = Output { body: body(&[0; 200]), ..output(0) };
        assert!(matches!(take(vec![large]), Err(OutputError::TooLarge { max: 100, .. })));
    }
}
