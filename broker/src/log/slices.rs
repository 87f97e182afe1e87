//! Parts of shared buffers, joined where they touch.

use std::ops::Range;

use bytes::Bytes;

/// Slices in order. Batches that lie end to end in one buffer become one slice.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    slices: Vec<(Bytes, Range<usize>)>,
}

impl Slices {
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    pub(crate) fn push(&mut self, buffer: &Bytes, range: Range<usize>) {
        if let Some((last, joined)) = self.slices.last_mut()
            && last.as_ptr() == buffer.as_ptr()
            && joined.end == range.start
        {
            joined.end = range.end;
            return;
        }
        self.slices.push((buffer.clone(), range));
    }

    /// A mark to go back to with [`Slices::rewind`].
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.slices.len(), self.slices.last().map_or(0, |(_, range)| range.end))
    }

    pub(crate) fn rewind(&mut self, (count, end): (usize, usize)) {
        self.slices.truncate(count);
        if let Some((_, last)) = self.slices.last_mut() {
            last.end = end;
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<Bytes> {
        self.slices.into_iter().map(|(buffer, range)| buffer.slice(range)).collect()
    }
}
