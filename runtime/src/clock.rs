//! Time enters through here, so that a run can be replayed.

use std::sync::Arc;
use std::time::Duration;

/// What the runtime asks of the world's clocks.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch: for what people read, never for measuring a duration.
    fn wall_ms(&self) -> i64;
    /// Time since this clock began; never goes back.
    fn monotonic(&self) -> Duration;
    /// Processor time that the calling thread has taken.
    fn thread_cpu(&self) -> Duration;
}

pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clocks.
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
    pub fn shared() -> SharedClock {
        Arc::new(Self { start: std::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock set before 1970 is the operator's, not ours to crash on.
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn thread_cpu(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("a thread has taken some time or none")
    }
}

/// A clock that a test moves by hand.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub struct ManualClock {
    now: std::sync::Mutex<Duration>,
}

#[cfg(any(test, feature = "testing"))]
impl ManualClock {
    pub fn advance(&self, by: Duration) {
        *self.now.lock().expect("no code panics while it holds this lock") += by;
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        1_767_225_600_000 + i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX)
    }

    /// The thread never waits.
    fn thread_cpu(&self) -> Duration {
        self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        *self.now.lock().expect("no code panics while it holds this lock")
    }
}
