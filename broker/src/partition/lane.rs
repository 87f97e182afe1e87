//! The order of batches that are not appended as they come: each takes a turn when it comes, and waits for those
//! before it when it is ready.
//!
//! A synchronous state machine behind a lock. A [`Turn`] that is dropped has been had, whatever became of it, so that
//! nobody waits for ever; and it lets nobody past those before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

#[derive(Debug, Clone, Default)]
pub(crate) struct Lane(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number of the next turn to be given out.
    next: u64,
    /// The lowest number whose turn is not over: all below it are.
    current: u64,
    /// Those that are over, although one before them isn't.
    over: BTreeSet<u64>,
    /// Those that are ready.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place in a [`Lane`].
#[derive(Debug)]
pub(crate) struct Turn {
    lane: Lane,
    number: u64,
}

impl Lane {
    pub(crate) fn enter(&self) -> Turn {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        Turn { lane: self.clone(), number }
    }

    /// Whether nobody is in it, so that whoever comes now may go on at once.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.current == state.next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("an invariant broke under this lock; its state can't be trusted")
    }
}

impl Turn {
    /// Waits until all turns before this one are over.
    pub(crate) async fn come(&self) {
        let come = {
            let mut state = self.lane.state();
            if state.current == self.number {
                return;
            }
            let (sender, come) = oneshot::channel();
            state.waiting.insert(self.number, sender);
            come
        };
        // The sender is dropped by another call of this only.
        let _ = come.await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut guard = self.lane.state();
        let state = &mut *guard;
        state.waiting.remove(&self.number);
        state.over.insert(self.number);
        while state.over.remove(&state.current) {
            state.current += 1;
        }
        if let Some(next) = state.waiting.remove(&state.current) {
            // It may have given up; then its turn is over in a moment.
            let _ = next.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn turns_come_in_order_whoever_is_ready_first() {
        let lane = Lane::default();
        assert!(lane.is_idle());
        let (first, second, third) = (lane.enter(), lane.enter(), lane.enter());
        assert!(!lane.is_idle());
        let mut third_come = Box::pin(third.come());
        let mut second_come = Box::pin(second.come());
        assert_eq!((&mut third_come).now_or_never(), None);
        assert_eq!((&mut second_come).now_or_never(), None);
        assert_eq!(first.come().now_or_never(), Some(()));
        drop(first);
        assert_eq!((&mut third_come).now_or_never(), None);
        assert_eq!(second_come.as_mut().now_or_never(), Some(()));
        drop(second_come);
        drop(second);
        assert_eq!(third_come.as_mut().now_or_never(), Some(()));
        drop(third_come);
        drop(third);
        assert!(lane.is_idle());
        assert_eq!(lane.enter().come().now_or_never(), Some(()));
    }

    /// One whose task panicked, or was given up, must neither hold up the others nor let them past those before it.
    #[test]
    fn a_turn_that_is_given_up_lets_nobody_past() {
        let lane = Lane::default();
        let (first, second, third) = (lane.enter(), lane.enter(), lane.enter());
        assert_eq!(second.come().now_or_never(), None);
        drop(second);
        assert_eq!(third.come().now_or_never(), None);
        drop(first);
        assert_eq!(third.come().now_or_never(), Some(()));
        drop(third);
        assert!(lane.is_idle());
    }
}
