//! The record batches of a produce request or a fetch response, opaque to this crate.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// Whole record batches end to end: one slice of a received frame, or chunks to be sent as they
/// are. Two values are equal if their bytes are.
#[derive(Clone)]
pub struct Records<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Slice(&'a [u8]),
    Chunks { chunks: Vec<Bytes>, length: usize },
}

impl<'a> Records<'a> {
    /// Records to be sent without copying the chunks.
    pub fn from_chunks(chunks: Vec<Bytes>) -> Self {
        let length = chunks.iter().map(Bytes::len).sum();
        Self(Repr::Chunks { chunks, length })
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Slice(slice) => slice.len(),
            Repr::Chunks { length, .. } => *length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in order, as the pieces that are there.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let (slice, chunks) = match &self.0 {
            Repr::Slice(slice) => (Some(*slice), &[][..]),
            Repr::Chunks { chunks, .. } => (None, chunks.as_slice()),
        };
        slice.into_iter().chain(chunks.iter().map(Bytes::as_ref))
    }

    /// The shared chunks, or the borrowed slice.
    pub(crate) fn shared_chunks(&self) -> Result<&[Bytes], &'a [u8]> {
        match &self.0 {
            Repr::Slice(slice) => Err(slice),
            Repr::Chunks { chunks, .. } => Ok(chunks),
        }
    }

    /// All bytes in one piece, copied only if they lie in several chunks.
    pub fn contiguous(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Repr::Slice(slice) => Cow::Borrowed(slice),
            Repr::Chunks { chunks, .. } => match chunks.as_slice() {
                [] => Cow::Borrowed(&[]),
                [chunk] => Cow::Borrowed(chunk),
                chunks => Cow::Owned(chunks.concat()),
            },
        }
    }

    /// All bytes in one piece that shares the memory of `frame`, from which they were decoded.
    ///
    /// # Panics
    /// If the records were decoded from another frame.
    pub fn share(&self, frame: &Bytes) -> Bytes {
        match &self.0 {
            Repr::Slice(slice) => frame.slice_ref(slice),
            Repr::Chunks { chunks, .. } => match chunks.as_slice() {
                [chunk] => chunk.clone(),
                chunks => chunks.concat().into(),
            },
        }
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Self(Repr::Slice(&[]))
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(slice: &'a [u8]) -> Self {
        Self(Repr::Slice(slice))
    }
}

impl From<Bytes> for Records<'_> {
    fn from(chunk: Bytes) -> Self {
        Self::from_chunks(vec![chunk])
    }
}

impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.contiguous() == other.contiguous()
    }
}

impl Eq for Records<'_> {}

/// Says how long the records are, not what they hold: a log line must not carry payload.
impl fmt::Debug for Records<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Records({} bytes)", self.len())
    }
}
