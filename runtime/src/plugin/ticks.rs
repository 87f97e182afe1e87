//! The time that a guest may compute: what it waits, for its host or for a core, is no part of it.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Result, Trap, UpdateDeadline};

use crate::engine::HeldTime;

pub(super) struct Ticks {
    held: Arc<HeldTime>,
    /// What it had computed when its time began.
    since: Duration,
    budget: Duration,
}

impl Ticks {
    pub(super) fn new(held: Arc<HeldTime>, budget: Duration) -> Self {
        let since = held.total();
        Self { held, since, budget }
    }

    /// The guest has its time anew.
    pub(super) fn restart(&mut self) {
        self.since = self.held.total();
    }

    pub(super) fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
    }

    pub(super) fn is_a_slice_used(&self) -> bool {
        self.computed() >= self.held.slice_min()
    }

    pub(super) fn is_half_left(&self) -> bool {
        self.computed() < self.budget / 2
    }

    /// For the epoch, whenever it has moved on. The guest lets go of its core and its thread, so that others can have
    /// the one, and whoever no longer wants it can drop it on the other; beyond its time it is interrupted.
    pub(super) fn tick(&self) -> Result<UpdateDeadline> {
        if self.computed() > self.budget {
            return Err(Trap::Interrupt.into());
        }
        // A tick that comes when it has only begun is not its own.
        Ok(if self.held.is_slice_over() { UpdateDeadline::Yield(1) } else { UpdateDeadline::Continue(1) })
    }

    fn computed(&self) -> Duration {
        self.held.total().saturating_sub(self.since)
    }
}
