//! What one plugin of a pipeline may have of the node's places, over all of its instances and their lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

/// Requests at a time of one plugin. Four plugins that use all of theirs leave nothing to others, for as long as an
/// exchange may take.
const REQUESTS_MAX: usize = 16;
/// Look-ups at a time: a plugin whose names are never found takes these from the others, and no more.
const LOOKUPS_MAX: usize = 2;

/// Kept by whoever uses a part of it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(super) places: Arc<Semaphore>,
    pub(super) lookups: Arc<Semaphore>,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }
}

/// The shares that somebody uses, by pipeline and plugin.
#[derive(Clone, Default)]
pub(super) struct Shares(Arc<Mutex<ByPlugin>>);

/// By pipeline and plugin.
type ByPlugin = BTreeMap<(String, String), Weak<Share>>;

impl Shares {
    pub(super) fn of(&self, pipeline: &str, plugin: &str) -> Arc<Share> {
        let mut shares = self.0.lock().expect("no code panics while it holds this lock");
        shares.retain(|_, share| share.strong_count() > 0);
        let share = shares.entry((pipeline.to_owned(), plugin.to_owned())).or_default();
        share.upgrade().unwrap_or_else(|| {
            let made = Arc::default();
            *share = Arc::downgrade(&made);
            made
        })
    }
}
