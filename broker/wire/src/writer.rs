//! Writes Kafka's primitive types into a frame; large chunks are spliced in, not copied.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::{EncodeError, ErrorCode, Frame, Records};

/// Chunks from this length on are spliced: below, copying is cheaper than one more piece in the
/// vectored write.
pub const SPLICE_BYTES_MIN: usize = 1024;

/// The length prefix, reserved in front of every frame.
const LENGTH_PREFIX_BYTES: usize = 4;

const CAPACITY_FIRST: usize = 256;

/// Collects one frame: small fields in one buffer, and beside it the chunks that belong between.
#[derive(Debug)]
pub struct FrameWriter {
    buffer: BytesMut,
    /// Positions in `buffer` (ascending) before which a chunk belongs.
    splices: Vec<(usize, Bytes)>,
    spliced_bytes: usize,
}

/// The place of a tagged field's size, to be filled in once the field is written.
#[derive(Debug)]
#[must_use]
pub struct TaggedMark {
    size_at: usize,
    splices: usize,
}

impl Default for FrameWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameWriter {
    pub fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(CAPACITY_FIRST);
        buffer.put_bytes(0, LENGTH_PREFIX_BYTES);
        Self { buffer, splices: Vec::new(), spliced_bytes: 0 }
    }

    /// The bytes written so far, without the length prefix.
    pub fn len(&self) -> usize {
        self.buffer.len() - LENGTH_PREFIX_BYTES + self.spliced_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame, behind its four bytes of length.
    pub fn into_frame(mut self) -> Result<Frame, EncodeError> {
        let length = self.len();
        let prefix = i32::try_from(length).map_err(|_| EncodeError::FrameTooLong { length })?;
        self.buffer[..LENGTH_PREFIX_BYTES].copy_from_slice(&prefix.to_be_bytes());
        Ok(self.collect(0))
    }

    /// What was written, without a length prefix: for keys, values and embedded messages.
    pub fn into_body(self) -> Bytes {
        self.collect(LENGTH_PREFIX_BYTES).into_bytes()
    }

    fn collect(self, start: usize) -> Frame {
        let buffer = self.buffer.freeze();
        let mut chunks = Vec::with_capacity(2 * self.splices.len() + 1);
        let mut from = start;
        for (at, chunk) in self.splices {
            if at > from {
                chunks.push(buffer.slice(from..at));
            }
            chunks.push(chunk);
            from = at;
        }
        if from < buffer.len() {
            chunks.push(buffer.slice(from..));
        }
        Frame::new(chunks)
    }

    #[inline]
    pub fn write_bool(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    #[inline]
    pub fn write_i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    #[inline]
    pub fn write_i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    #[inline]
    pub fn write_u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    #[inline]
    pub fn write_i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    #[inline]
    pub fn write_u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    #[inline]
    pub fn write_i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    #[inline]
    pub fn write_f64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    #[inline]
    pub fn write_uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    #[inline]
    pub fn write_error_code(&mut self, value: ErrorCode) {
        self.buffer.put_i16(value.0);
    }

    #[inline]
    pub fn write_uvarint(&mut self, value: u32) {
        let (bytes, length) = uvarint(value);
        self.buffer.put_slice(&bytes[..length]);
    }

    /// A length of 32 bits, or compact: one more than its value.
    #[inline]
    fn write_length(
        &mut self,
        length: usize,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let value = i32::try_from(length).map_err(|_| EncodeError::TooLong { field, length })?;
        if flexible {
            self.write_uvarint(value.unsigned_abs() + 1);
        } else {
            self.write_i32(value);
        }
        Ok(())
    }

    #[inline]
    fn write_null(&mut self, flexible: bool) {
        if flexible { self.buffer.put_u8(0) } else { self.write_i32(-1) }
    }

    #[inline]
    pub fn write_string(
        &mut self,
        value: &str,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let length =
            i16::try_from(value.len()).map_err(|_| EncodeError::TooLong { field, length: value.len() })?;
        if flexible {
            self.write_uvarint(u32::from(length.unsigned_abs()) + 1);
        } else {
            self.write_i16(length);
        }
        self.buffer.put_slice(value.as_bytes());
        Ok(())
    }

    #[inline]
    pub fn write_nullable_string(
        &mut self,
        value: Option<&Cow<'_, str>>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.write_string(value, flexible, field)?,
            None if flexible => self.buffer.put_u8(0),
            None => self.write_i16(-1),
        }
        Ok(())
    }

    #[inline]
    pub fn write_bytes(
        &mut self,
        value: &[u8],
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.write_length(value.len(), flexible, field)?;
        self.buffer.put_slice(value);
        Ok(())
    }

    #[inline]
    pub fn write_nullable_bytes(
        &mut self,
        value: Option<&Cow<'_, [u8]>>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.write_bytes(value, flexible, field)?,
            None => self.write_null(flexible),
        }
        Ok(())
    }

    pub fn write_records(
        &mut self,
        value: &Records<'_>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.write_length(value.len(), flexible, field)?;
        match value.shared_chunks() {
            Err(slice) => self.buffer.put_slice(slice),
            Ok(chunks) => chunks.iter().for_each(|chunk| self.write_chunk(chunk)),
        }
        Ok(())
    }

    pub fn write_nullable_records(
        &mut self,
        value: Option<&Records<'_>>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.write_records(value, flexible, field)?,
            None => self.write_null(flexible),
        }
        Ok(())
    }

    /// Raw bytes: spliced if that pays, else copied.
    fn write_chunk(&mut self, chunk: &Bytes) {
        if chunk.len() < SPLICE_BYTES_MIN {
            self.buffer.put_slice(chunk);
        } else {
            self.spliced_bytes += chunk.len();
            self.splices.push((self.buffer.len(), chunk.clone()));
        }
    }

    #[inline]
    pub fn write_array<T>(
        &mut self,
        elements: &[T],
        flexible: bool,
        field: &'static str,
        mut write_element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.write_length(elements.len(), flexible, field)?;
        elements.iter().try_for_each(|element| write_element(self, element))
    }

    #[inline]
    pub fn write_nullable_array<T>(
        &mut self,
        elements: Option<&Vec<T>>,
        flexible: bool,
        field: &'static str,
        write_element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match elements {
            Some(elements) => self.write_array(elements, flexible, field, write_element),
            None => {
                self.write_null(flexible);
                Ok(())
            }
        }
    }

    /// Starts a tagged field; its size is written by [`Self::end_tagged`].
    pub fn begin_tagged(&mut self, tag: u32) -> TaggedMark {
        self.write_uvarint(tag);
        let mark = TaggedMark { size_at: self.buffer.len(), splices: self.splices.len() };
        self.buffer.put_u8(0);
        mark
    }

    /// Ends a tagged field. Its size takes one byte in all but the rarest cases: then the field
    /// moves to make room.
    pub fn end_tagged(&mut self, mark: TaggedMark) -> Result<(), EncodeError> {
        assert_eq!(mark.splices, self.splices.len(), "no records in a tagged field");
        let end = self.buffer.len();
        let start = mark.size_at + 1;
        let length = end - start;
        let size = u32::try_from(length).map_err(|_| EncodeError::FrameTooLong { length })?;
        let (bytes, size_bytes) = uvarint(size);
        if size_bytes > 1 {
            self.buffer.put_bytes(0, size_bytes - 1);
            self.buffer.copy_within(start..end, mark.size_at + size_bytes);
        }
        self.buffer[mark.size_at..mark.size_at + size_bytes].copy_from_slice(&bytes[..size_bytes]);
        Ok(())
    }
}

/// A variable-length integer and how many of the bytes it takes.
#[inline]
fn uvarint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    (bytes, length + 1)
}
