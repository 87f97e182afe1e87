//! The memory that the records of responses hold until their peer takes them, all connections together.
//!
//! A fetch reads no more than it could lease; a smaller answer is always legal. When there is next to nothing
//! left it waits, so that peers that ask and don't read cost those that do their time, and nobody the memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT_BYTES: usize = 1024;
/// One response's part of the budget.
const SHARE_DIVISOR: usize = 4;
/// What is worth waiting for.
const LEASE_BYTES_MIN: usize = 1024 * 1024;

#[derive(Clone)]
pub(crate) struct ResponseBudget {
    units: Arc<Semaphore>,
    share_units: usize,
}

impl ResponseBudget {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let units = units_of(budget_bytes).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), share_units: (units / SHARE_DIVISOR).max(1) }
    }

    /// Up to `bytes_max`, as much as is free; waits for a little.
    pub(crate) async fn lease(&self, bytes_max: usize) -> ResponseLease {
        let wanted = units_of(bytes_max).min(self.share_units);
        let enough = wanted.min(units_of(LEASE_BYTES_MIN));
        let free = self.units.available_permits().clamp(enough, wanted);
        let held = match Arc::clone(&self.units).try_acquire_many_owned(permits(free)) {
            Ok(held) => held,
            // Somebody was quicker, or there is too little.
            Err(_) => {
                let held = Arc::clone(&self.units).acquire_many_owned(permits(enough)).await;
                held.expect("the budget's semaphore is never closed")
            }
        };
        ResponseLease { held }
    }
}

/// What one response may hold.
pub(crate) struct ResponseLease {
    held: OwnedSemaphorePermit,
}

impl ResponseLease {
    pub(crate) fn bytes(&self) -> usize {
        self.held.num_permits() * UNIT_BYTES
    }

    /// The bytes, which hold the lease from now on, less what is beyond `response_bytes`.
    pub(crate) fn attach_to(mut self, bytes: Bytes, response_bytes: usize) -> Bytes {
        let beyond = self.held.num_permits().saturating_sub(units_of(response_bytes));
        drop(self.held.split(beyond));
        Bytes::from_owner(Leased { bytes, _held: self.held })
    }
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

fn permits(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}

struct Leased {
    bytes: Bytes,
    _held: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const MIB: usize = 1024 * 1024;

    #[tokio::test]
    async fn responses_get_what_is_left_and_wait_for_a_little() {
        let budget = ResponseBudget::new(12 * MIB);
        let mut leases = Vec::new();
        for expected in [3 * MIB; 3] {
            leases.push(budget.lease(50 * MIB).await);
            assert_eq!(leases.last().unwrap().bytes(), expected, "a quarter is one response's");
        }
        leases.push(budget.lease(2 * MIB).await);
        leases.push(budget.lease(2 * MIB).await);
        assert_eq!(leases.last().unwrap().bytes(), MIB, "what is left");
        assert!(budget.lease(2 * MIB).now_or_never().is_none());
        assert!(budget.lease(1).now_or_never().is_none());
        leases.pop();
        assert_eq!(budget.lease(10).await.bytes(), UNIT_BYTES);
    }

    #[tokio::test]
    async fn a_response_holds_what_it_has_until_it_is_taken() {
        let budget = ResponseBudget::new(4 * MIB);
        let lease = budget.lease(MIB).await;
        let last_chunk = lease.attach_to(Bytes::from_static(b"end"), 10 * UNIT_BYTES);
        assert_eq!(last_chunk, b"end"[..]);
        let free = || budget.units.available_permits() * UNIT_BYTES;
        assert_eq!(free(), 4 * MIB - 10 * UNIT_BYTES);
        drop(last_chunk);
        assert_eq!(free(), 4 * MIB);
    }
}
