//! The memory that requests on the way may hold, all connections together.
//!
//! A frame leases its bytes as they arrive, not as they are declared, so that a client takes no memory by
//! announcing a length. It gives them back when the last slice of it is gone: a Produce's batches are on their
//! way to the disk after it was answered, if it asked for no acknowledgement or ran out of time.
//!
//! Nobody may keep the others out:
//! - A connection holds a part of the budget at most, its [`Share`], and reads no further until it is given back.
//! - Leasing in steps could leave every connection with half a frame and none of them able to finish; so one
//!   frame at a time may overdraw the budget and run to its end.
//! - What keeps a client in its group must not wait for producers: one small frame of a connection at a time
//!   needs no lease, unless it is a Produce.
//!
//! What requests can hold is therefore bounded by the budget, one frame of the maximum size, and a small frame
//! for each connection.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit: a semaphore counts in `u32`, and nobody needs single bytes.
const UNIT_BYTES: usize = 1024;
/// A connection's part of the budget.
const SHARE_DIVISOR: usize = 4;

#[derive(Clone)]
pub(crate) struct RequestBudget {
    units: Arc<Semaphore>,
    overdraft: Arc<Semaphore>,
    share_units: usize,
}

impl RequestBudget {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        let units = units_of(budget_bytes).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(units)),
            overdraft: Arc::new(Semaphore::new(1)),
            share_units: (units / SHARE_DIVISOR).max(1),
        }
    }

    /// What a new connection may hold.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            units: Arc::new(Semaphore::new(self.share_units)),
            small: Arc::new(Semaphore::new(1)),
        }
    }
}

/// One connection's part.
pub(crate) struct Share {
    budget: RequestBudget,
    units: Arc<Semaphore>,
    /// Whether a small frame is on the way for free.
    small: Arc<Semaphore>,
}

impl Share {
    pub(crate) fn lease(&self) -> Lease {
        Lease::Counted(Counted {
            budget: self.budget.clone(),
            share: Arc::clone(&self.units),
            held_of_share: None,
            held: None,
            overdraft: None,
            units: 0,
        })
    }

    /// For a small frame: free, unless the connection has one on the way.
    pub(crate) fn lease_small(&self) -> Lease {
        match Arc::clone(&self.small).try_acquire_owned() {
            Ok(place) => Lease::Free { _place: place },
            Err(_) => self.lease(),
        }
    }
}

/// What one frame holds of the budget; given back when dropped.
pub(crate) enum Lease {
    Free { _place: OwnedSemaphorePermit },
    Counted(Counted),
}

pub(crate) struct Counted {
    budget: RequestBudget,
    share: Arc<Semaphore>,
    held_of_share: Option<OwnedSemaphorePermit>,
    held: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedSemaphorePermit>,
    /// Held or covered by the overdraft.
    units: usize,
}

impl Lease {
    /// Waits until this lease covers `bytes`.
    pub(crate) async fn grow_to(&mut self, bytes: usize) {
        if let Self::Counted(counted) = self {
            counted.grow_to(units_of(bytes)).await;
        }
    }

    /// The bytes, which hold the lease from now on.
    pub(crate) fn attach_to(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Leased { bytes, _lease: self })
    }
}

impl Counted {
    async fn grow_to(&mut self, wanted: usize) {
        if wanted <= self.units {
            return;
        }
        // A frame larger than the share waits until it is the connection's only one.
        let limit = self.budget.share_units;
        let more_of_share = wanted.min(limit) - self.units.min(limit);
        acquire(&self.share, more_of_share, &mut self.held_of_share).await;
        let more = wanted - self.units;
        self.units = wanted;
        if self.overdraft.is_some() {
            return;
        }
        tokio::select! {
            biased;
            () = acquire(&self.budget.units, more, &mut self.held) => {}
            permit = Arc::clone(&self.budget.overdraft).acquire_owned() => {
                self.overdraft = Some(permit.expect("the budget's semaphore is never closed"));
            }
        }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, units: usize, held: &mut Option<OwnedSemaphorePermit>) {
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    let permit = Arc::clone(semaphore).acquire_many_owned(units).await;
    let permit = permit.expect("the budget's semaphore is never closed");
    match held {
        Some(held) => held.merge(permit),
        None => *held = Some(permit),
    }
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

/// Bytes and what they hold of the budget.
struct Leased {
    bytes: Bytes,
    _lease: Lease,
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

    const KIB: usize = 1024;

    #[tokio::test]
    async fn a_second_frame_waits_and_the_first_can_always_finish() {
        let budget = RequestBudget::new(64 * KIB);
        let shares: Vec<Share> = (0..5).map(|_| budget.share()).collect();
        let mut leases: Vec<Lease> = shares.iter().map(Share::lease).collect();
        for lease in &mut leases[..4] {
            lease.grow_to(15 * KIB).await;
        }
        // The next doesn't fit: one of them overdraws and can go on to any size, the others wait for memory.
        leases[0].grow_to(100 * KIB).await;
        leases[0].grow_to(100 * KIB * KIB).await;
        assert!(leases[1].grow_to(60 * KIB).now_or_never().is_none());
        assert!(leases[4].grow_to(10 * KIB).now_or_never().is_none());
        drop(leases.remove(0));
        leases.last_mut().unwrap().grow_to(10 * KIB).await;
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_budget_is_served() {
        let share = RequestBudget::new(KIB).share();
        share.lease().grow_to(KIB * KIB).await;
        share.lease().grow_to(KIB * KIB).await;
    }

    #[tokio::test]
    async fn a_connection_leaves_room_for_the_others() {
        let budget = RequestBudget::new(64 * KIB);
        let (greedy, other) = (budget.share(), budget.share());
        let mut first = greedy.lease();
        first.grow_to(10 * KIB).await;
        let mut second = greedy.lease();
        assert!(second.grow_to(7 * KIB).now_or_never().is_none(), "a quarter is a connection's");
        assert!(second.grow_to(KIB * KIB).now_or_never().is_none(), "nor does it overdraw beside the first");
        other.lease().grow_to(16 * KIB).await;
        drop(first);
        second.grow_to(7 * KIB).await;
    }

    #[tokio::test]
    async fn a_small_frame_waits_for_nobody() {
        let budget = RequestBudget::new(64 * KIB);
        let shares: Vec<Share> = (0..5).map(|_| budget.share()).collect();
        let mut leases: Vec<Lease> = shares.iter().map(Share::lease).collect();
        for lease in &mut leases {
            // The last overdraws.
            lease.grow_to(16 * KIB).await;
        }
        let free = |share: &Share| {
            let mut lease = share.lease_small();
            let is_free = lease.grow_to(KIB).now_or_never().is_some();
            (lease, is_free)
        };
        let share = budget.share();
        let (first, is_free) = free(&share);
        assert!(is_free);
        assert!(!free(&share).1, "one at a time");
        drop(first);
        assert!(free(&share).1);
    }

    #[tokio::test]
    async fn what_is_left_of_a_frame_holds_its_lease() {
        let share = RequestBudget::new(64 * KIB).share();
        let mut lease = share.lease();
        lease.grow_to(16 * KIB).await;
        let frame = lease.attach_to(Bytes::from_static(&[7; 100]));
        let part = frame.slice(10..20);
        drop(frame);
        assert!(share.lease().grow_to(KIB).now_or_never().is_none());
        assert_eq!(part, [7; 10][..]);
        drop(part);
        share.lease().grow_to(KIB).await;
    }
}
