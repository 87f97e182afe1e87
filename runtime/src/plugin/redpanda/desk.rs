//! Where the host and a guest that waits for it hand each other batches.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;

use super::job::Job;

/// See the module. Its owner polls the guest after each offer, so that nobody has to be woken.
#[derive(Default)]
pub(super) struct Desk {
    slot: Mutex<Slot>,
    /// The linear memory that the guest had when it came.
    memory_bytes: AtomicU64,
}

#[derive(Default)]
enum Slot {
    /// The guest has not come yet, or is at work.
    #[default]
    Away,
    /// It waits for a batch, and has put down the one before.
    Waiting(Option<Box<Job>>),
    /// The host has put down a batch.
    Offered(Box<Job>),
}

impl Desk {
    pub(super) fn offer(&self, job: Box<Job>) {
        *self.lock() = Slot::Offered(job);
    }

    /// What the guest has put down, if it waits.
    pub(super) fn collect(&self) -> Option<Option<Box<Job>>> {
        match &mut *self.lock() {
            Slot::Waiting(done) => Some(done.take()),
            Slot::Away | Slot::Offered(_) => None,
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// The guest's side: puts down what it is done with, and waits for the next batch.
    pub(super) async fn next(&self, done: Option<Box<Job>>, memory_bytes: u64) -> Box<Job> {
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        *self.lock() = Slot::Waiting(done);
        let take = |slot: &mut Slot| match std::mem::take(slot) {
            Slot::Offered(job) => Poll::Ready(job),
            other => {
                *slot = other;
                Poll::Pending
            }
        };
        poll_fn(|_| take(&mut self.lock())).await
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no code panics while it holds this lock")
    }
}
