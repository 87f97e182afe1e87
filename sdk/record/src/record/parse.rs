//! The one walk over a record's fields, and what can be wrong with them.

use thiserror::Error;

use super::body::RecordBody;
use super::headers::{HEADER_BYTES_MIN, Headers, take_header};
use super::iter::Record;
use crate::varint::{VarintError, take_varint, take_varlong};

/// Which record of a section is wrong, and how.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("record {index}: {fault}")]
pub struct RecordError {
    /// The record's position in its section, from 0.
    pub index: i32,
    /// What is wrong with it.
    pub fault: RecordFault,
}

/// What can be wrong with a record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordFault {
    /// A number or a length leads past the end of the record or of the section.
    #[error("cut short")]
    Truncated,
    /// A number does not fit its type.
    #[error("a varint is too long")]
    VarintTooLong,
    /// A length is negative, and not the -1 of a null that is allowed there.
    #[error("invalid length {0}")]
    InvalidLength(i32),
    /// The number of headers is negative, or more than the record has bytes for.
    #[error("invalid number of headers {0}")]
    HeadersCount(i32),
    /// The record goes on after its last header.
    #[error("{0} bytes after the last header")]
    TrailingBytes(usize),
    /// The offsets of a batch from a client follow each other without a gap.
    #[error("offset delta {found} instead of {expected}")]
    OffsetDelta {
        /// The record's position.
        expected: i32,
        /// What it says.
        found: i32,
    },
}

impl From<VarintError> for RecordFault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::TooLong => Self::VarintTooLong,
        }
    }
}

/// A key, a value and headers that are well-formed.
pub(super) struct BodyFields<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Takes a record off the front of `section`. On error `section` stays where it was.
#[inline]
pub(super) fn take_record<'a>(section: &mut &'a [u8]) -> Result<Record<'a>, RecordFault> {
    let mut rest = *section;
    let length = take_varint(&mut rest)?;
    let raw = take_bytes(&mut rest, length)?;
    let [attributes, fields @ ..] = raw else { return Err(RecordFault::Truncated) };
    let mut body = fields;
    let timestamp_delta = take_varlong(&mut body)?;
    let offset_delta = take_varint(&mut body)?;
    let BodyFields { key, value, headers } = parse_body(body)?;
    let record = Record {
        attributes: i8::from_be_bytes([*attributes]),
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers,
        body: RecordBody::trusted(body),
        raw: &section[..section.len() - rest.len()],
    };
    *section = rest;
    Ok(record)
}

/// Walks everything from the key's length to the last header, which must be the end.
#[inline]
pub(super) fn parse_body(body: &[u8]) -> Result<BodyFields<'_>, RecordFault> {
    let mut rest = body;
    let key = take_nullable_bytes(&mut rest)?;
    let value = take_nullable_bytes(&mut rest)?;
    let count = take_varint(&mut rest)?;
    let count_max = rest.len() / HEADER_BYTES_MIN;
    let headers_count = usize::try_from(count)
        .ok()
        .filter(|&headers_count| headers_count <= count_max)
        .ok_or(RecordFault::HeadersCount(count))?;
    let headers = Headers::trusted(rest, headers_count);
    for _ in 0..headers_count {
        take_header(&mut rest)?;
    }
    if rest.is_empty() {
        Ok(BodyFields { key, value, headers })
    } else {
        Err(RecordFault::TrailingBytes(rest.len()))
    }
}

#[inline]
pub(super) fn take_nullable_bytes<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    match take_varint(input)? {
        -1 => Ok(None),
        length => take_bytes(input, length).map(Some),
    }
}

#[inline]
pub(super) fn take_bytes<'a>(input: &mut &'a [u8], length: i32) -> Result<&'a [u8], RecordFault> {
    let length = usize::try_from(length).map_err(|_| RecordFault::InvalidLength(length))?;
    let (bytes, rest) = input.split_at_checked(length).ok_or(RecordFault::Truncated)?;
    *input = rest;
    Ok(bytes)
}
