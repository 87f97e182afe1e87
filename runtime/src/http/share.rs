//! What one plugin of a pipeline may have of the node's places, over all of its instances and their lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

/// Look-ups at a time: a plugin whose names are never found takes these from the others, and no more.
const LOOKUPS_MAX: usize = 2;

/// Kept by whoever uses a part of it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(super) places: Arc<Semaphore>,
    pub(super) lookups: Arc<Semaphore>,
}

impl Share {
    /// Of so many requests at a time.
    pub(super) fn new(requests_max: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(requests_max as usize)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }
}

/// The shares that somebody uses.
#[derive(Clone, Default)]
pub(super) struct Shares(Arc<Mutex<ByPlugin>>);

/// By pipeline, plugin and the limit that its version has.
type ByPlugin = BTreeMap<(String, String, u32), Weak<Share>>;

impl Shares {
    pub(super) fn of(&self, pipeline: &str, plugin: &str, requests_max: u32) -> Arc<Share> {
        let mut shares = self.0.lock().expect("no code panics while it holds this lock");
        shares.retain(|_, share| share.strong_count() > 0);
        let share = shares.entry((pipeline.to_owned(), plugin.to_owned(), requests_max)).or_default();
        share.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Share::new(requests_max));
            *share = Arc::downgrade(&made);
            made
        })
    }
}
