//! The bytes of the latest commits, as they were built: whoever reads the end of a log, which is
//! nearly everyone, reads from here and touches no disk.
//!
//! A ring in the order of the commits, under one budget for the log dir. Reading is slicing.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use super::segment::SegmentId;
use super::slices::Slices;

#[derive(Debug)]
pub(crate) struct TailCache {
    budget_bytes: usize,
    ring: RwLock<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Ascending by segment and position.
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    segment: SegmentId,
    position: u64,
    data: Bytes,
}

/// What a chunk costs beside its data: its place in the ring and the allocation's header. It keeps
/// many small commits within the budget.
const CHUNK_OVERHEAD_BYTES: usize = 128;

impl TailCache {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, ring: RwLock::default() }
    }

    /// Adds the bytes of a commit, and forgets the oldest beyond the budget.
    pub(crate) fn push(
        &self,
        segment: SegmentId,
        mut position: u64,
        chunks: impl IntoIterator<Item = Bytes>,
    ) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for data in chunks {
            let length = data.len();
            let after = ring.chunks.back().map(|last| (last.segment, last.position));
            assert!(after < Some((segment, position)), "commits come in order");
            ring.bytes += length + CHUNK_OVERHEAD_BYTES;
            ring.chunks.push_back(Chunk { segment, position, data });
            position += length as u64;
        }
        while ring.bytes > self.budget_bytes {
            let Some(oldest) = ring.chunks.pop_front() else { break };
            ring.bytes -= oldest.data.len() + CHUNK_OVERHEAD_BYTES;
        }
    }

    /// Appends the bytes from `position` on to `out`, if all of them are here.
    pub(crate) fn read(&self, segment: SegmentId, position: u64, length: usize, out: &mut Slices) -> bool {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let after =
            ring.chunks.partition_point(|chunk| (chunk.segment, chunk.position) <= (segment, position));
        let Some(first) = after.checked_sub(1) else { return false };
        let mark = out.mark();
        let (mut position, mut rest) = (position, length);
        for chunk in ring.chunks.range(first..) {
            let skip = position - chunk.position.min(position);
            if chunk.segment != segment || chunk.position > position || skip >= chunk.data.len() as u64 {
                break;
            }
            let skip = skip as usize;
            let take = rest.min(chunk.data.len() - skip);
            out.push(&chunk.data, skip..skip + take);
            position += take as u64;
            rest -= take;
            if rest == 0 {
                return true;
            }
        }
        out.rewind(mark);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SegmentId = SegmentId(1);
    const B: SegmentId = SegmentId(2);

    fn check(cache: &TailCache, segment: SegmentId, position: u64, length: usize, expected: Option<&[u8]>) {
        let mut out = Slices::default();
        let found = cache.read(segment, position, length, &mut out);
        assert!(found || out.is_empty(), "a miss leaves nothing behind");
        let out = found.then(|| out.into_bytes().concat());
        assert_eq!(out.as_deref(), expected, "{length} bytes at {position}");
    }

    #[test]
    fn reads_span_chunks_but_not_segments() {
        let cache = TailCache::new(10_000);
        cache.push(A, 0, [Bytes::from_static(b"abcd"), Bytes::from_static(b"efgh")]);
        cache.push(B, 0, [Bytes::from_static(b"ijkl")]);
        check(&cache, A, 1, 2, Some(b"bc"));
        check(&cache, A, 2, 6, Some(b"cdefgh"));
        check(&cache, A, 6, 4, None);
        check(&cache, A, 8, 1, None);
        check(&cache, B, 0, 4, Some(b"ijkl"));
    }

    #[test]
    fn the_oldest_go_first() {
        let cache = TailCache::new(2 * (4 + CHUNK_OVERHEAD_BYTES));
        for commit in 0..5u8 {
            cache.push(A, u64::from(commit) * 4, [Bytes::from(vec![commit; 4])]);
        }
        check(&cache, A, 8, 4, None);
        check(&cache, A, 12, 8, Some(&[3, 3, 3, 3, 4, 4, 4, 4]));
    }
}
