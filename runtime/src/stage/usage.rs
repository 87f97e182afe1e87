//! What a plugin takes: its calls, their times, its processor time and its memory. Of all its instances in a stage, and
//! of all its versions.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;

use super::cpu_share::CpuAccount;
use super::usage_metrics::UsageMetrics;
use crate::clock::SharedClock;

/// Calls whose times the percentiles are of.
const RECENT_CALLS: usize = 1024;
/// Whoever waits for its share of the processor looks at the clock so often.
const LOOK_UP_MAX: Duration = Duration::from_millis(250);

/// The usage of one plugin of a stage's chain, which its instances share.
pub(crate) struct PluginUsage {
    counts: Mutex<Counts>,
    metrics: UsageMetrics,
}

#[derive(Default)]
struct Counts {
    status: UsageStatus,
    cpu: Duration,
    throttled: Duration,
    /// Times of the last calls in microseconds, in no order.
    recent_us: Vec<u32>,
    /// Which of them is overwritten next.
    oldest: usize,
}

/// A snapshot of what a plugin has taken since its stage was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UsageStatus {
    pub calls: u64,
    /// Those of them that ended with an error.
    pub failed_calls: u64,
    /// Records of the calls that returned; a batch that is mapped again counts again.
    pub records_in: u64,
    pub records_out: u64,
    /// Processor time of the calls.
    pub cpu_us: u64,
    /// How long its instances have waited because of `cpu_percent_max`.
    pub throttled_us: u64,
    /// Instances that live now, and their memory.
    pub instances: u64,
    pub memory_bytes: u64,
    /// Of the last 1024 calls; 0 if there was none.
    pub call_us_p50: u64,
    pub call_us_p99: u64,
}

/// One call.
pub(crate) struct CallUsage {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    /// Records in and out, if it returned.
    pub(crate) records: Option<(usize, usize)>,
}

impl PluginUsage {
    pub(super) fn new(metrics: UsageMetrics) -> Self {
        Self { counts: Mutex::default(), metrics }
    }

    pub(crate) fn status(&self) -> UsageStatus {
        let (mut status, mut recent) = {
            let counts = self.lock();
            let (cpu_us, throttled_us) = (micros(counts.cpu), micros(counts.throttled));
            let status = UsageStatus { cpu_us, throttled_us, ..counts.status.clone() };
            (status, counts.recent_us.clone())
        };
        // Nobody who calls a plugin waits for this.
        recent.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (recent.len() * percent).div_ceil(100).max(1);
            recent.get(rank - 1).copied().unwrap_or(0).into()
        };
        (status.call_us_p50, status.call_us_p99) = (percentile(50), percentile(99));
        status
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no code panics while it holds this lock")
    }
}

impl Counts {
    fn count(&mut self, call: &CallUsage) {
        self.status.calls += 1;
        match call.records {
            Some((records_in, records_out)) => {
                self.status.records_in += records_in as u64;
                self.status.records_out += records_out as u64;
            }
            None => self.status.failed_calls += 1,
        }
        self.cpu += call.cpu;
        let us = u32::try_from(call.time.as_micros()).unwrap_or(u32::MAX);
        match self.recent_us.get_mut(self.oldest) {
            Some(oldest) => *oldest = us,
            None => self.recent_us.push(us),
        }
        self.oldest = (self.oldest + 1) % RECENT_CALLS;
    }
}

/// What one live instance adds to its plugin's usage; its memory is given back when this is dropped.
pub(crate) struct InstanceUsage {
    usage: Arc<PluginUsage>,
    account: Arc<CpuAccount>,
    memory_bytes: u64,
}

impl InstanceUsage {
    /// What it computes goes to that account.
    pub(crate) fn new(usage: Arc<PluginUsage>, account: Arc<CpuAccount>, memory_bytes: u64) -> Self {
        {
            let mut counts = usage.lock();
            counts.status.instances += 1;
            counts.status.memory_bytes += memory_bytes;
        }
        usage.metrics.change(1, signed(memory_bytes));
        Self { usage, account, memory_bytes }
    }

    pub(crate) fn count(&mut self, call: &CallUsage, memory_bytes: u64) {
        self.usage.metrics.count(call);
        self.usage.metrics.change(0, signed(memory_bytes) - signed(self.memory_bytes));
        let mut counts = self.usage.lock();
        counts.count(call);
        counts.status.memory_bytes = counts.status.memory_bytes - self.memory_bytes + memory_bytes;
        self.memory_bytes = memory_bytes;
    }

    /// So much was computed since `began`, in a call or not.
    pub(crate) fn charge(&self, began: Duration, cpu: Duration) {
        self.account.charge(began, cpu);
    }

    /// Whether `pay` would wait.
    pub(crate) fn is_in_debt(&self, clock: &SharedClock) -> bool {
        self.owed_until(clock.monotonic()).is_some()
    }

    /// Waits until the plugin's share of the processor allows another call. This may be dropped at any time.
    pub(crate) async fn pay(&self, clock: &SharedClock) {
        let mut now = clock.monotonic();
        while let Some(until) = self.owed_until(now) {
            while now < until {
                let before = now;
                tokio::time::sleep(until.saturating_sub(now).min(LOOK_UP_MAX)).await;
                now = clock.monotonic();
                let waited = now.saturating_sub(before);
                self.usage.lock().throttled += waited;
                self.usage.metrics.throttled.inc_by(waited.as_secs_f64());
            }
        }
    }

    fn owed_until(&self, now: Duration) -> Option<Duration> {
        self.account.owed_until(now)
    }
}

impl Drop for InstanceUsage {
    fn drop(&mut self) {
        self.usage.metrics.change(-1, -signed(self.memory_bytes));
        let mut counts = self.usage.lock();
        counts.status.instances -= 1;
        counts.status.memory_bytes -= self.memory_bytes;
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(us: u64, records: Option<(usize, usize)>) -> CallUsage {
        CallUsage { time: Duration::from_micros(us), cpu: Duration::from_nanos(600), records }
    }

    #[test]
    fn calls_add_up_and_memory_is_that_of_live_instances() {
        let usage = Arc::new(PluginUsage::new(UsageMetrics::unseen()));
        let mut one = InstanceUsage::new(Arc::clone(&usage), Arc::new(CpuAccount::new(100)), 10);
        let two = InstanceUsage::new(Arc::clone(&usage), Arc::new(CpuAccount::new(100)), 7);
        one.count(&call(5, Some((3, 4))), 30);
        one.count(&call(5, None), 20);
        let expected = UsageStatus {
            calls: 2,
            failed_calls: 1,
            records_in: 3,
            records_out: 4,
            // Parts of microseconds are not lost.
            cpu_us: 1,
            throttled_us: 0,
            instances: 2,
            memory_bytes: 27,
            call_us_p50: 5,
            call_us_p99: 5,
        };
        assert_eq!(usage.status(), expected);
        drop(one);
        drop(two);
        assert_eq!(usage.status(), UsageStatus { instances: 0, memory_bytes: 0, ..expected });
    }

    #[test]
    fn percentiles_are_of_recent_calls() {
        let usage = Arc::new(PluginUsage::new(UsageMetrics::unseen()));
        let percentiles = || (usage.status().call_us_p50, usage.status().call_us_p99);
        assert_eq!(percentiles(), (0, 0), "nothing was called");
        let mut instance = InstanceUsage::new(Arc::clone(&usage), Arc::new(CpuAccount::new(100)), 0);
        (1..=100).for_each(|us| instance.count(&call(us, Some((1, 1))), 0));
        assert_eq!(percentiles(), (50, 99));
        (0..RECENT_CALLS).for_each(|_| instance.count(&call(7, Some((1, 1))), 0));
        assert_eq!(percentiles(), (7, 7), "what was slow long ago is forgotten");
    }
}
