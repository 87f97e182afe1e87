//! Fetches that wait for a partition to grow (Kafka's DelayedFetch).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Below this many entries a list isn't worth pruning.
const PRUNE_MIN: usize = 32;

/// One waiting fetch, registered with each of its partitions; the first that changes wakes it.
#[derive(Debug, Default)]
pub struct FetchWaiter {
    changed: Notify,
    gone: AtomicBool,
}

impl FetchWaiter {
    /// Waits for the next change since the last wait; changes in between aren't lost.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// The fetch's end of a [`FetchWaiter`]: dropping it tells the partitions to forget the waiter.
#[derive(Debug, Default)]
pub struct FetchWait(pub Arc<FetchWaiter>);

impl Drop for FetchWait {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}

/// The waiters of one partition. A fetch over many partitions is woken by one of them and stays in the lists
/// of the others; those forget it when their list has doubled.
#[derive(Debug, Default)]
pub(super) struct FetchWaiters {
    waiters: Vec<Arc<FetchWaiter>>,
    prune_at: usize,
}

impl FetchWaiters {
    pub(super) fn register(&mut self, waiter: &Arc<FetchWaiter>) {
        if self.waiters.len() >= self.prune_at.max(PRUNE_MIN) {
            self.waiters.retain(|waiter| !waiter.gone.load(Ordering::Acquire));
            self.prune_at = self.waiters.len() * 2;
        }
        // A fetch that another partition woke registers everywhere again.
        if !self.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            self.waiters.push(Arc::clone(waiter));
        }
    }

    /// Wakes and forgets all; a fetch that goes on waiting registers again.
    pub(super) fn wake_all(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_lost() {
        let wait = FetchWait::default();
        let mut waiters = FetchWaiters::default();
        waiters.register(&wait.0);
        assert!(wait.0.changed().now_or_never().is_none());
        waiters.wake_all();
        assert!(wait.0.changed().now_or_never().is_some());
        waiters.wake_all();
        assert!(wait.0.changed().now_or_never().is_none());
    }

    #[test]
    fn waiters_that_left_are_forgotten() {
        let mut waiters = FetchWaiters::default();
        for _ in 0..10_000 {
            waiters.register(&FetchWait::default().0);
        }
        assert!(waiters.waiters.len() <= PRUNE_MIN);
    }
}
