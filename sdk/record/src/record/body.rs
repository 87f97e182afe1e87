//! The part of a record that does not depend on its place in a batch.

use super::headers::Headers;
use super::parse::{RecordFault, parse_body};

/// Key, value and headers, encoded and well-formed: everything of a record from its key's length on.
///
/// Copying it into another batch, with another offset and timestamp, is all it takes to move a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBody<'a> {
    bytes: &'a [u8],
}

impl<'a> RecordBody<'a> {
    /// Checks `bytes`, which come from outside.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordFault> {
        parse_body(bytes)?;
        Ok(Self { bytes })
    }

    pub(super) fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The encoded body.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Key, value and headers.
    #[must_use]
    pub fn fields(&self) -> (Option<&'a [u8]>, Option<&'a [u8]>, Headers<'a>) {
        match parse_body(self.bytes) {
            Ok(fields) => (fields.key, fields.value, fields.headers),
            Err(_) => unreachable!("a body is checked before it is one"),
        }
    }
}
