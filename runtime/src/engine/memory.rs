//! The memory of all plugins together: what each may have is its own limit, and a few hundred of those are more than a
//! machine has. A part is kept for instances that start, beyond what those that work may have: to deploy another version
//! is how one gets rid of what has taken everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kept for those that start, of the whole.
const KEPT: u64 = 8;

/// Shared by all instances of an engine.
pub(crate) struct MemoryBudget {
    bytes: AtomicU64,
    bytes_max: u64,
}

impl MemoryBudget {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), bytes_max })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// True if there is so much left, which is taken then.
    pub(crate) fn take(&self, bytes: u64, is_starting: bool) -> bool {
        let kept = if is_starting { self.bytes_max / KEPT } else { 0 };
        let most = self.bytes_max.saturating_add(kept);
        let taken = |now: u64| now.checked_add(bytes).filter(|&total| total <= most);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
