//! What views have made of batches, so that readers of one view pay once: those who come at the same time wait for one
//! call of the hook, those who come later find what it gave. Under a budget of bytes; the longest unused goes first.
//!
//! A result is found by the view, by the version of what made it, and by the batch's place and checksum. So nothing
//! has to be thrown away when a plugin is swapped or a batch is compacted: it is not asked for any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

use crate::hooks::ViewError;
use crate::ids::{PartitionIndex, TopicId};

/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ViewKey {
    pub(super) view: TopicId,
    pub(super) version: u64,
    pub(super) partition: PartitionIndex,
    pub(super) base_offset: i64,
    pub(super) crc: u32,
}

/// What readers get of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    AsStored,
    Rewritten(Bytes),
}

pub(super) type Showing = Result<Shown, ViewError>;

#[derive(Clone)]
pub(super) struct ViewCache {
    budget_bytes: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: HashMap<ViewKey, Entry>,
    /// When each was used last -> which. Only what is known is here.
    by_use: BTreeMap<u64, ViewKey>,
    uses: u64,
    bytes: usize,
}

enum Entry {
    /// Somebody has asked the hook.
    Coming(watch::Receiver<Option<Showing>>),
    Known {
        shown: Shown,
        used: u64,
    },
}

/// What the cache says to a question.
pub(super) enum Found {
    Known(Shown),
    Coming(Coming),
    /// Whoever gets this asks the hook.
    Missing(Asking, Coming),
}

/// The wait for an answer.
pub(super) struct Coming(watch::Receiver<Option<Showing>>);

/// Who asks the hook. Dropping it without an answer lets the next one ask.
pub(super) struct Asking {
    cache: ViewCache,
    key: ViewKey,
    answer: watch::Sender<Option<Showing>>,
}

impl ViewCache {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, state: Arc::default() }
    }

    pub(super) fn find(&self, key: ViewKey) -> Found {
        let mut guard = self.state();
        let state = &mut *guard;
        match state.entries.get_mut(&key) {
            Some(Entry::Coming(coming)) => Found::Coming(Coming(coming.clone())),
            Some(Entry::Known { shown, used }) => {
                state.uses += 1;
                state.by_use.remove(used);
                state.by_use.insert(state.uses, key);
                *used = state.uses;
                Found::Known(shown.clone())
            }
            None => {
                let (answer, coming) = watch::channel(None);
                state.entries.insert(key, Entry::Coming(coming.clone()));
                Found::Missing(Asking { cache: self.clone(), key, answer }, Coming(coming))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("an invariant broke under this lock; its state can't be trusted")
    }
}

impl Asking {
    /// Tells those who wait; what can be shown is remembered.
    pub(super) fn answer(self, showing: Showing) {
        if let Ok(shown) = &showing {
            self.cache.state().remember(self.key, shown.clone(), self.cache.budget_bytes);
        }
        self.answer.send_replace(Some(showing));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        if let Some(Entry::Coming(_)) = state.entries.get(&self.key) {
            state.entries.remove(&self.key);
        }
    }
}

impl Coming {
    /// `None` if whoever asked has given up.
    pub(super) async fn answer(mut self) -> Option<Showing> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl Shown {
    fn bytes(&self) -> usize {
        match self {
            Self::AsStored => ENTRY_BYTES,
            Self::Rewritten(bytes) => ENTRY_BYTES + bytes.len(),
        }
    }
}

impl State {
    fn remember(&mut self, key: ViewKey, shown: Shown, budget_bytes: usize) {
        self.uses += 1;
        self.bytes += shown.bytes();
        self.by_use.insert(self.uses, key);
        self.entries.insert(key, Entry::Known { shown, used: self.uses });
        while self.bytes > budget_bytes
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            if let Some(Entry::Known { shown, .. }) = self.entries.remove(&oldest) {
                self.bytes -= shown.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use uuid::Uuid;

    fn key(base_offset: i64) -> ViewKey {
        let view = TopicId(Uuid::from_u128(1));
        ViewKey { view, version: 1, partition: PartitionIndex(0), base_offset, crc: 7 }
    }

    fn rewritten(byte: u8) -> Shown {
        Shown::Rewritten(Bytes::from(vec![byte; 1000]))
    }

    fn ask(cache: &ViewCache, key: ViewKey) -> Asking {
        match cache.find(key) {
            Found::Missing(asking, _) => asking,
            Found::Known(_) | Found::Coming(_) => panic!("somebody has asked"),
        }
    }

    fn known(cache: &ViewCache, key: ViewKey) -> Option<Shown> {
        match cache.find(key) {
            Found::Known(shown) => Some(shown),
            Found::Coming(_) | Found::Missing(..) => None,
        }
    }

    #[test]
    fn one_asks_and_all_get_the_answer() {
        let cache = ViewCache::new(1 << 20);
        let asking = ask(&cache, key(0));
        let waiting: Vec<_> = (0..3)
            .map(|_| match cache.find(key(0)) {
                Found::Coming(coming) => coming,
                Found::Known(_) | Found::Missing(..) => panic!("it is on its way"),
            })
            .collect();
        asking.answer(Ok(rewritten(1)));
        for coming in waiting {
            assert_eq!(coming.answer().now_or_never(), Some(Some(Ok(rewritten(1)))));
        }
        assert_eq!(known(&cache, key(0)), Some(rewritten(1)));
        drop(ask(&cache, ViewKey { version: 2, ..key(0) }));
        drop(ask(&cache, ViewKey { crc: 8, ..key(0) }));
        assert_eq!(cache.state().entries.len(), 1);
    }

    #[test]
    fn an_error_is_told_and_not_remembered() {
        let cache = ViewCache::new(1 << 20);
        let asking = ask(&cache, key(0));
        let Found::Coming(coming) = cache.find(key(0)) else { panic!("it is on its way") };
        let error = ViewError::Failed("trap".to_owned());
        asking.answer(Err(error.clone()));
        assert_eq!(coming.answer().now_or_never(), Some(Some(Err(error))));
        let asking = ask(&cache, key(0));
        let Found::Coming(coming) = cache.find(key(0)) else { panic!("it is on its way") };
        drop(asking);
        assert_eq!(coming.answer().now_or_never(), Some(None));
        ask(&cache, key(0)).answer(Ok(Shown::AsStored));
        assert_eq!(known(&cache, key(0)), Some(Shown::AsStored));
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let cache = ViewCache::new(2 * (1000 + ENTRY_BYTES));
        for at in [0, 1] {
            ask(&cache, key(at)).answer(Ok(rewritten(1)));
        }
        assert!(known(&cache, key(0)).is_some());
        ask(&cache, key(2)).answer(Ok(rewritten(1)));
        assert!(known(&cache, key(1)).is_none());
        assert!(known(&cache, key(0)).is_some() && known(&cache, key(2)).is_some());
        let nothing = ViewCache::new(0);
        ask(&nothing, key(0)).answer(Ok(rewritten(1)));
        let state = nothing.state();
        assert!(state.entries.is_empty() && state.by_use.is_empty() && state.bytes == 0);
    }
}
