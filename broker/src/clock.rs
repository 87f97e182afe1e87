//! Time and randomness enter through here, so that a run can be replayed from one seed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// What makes a run different from the last one: the wall clock, the monotonic clock, random ids.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch: for record timestamps, never for measuring a duration.
    fn wall_ms(&self) -> i64;
    /// Time since this clock began; never goes back.
    fn monotonic(&self) -> Duration;
    /// A random (version 4) UUID.
    fn random_uuid(&self) -> Uuid;
}

pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clocks and random numbers.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
    pub fn shared() -> SharedClock {
        Arc::new(Self { start: Instant::now() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
    fn wall_ms(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            // A clock set before 1970 is the operator's, not ours to crash on.
            Err(_) => 0,
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn random_uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    state: std::sync::Mutex<ManualState>,
}

#[derive(Debug, Default)]
struct ManualState {
    now: Duration,
    uuids: u128,
}

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.lock().now += by;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        // 2026-01-01, so that timestamps look like timestamps.
        1_767_225_600_000 + self.lock().now.as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.lock().now
    }

    fn random_uuid(&self) -> Uuid {
        let mut state = self.lock();
        state.uuids += 1;
        Uuid::from_u128(state.uuids)
    }
}
