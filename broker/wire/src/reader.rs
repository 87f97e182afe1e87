//! Reads Kafka's primitive types out of a borrowed frame, under a memory limit.
//!
//! **Invariants**: nothing is allocated for a count before the bytes that follow could hold
//! that many elements, and never more than the reader's memory limit in total; no input panics.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{DecodeError, ErrorCode, Records};

/// Messages of any size may take this much memory once decoded.
pub const DECODED_BYTES_MIN: usize = 1 << 20;

/// A decoded message may take this many times the length of its frame. The densest honest
/// messages (arrays of short strings) take about 12.
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 16;

/// An array's first allocation; it grows only as elements really arrive.
const ARRAY_BYTES_FIRST: usize = 4096;

/// Reads a frame from front to back. Strings and bytes are borrowed from it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    memory_left: usize,
}

impl<'a> Reader<'a> {
    /// A reader whose arrays may take [`DECODED_BYTES_PER_FRAME_BYTE`] times the frame's length,
    /// and at least [`DECODED_BYTES_MIN`].
    pub fn new(frame: &'a [u8]) -> Self {
        let limit = frame.len().saturating_mul(DECODED_BYTES_PER_FRAME_BYTE);
        Self::with_memory_limit(frame, limit.max(DECODED_BYTES_MIN))
    }

    /// A reader whose arrays may take `decoded_bytes_max` bytes in all.
    pub fn with_memory_limit(frame: &'a [u8], decoded_bytes_max: usize) -> Self {
        Self { rest: frame, memory_left: decoded_bytes_max }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Fails if bytes are left. Kafka ignores trailing bytes, so reading a request does not ask.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.rest.len())) }
    }

    #[inline]
    fn read_fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    fn read_slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub fn read_bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.read_i8(field)? != 0)
    }

    #[inline]
    pub fn read_i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.read_fixed(field)?))
    }

    #[inline]
    pub fn read_error_code(&mut self, field: &'static str) -> Result<ErrorCode, DecodeError> {
        Ok(ErrorCode(self.read_i16(field)?))
    }

    /// An unsigned integer of 7 bits a byte, lowest first, at most 32 bits.
    #[inline]
    pub fn read_uvarint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in (0..=28).step_by(7) {
            let [byte] = self.read_fixed(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { field })
    }

    /// A length that is one more than its value, 0 for null: the compact types.
    #[inline]
    fn read_compact_length(&mut self, field: &'static str) -> Result<Option<u32>, DecodeError> {
        Ok(self.read_uvarint(field)?.checked_sub(1))
    }

    /// A length of 32 bits (compact if `flexible`), -1 for null.
    #[inline]
    fn read_length(&mut self, flexible: bool, field: &'static str) -> Result<Option<u32>, DecodeError> {
        if flexible {
            return self.read_compact_length(field);
        }
        match self.read_i32(field)? {
            -1 => Ok(None),
            length => u32::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::InvalidLength { field, length: length.into() }),
        }
    }

    #[inline]
    pub fn read_nullable_string(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let length = if flexible {
            match self.read_compact_length(field)? {
                None => return Ok(None),
                Some(length) => i64::from(length),
            }
        } else {
            match self.read_i16(field)? {
                -1 => return Ok(None),
                length => i64::from(length),
            }
        };
        // Both encodings hold at most 32,767 bytes, as in Kafka.
        let length = u16::try_from(length)
            .ok()
            .filter(|length| i16::try_from(*length).is_ok())
            .ok_or(DecodeError::InvalidLength { field, length })?;
        let bytes = self.read_slice(length.into(), field)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8 { field })?;
        Ok(Some(Cow::Borrowed(text)))
    }

    #[inline]
    pub fn read_string(&mut self, flexible: bool, field: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.read_nullable_string(flexible, field)?.ok_or(DecodeError::UnexpectedNull { field })
    }

    #[inline]
    fn read_nullable_slice(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.read_length(flexible, field)? {
            None => Ok(None),
            Some(length) => self.read_slice(length as usize, field).map(Some),
        }
    }

    #[inline]
    pub fn read_nullable_bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        Ok(self.read_nullable_slice(flexible, field)?.map(Cow::Borrowed))
    }

    #[inline]
    pub fn read_bytes(&mut self, flexible: bool, field: &'static str) -> Result<Cow<'a, [u8]>, DecodeError> {
        self.read_nullable_bytes(flexible, field)?.ok_or(DecodeError::UnexpectedNull { field })
    }

    #[inline]
    pub fn read_nullable_records(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Records<'a>>, DecodeError> {
        Ok(self.read_nullable_slice(flexible, field)?.map(Records::from))
    }

    #[inline]
    pub fn read_records(&mut self, flexible: bool, field: &'static str) -> Result<Records<'a>, DecodeError> {
        self.read_nullable_records(flexible, field)?.ok_or(DecodeError::UnexpectedNull { field })
    }

    /// An array whose elements take at least `element_bytes_min` bytes each on the wire.
    #[inline]
    pub fn read_nullable_array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        field: &'static str,
        mut read_element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.read_length(flexible, field)? else { return Ok(None) };
        let count = self.charge_elements(count, element_bytes_min, size_of::<T>(), field)?;
        let mut elements: Vec<T> = Vec::new();
        while elements.len() < count {
            if elements.len() == elements.capacity() {
                let step = elements.len().max(ARRAY_BYTES_FIRST / size_of::<T>().max(1)).max(1);
                elements.reserve_exact(step.min(count - elements.len()));
            }
            elements.push(read_element(self)?);
        }
        Ok(Some(elements))
    }

    #[inline]
    pub fn read_array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        field: &'static str,
        read_element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.read_nullable_array(flexible, element_bytes_min, field, read_element)?
            .ok_or(DecodeError::UnexpectedNull { field })
    }

    /// Checks a declared count against the bytes that follow and against the memory limit.
    fn charge_elements(
        &mut self,
        count: u32,
        element_bytes_min: usize,
        element_bytes_decoded: usize,
        field: &'static str,
    ) -> Result<usize, DecodeError> {
        let remaining = self.rest.len();
        let elements = count as usize;
        if elements > remaining / element_bytes_min.max(1) {
            return Err(DecodeError::CountTooLarge { field, count, remaining });
        }
        self.memory_left = elements
            .checked_mul(element_bytes_decoded)
            .and_then(|bytes| self.memory_left.checked_sub(bytes))
            .ok_or(DecodeError::TooLarge { field })?;
        Ok(elements)
    }

    /// Whether a struct follows: a nullable struct starts with a byte, negative for null.
    #[inline]
    pub fn read_presence(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.read_i8(field)? >= 0)
    }

    /// A tagged section. `read_known` gets each tag and reads its field, or says `false` for a
    /// tag it does not know, whose bytes are then skipped.
    pub fn read_tagged(
        &mut self,
        message: &'static str,
        mut read_known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.read_uvarint(message)?;
        for _ in 0..count {
            let tag = self.read_uvarint(message)?;
            let size = self.read_uvarint(message)? as usize;
            let Some(after) = self.rest.len().checked_sub(size) else {
                return Err(DecodeError::Truncated { field: message });
            };
            if !read_known(tag, self)? {
                self.read_slice(size, message)?;
            } else if self.rest.len() != after {
                return Err(DecodeError::TagSizeMismatch { field: message });
            }
        }
        Ok(())
    }
}
