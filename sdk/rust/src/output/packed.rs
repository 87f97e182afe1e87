//! Outputs of the contract's fast form, packed as `sdk/wit/0.2/transform-batch.wit` says.

use millstream_record::Header;
use millstream_record::varint::{put_varint, put_varlong, varint_bytes};

use super::{Body, Route};

pub(crate) const BODY: u8 = 0x01;
pub(crate) const TOPIC: u8 = 0x02;
pub(crate) const PARTITION: u8 = 0x04;
pub(crate) const TIMESTAMP: u8 = 0x08;
pub(crate) const RUN: u8 = 0x10;

/// The outputs of a call, as they are written.
#[derive(Debug)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    /// The input record of the last output in `bytes`.
    last_index: i32,
    /// Records kept one after the other, not in `bytes` yet.
    run: Run,
}

/// What [`Packed::rewind`] goes back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    length: usize,
    last_index: i32,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: i32,
    count: i32,
}

/// A null, or so many bytes: Kafka's `-1` or the length, as a varint.
fn length_of(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| length(bytes.len()))
}

/// A guest has 4 GiB of address space at most, and the host a limit on outputs far below 2 GiB.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("an output is larger than 2 GiB")
}

impl Packed {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), last_index: -1, run: Run { first: 0, count: 0 } }
    }

    /// The packed outputs.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.end_run();
        self.bytes
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { length: self.bytes.len(), last_index: self.last_index, run: self.run }
    }

    pub(super) fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.length);
        self.last_index = mark.last_index;
        self.run = mark.run;
    }

    #[inline]
    pub(super) fn keep(&mut self, index: u32) {
        let index = index.cast_signed();
        if self.run.count > 0 && self.run.first + self.run.count == index {
            self.run.count += 1;
        } else {
            self.end_run();
            self.run = Run { first: index, count: 1 };
        }
    }

    pub(super) fn unchanged(&mut self, route: &Route<'_>) {
        self.head(route, 0);
    }

    pub(super) fn changed<'b>(
        &mut self,
        route: &Route<'_>,
        body: Body<'b, impl ExactSizeIterator<Item = Header<'b>> + Clone>,
    ) {
        self.head(route, BODY);
        let headers_count = length(body.headers.len());
        let header_bytes: usize = body.headers.clone().map(|header| header_bytes(&header)).sum();
        let body_bytes =
            field_bytes(body.key) + field_bytes(body.value) + varint_bytes(headers_count) + header_bytes;
        let out = &mut self.bytes;
        out.reserve(body_bytes + varint_bytes(i32::MAX));
        put_varint(out, length(body_bytes));
        put_field(out, body.key);
        put_field(out, body.value);
        put_varint(out, headers_count);
        for header in body.headers {
            put_field(out, Some(header.key));
            put_field(out, header.value);
        }
    }

    fn head(&mut self, route: &Route<'_>, body: u8) {
        self.end_run();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = body
            | flag(route.topic.is_some(), TOPIC)
            | flag(route.partition.is_some(), PARTITION)
            | flag(route.timestamp.is_some(), TIMESTAMP);
        self.flags_and_index(flags, route.index.cast_signed());
        if let Some(topic) = route.topic {
            put_field(&mut self.bytes, Some(topic.as_bytes()));
        }
        if let Some(partition) = route.partition {
            put_varint(&mut self.bytes, partition.cast_signed());
        }
        if let Some(timestamp) = route.timestamp {
            put_varlong(&mut self.bytes, timestamp);
        }
    }

    fn end_run(&mut self) {
        let Run { first, count } = self.run;
        self.run.count = 0;
        match count {
            0 => {}
            1 => self.flags_and_index(0, first),
            _ => {
                self.flags_and_index(RUN, first);
                put_varint(&mut self.bytes, count);
                self.last_index = first + count - 1;
            }
        }
    }

    fn flags_and_index(&mut self, flags: u8, index: i32) {
        self.bytes.push(flags);
        put_varint(&mut self.bytes, index - self.last_index);
        self.last_index = index;
    }
}

fn field_bytes(bytes: Option<&[u8]>) -> usize {
    varint_bytes(length_of(bytes)) + bytes.map_or(0, <[u8]>::len)
}

fn header_bytes(header: &Header<'_>) -> usize {
    field_bytes(Some(header.key)) + field_bytes(header.value)
}

fn put_field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, length_of(bytes));
    out.extend_from_slice(bytes.unwrap_or_default());
}
