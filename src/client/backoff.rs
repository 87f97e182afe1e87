//! How long to wait before the next attempt, and when to give up.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that double, up to a limit in all.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    give_up_at: Instant,
}

impl Backoff {
    pub(crate) fn new(total: Duration) -> Self {
        Self { next: FIRST, give_up_at: Instant::now() + total }
    }

    /// Waits before another attempt; false if there should be none.
    pub(crate) async fn wait(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.give_up_at {
            return false;
        }
        tokio::time::sleep_until((now + self.next).min(self.give_up_at)).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_end() {
        let begun = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let mut waits = Vec::new();
        loop {
            let before = Instant::now();
            if !backoff.wait().await {
                break;
            }
            waits.push((Instant::now() - before).as_millis());
        }
        assert_eq!(waits[..7], [20, 40, 80, 160, 320, 640, 1000]);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}
