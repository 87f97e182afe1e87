//! The headers of a record.

use core::iter::FusedIterator;
use core::str::{self, Utf8Error};

use super::parse::{RecordFault, take_bytes, take_nullable_bytes};
use crate::varint::take_varint;

/// An empty key and a null value.
pub(super) const HEADER_BYTES_MIN: usize = 2;

/// One header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key. Kafka says UTF-8; nobody checks it on the way.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The headers that are still to come, in the record's order. A key may occur more than once.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    /// Well-formed: whoever makes a `Headers` has walked it.
    rest: &'a [u8],
    count: usize,
}

impl<'a> Header<'a> {
    /// The key as text.
    pub fn key_str(&self) -> Result<&'a str, Utf8Error> {
        str::from_utf8(self.key)
    }
}

impl<'a> Headers<'a> {
    pub(super) fn trusted(rest: &'a [u8], count: usize) -> Self {
        Self { rest, count }
    }

    /// The last header of that key, which is the one that counts.
    #[must_use]
    pub fn last_of(&self, key: &[u8]) -> Option<Header<'a>> {
        self.clone().filter(|header| header.key == key).last()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.count = self.count.checked_sub(1)?;
        match take_header(&mut self.rest) {
            Ok(header) => Some(header),
            Err(_) => unreachable!("a record's headers are checked before they are handed out"),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

#[inline]
pub(super) fn take_header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
    let key_length = take_varint(rest)?;
    let key = take_bytes(rest, key_length)?;
    let value = take_nullable_bytes(rest)?;
    Ok(Header { key, value })
}
