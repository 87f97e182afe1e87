//! An encoded frame in pieces, ready for a vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes to send, in order. As a [`Buf`] it goes through `write_all_buf` with vectored writes.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl Frame {
    pub(crate) fn new(chunks: Vec<Bytes>) -> Self {
        let remaining = chunks.iter().map(Bytes::len).sum();
        Self { chunks: chunks.into(), remaining }
    }

    /// The bytes that are still to be sent.
    pub fn len(&self) -> usize {
        self.remaining
    }

    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// The pieces that are still to be sent.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks.into()
    }

    /// Everything in one piece, copied only if there are several.
    pub fn into_bytes(mut self) -> Bytes {
        self.copy_to_bytes(self.remaining)
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.chunks);
        pairs.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advance within the frame");
        self.remaining -= count;
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else { break };
            if count < front.len() {
                front.advance(count);
                break;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        if let Some(front) = self.chunks.front_mut()
            && length <= front.len()
        {
            let bytes = front.split_to(length);
            if front.is_empty() {
                self.chunks.pop_front();
            }
            self.remaining -= length;
            return bytes;
        }
        let mut copy = bytes::BytesMut::with_capacity(length);
        bytes::BufMut::put(&mut copy, Buf::take(&mut *self, length));
        copy.freeze()
    }
}
