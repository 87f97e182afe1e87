//! Batches that lie end to end.

use core::iter::FusedIterator;

use super::view::{BatchError, RecordBatch};

/// The batches of a byte string. After an error it ends.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, failed: false }
    }

    /// What has not been taken yet; after an error, what it is about.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RecordBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        Some(match RecordBatch::split_first(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Ok(batch)
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        })
    }
}

impl FusedIterator for Batches<'_> {}
