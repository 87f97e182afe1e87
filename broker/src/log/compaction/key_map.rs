//! Keys and the offset of the last record of each, in memory of a known size: a key counts by its hash.
//!
//! The hash is SHA-256, cut to 128 bits, as keys are chosen by clients: two keys of one hash would be taken for
//! one, and the record of the first would go.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// What a key takes, with what a hash map leaves empty.
const KEY_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct KeyMap {
    offsets: HashMap<u128, i64>,
    keys_max: usize,
}

impl KeyMap {
    /// Keys that so much memory has room for.
    pub(super) fn keys_in(bytes: usize) -> usize {
        (bytes / KEY_BYTES).max(1)
    }

    pub(super) fn new(keys_max: usize) -> Self {
        Self { offsets: HashMap::new(), keys_max }
    }

    /// Offsets ascend. False if there is no room for another key.
    pub(super) fn insert(&mut self, key: &[u8], offset: i64) -> bool {
        let has_room = self.offsets.len() < self.keys_max;
        match self.offsets.entry(hash(key)) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                known.insert(offset);
                true
            }
            std::collections::hash_map::Entry::Vacant(place) if has_room => {
                place.insert(offset);
                true
            }
            std::collections::hash_map::Entry::Vacant(_) => false,
        }
    }

    /// Whether there is a record of the key after `offset`.
    pub(super) fn supersedes(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&hash(key)).is_some_and(|&last| last > offset)
    }
}

fn hash(key: &[u8]) -> u128 {
    let digest = Sha256::digest(key);
    let (half, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u128::from_le_bytes(*half)
}

#[cfg(test)]
mod tests {
    use super::KeyMap;

    #[test]
    fn the_last_offset_of_each_key_counts_as_long_as_there_is_room() {
        let mut map = KeyMap::new(2);
        assert!(map.insert(b"a", 1) && map.insert(b"", 2) && map.insert(b"a", 3));
        assert!(!map.insert(b"b", 4), "a third key");
        assert!(map.insert(b"a", 5));
        assert!(map.supersedes(b"a", 4) && !map.supersedes(b"a", 5));
        assert!(map.supersedes(b"", 1) && !map.supersedes(b"b", 0));
    }
}
