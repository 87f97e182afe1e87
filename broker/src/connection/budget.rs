//! The memory that requests on the way may hold, all connections together.
//!
//! A frame leases its bytes as they arrive, not as they are declared, so that a client takes no memory by
//! announcing a length. Leasing in steps could leave every connection with half a frame and none of them able
//! to finish; so one frame at a time may overdraw the budget and run to its end. What requests can hold is
//! therefore bounded by the budget plus one frame of the maximum size.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit: a semaphore counts in `u32`, and nobody needs single bytes.
const UNIT_BYTES: usize = 1024;

#[derive(Clone)]
pub(crate) struct RequestBudget {
    units: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
}

impl RequestBudget {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let units = budget_bytes.div_ceil(UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), overdraft: Arc::new(Semaphore::new(1)) }
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease { budget: self.clone(), held: None, overdraft: None, units: 0 }
    }
}

/// What one frame holds of the budget; given back when dropped.
pub(crate) struct Lease {
    budget: RequestBudget,
    held: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedSemaphorePermit>,
    /// Held or covered by the overdraft.
    units: usize,
}

impl Lease {
    /// Waits until this lease covers `bytes`.
    pub(crate) async fn grow_to(&mut self, bytes: usize) {
        let wanted = bytes.div_ceil(UNIT_BYTES);
        if wanted <= self.units {
            return;
        }
        let more = wanted - self.units;
        self.units = wanted;
        if self.overdraft.is_some() {
            return;
        }
        let step = u32::try_from(more).unwrap_or(u32::MAX);
        tokio::select! {
            biased;
            permit = Arc::clone(&self.budget.units).acquire_many_owned(step) => {
                let permit = permit.expect("the budget's semaphore is never closed");
                match &mut self.held {
                    Some(held) => held.merge(permit),
                    None => self.held = Some(permit),
                }
            }
            permit = Arc::clone(&self.budget.overdraft).acquire_owned() => {
                self.overdraft = Some(permit.expect("the budget's semaphore is never closed"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_second_frame_waits_and_the_first_can_always_finish() {
        let budget = RequestBudget::new(64 * 1024);
        let mut a = budget.lease();
        let mut b = budget.lease();
        let mut c = budget.lease();
        a.grow_to(40 * 1024).await;
        b.grow_to(20 * 1024).await;
        // Neither fits: one of them overdraws and can go on to any size, the next one waits for memory.
        a.grow_to(100 * 1024).await;
        a.grow_to(100 * 1024 * 1024).await;
        assert!(b.grow_to(60 * 1024).now_or_never().is_none());
        assert!(c.grow_to(10 * 1024).now_or_never().is_none());
        drop(a);
        c.grow_to(10 * 1024).await;
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_budget_is_served() {
        let budget = RequestBudget::new(1024);
        budget.lease().grow_to(1024 * 1024).await;
        budget.lease().grow_to(1024 * 1024).await;
    }
}
