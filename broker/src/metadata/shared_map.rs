//! A map whose copies share what they have in common.
//!
//! A new image is made for every batch of commands, out of maps that may hold 100,000 topics. A fixed fan-out of
//! sorted maps behind `Arc`s copies one shard (some hundred entries) and 256 pointers per change, and tells which
//! shards two copies share, so that a reader finds what changed without walking the rest. That is all of a
//! persistent map that is needed here, without a dependency and its unsafe code.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

const SHARDS: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct SharedMap<K, V> {
    shards: Arc<[Arc<BTreeMap<K, V>>]>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(BTreeMap::new());
        Self { shards: std::iter::repeat_n(empty, SHARDS).collect(), len: 0 }
    }
}

impl<K: Ord + Hash + Clone, V: Clone> SharedMap<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[shard(key)].get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let shard = shard(&key);
        if self.shard_mut(shard).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if self.shard_mut(shard(key)).remove(key).is_some() {
            self.len -= 1;
        }
    }

    /// Every entry, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The shards of `self` and `other` that are not shared, pairwise.
    pub(super) fn unshared<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a BTreeMap<K, V>, &'a BTreeMap<K, V>)> {
        let pairs = self.shards.iter().zip(other.shards.iter());
        pairs.filter(|(ours, theirs)| !Arc::ptr_eq(ours, theirs)).map(|(ours, theirs)| (&**ours, &**theirs))
    }

    fn shard_mut(&mut self, shard: usize) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard])
    }
}

/// `str` and the names that borrow as it must agree, which `Borrow` promises of `Hash`.
fn shard<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_what_did_not_change() {
        let mut map = SharedMap::default();
        for n in 0..10_000u32 {
            map.insert(n, n);
        }
        let old = map.clone();
        assert_eq!(map.unshared(&old).count(), 0);
        map.insert(7, 8);
        map.remove(&9);
        map.remove(&10_000);
        assert_eq!((map.get(&7), map.get(&9), map.len()), (Some(&8), None, 9_999));
        assert_eq!((old.get(&7), old.get(&9), old.len()), (Some(&7), Some(&9), 10_000));
        assert!((1..=3).contains(&map.unshared(&old).count()));
        assert_eq!(map.iter().count(), 9_999);
    }
}
