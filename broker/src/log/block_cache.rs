//! Pieces lately read from disk: consumers that lag behind move through the same commits, each for
//! its own partitions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::segment::{BlockPiece, SegmentId};

#[derive(Debug)]
pub(crate) struct BlockCache {
    budget_bytes: usize,
    pieces: Mutex<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    by_position: BTreeMap<(SegmentId, u64), Piece>,
    /// When each was used last -> which.
    by_use: BTreeMap<u64, (SegmentId, u64)>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    data: Bytes,
    used: u64,
}

impl BlockCache {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, pieces: Mutex::default() }
    }

    /// The piece that holds the byte at `position`.
    pub(crate) fn get(&self, segment: SegmentId, position: u64) -> Option<BlockPiece> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let Pieces { by_position, by_use, uses, .. } = &mut *pieces;
        let (key, piece) = by_position.range_mut(..=(segment, position)).next_back()?;
        if key.0 != segment || position - key.1 >= piece.data.len() as u64 {
            return None;
        }
        *uses += 1;
        by_use.remove(&piece.used);
        by_use.insert(*uses, *key);
        piece.used = *uses;
        Some(BlockPiece { position: key.1, data: piece.data.clone() })
    }

    pub(crate) fn insert(&self, segment: SegmentId, piece: &BlockPiece) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = &mut *pieces;
        pieces.uses += 1;
        let key = (segment, piece.position);
        let cached = Piece { data: piece.data.clone(), used: pieces.uses };
        pieces.bytes += cached.data.len();
        if let Some(replaced) = pieces.by_position.insert(key, cached) {
            pieces.bytes -= replaced.data.len();
            pieces.by_use.remove(&replaced.used);
        }
        pieces.by_use.insert(pieces.uses, key);
        while pieces.bytes > self.budget_bytes {
            let Some((_, oldest)) = pieces.by_use.pop_first() else { break };
            if let Some(forgotten) = pieces.by_position.remove(&oldest) {
                pieces.bytes -= forgotten.data.len();
            }
        }
    }

    /// Lets go of a segment's pieces, which keep its file on the disk although it was removed.
    pub(crate) fn forget(&self, segment: SegmentId) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = &mut *pieces;
        let of_segment = pieces.by_position.range((segment, 0)..=(segment, u64::MAX));
        let keys: Vec<_> = of_segment.map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(forgotten) = pieces.by_position.remove(&key) {
                pieces.bytes -= forgotten.data.len();
                pieces.by_use.remove(&forgotten.used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(position: u64, byte: u8) -> BlockPiece {
        BlockPiece { position, data: Bytes::from(vec![byte; 10]) }
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let (segment, other) = (SegmentId(1), SegmentId(2));
        let cache = BlockCache::new(25);
        cache.insert(segment, &piece(0, b'a'));
        cache.insert(segment, &piece(10, b'b'));
        assert_eq!(cache.get(segment, 9).unwrap().data, vec![b'a'; 10]);
        assert!(cache.get(segment, 20).is_none());
        assert!(cache.get(other, 0).is_none());
        cache.insert(segment, &piece(20, b'c'));
        assert!(cache.get(segment, 15).is_none());
        assert_eq!(cache.get(segment, 0).unwrap().position, 0);
        assert_eq!(cache.get(segment, 29).unwrap().position, 20);
    }

    #[test]
    fn a_segment_can_be_forgotten() {
        let (segment, other) = (SegmentId(1), SegmentId(2));
        let cache = BlockCache::new(1000);
        for position in [0, 10, 20] {
            cache.insert(segment, &piece(position, b'a'));
            cache.insert(other, &piece(position, b'b'));
        }
        cache.forget(segment);
        assert!((0..30).all(|position| cache.get(segment, position).is_none()));
        assert_eq!(cache.get(other, 25).unwrap().data, vec![b'b'; 10]);
        assert_eq!(cache.pieces.lock().unwrap().bytes, 30);
    }
}
