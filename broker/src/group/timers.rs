//! Deadlines by key, kept in order: the pure core's only notion of time to come.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// At most one deadline per key. Deadlines that fall together fire in the order they were set.
#[derive(Debug)]
pub(super) struct Timers<K> {
    by_deadline: BTreeMap<(Duration, u64), K>,
    by_key: HashMap<K, (Duration, u64)>,
    next_sequence: u64,
}

impl<K: Clone + Eq + Hash> Timers<K> {
    pub(super) fn new() -> Self {
        Self { by_deadline: BTreeMap::new(), by_key: HashMap::new(), next_sequence: 0 }
    }

    /// Sets the key's deadline, instead of the one it had.
    pub(super) fn set(&mut self, key: K, deadline: Duration) {
        let slot = (deadline, self.next_sequence);
        self.next_sequence += 1;
        if let Some(old) = self.by_key.insert(key.clone(), slot) {
            self.by_deadline.remove(&old);
        }
        self.by_deadline.insert(slot, key);
    }

    pub(super) fn cancel(&mut self, key: &K) {
        if let Some(slot) = self.by_key.remove(key) {
            self.by_deadline.remove(&slot);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes the earliest key whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<K> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, key) = self.by_deadline.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers<&'static str>, now_ms: u64) -> Vec<&'static str> {
        std::iter::from_fn(|| timers.pop_due(Duration::from_millis(now_ms))).collect()
    }

    #[test]
    fn fires_in_order_and_keeps_one_deadline_per_key() {
        let mut timers = Timers::new();
        for (key, ms) in [("b", 20), ("a", 10), ("c", 20), ("a", 30), ("d", 5)] {
            timers.set(key, Duration::from_millis(ms));
        }
        timers.cancel(&"d");
        timers.cancel(&"d");
        assert_eq!(timers.next_deadline(), Some(Duration::from_millis(20)));
        assert_eq!(due(&mut timers, 19), [""; 0]);
        assert_eq!(due(&mut timers, 20), ["b", "c"]);
        assert_eq!(due(&mut timers, 100), ["a"]);
        assert_eq!(timers.next_deadline(), None);
    }
}
