//! How much of the processor a plugin may take over time. What it has computed is paid for with time that passes, and it
//! waits between two calls while it owes any: a call may be as long as its own limit says, and is paid for afterwards.

use std::time::Duration;

/// So much time counts as paid in advance where a plugin did nothing.
const SAVED_MAX: Duration = Duration::from_secs(1);
/// Whoever has to wait waits so much longer than it owes: a few long waits are better than one for every batch.
const SLICE: Duration = Duration::from_millis(50);

/// All instances of a plugin together. State alone.
#[derive(Debug, Default)]
pub(super) struct CpuShare {
    /// Percent of one core.
    percent: u32,
    /// What was computed is paid for when the clock gets there.
    paid: Duration,
}

impl CpuShare {
    /// Another share than before begins without debts.
    pub(super) fn set_percent(&mut self, percent: u32) {
        if self.percent != percent {
            *self = Self { percent, paid: Duration::ZERO };
        }
    }

    /// So much was computed since `began`.
    pub(super) fn charge(&mut self, began: Duration, cpu: Duration) {
        let price = cpu.saturating_mul(100) / self.percent.max(1);
        self.paid = self.paid.max(began.saturating_sub(SAVED_MAX)).saturating_add(price);
    }

    /// Until when the next call has to wait; none if it need not.
    pub(super) fn owed_until(&self, now: Duration) -> Option<Duration> {
        (self.paid > now).then(|| self.paid.saturating_add(SLICE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn share(percent: u32) -> CpuShare {
        let mut share = CpuShare::default();
        share.set_percent(percent);
        share
    }

    /// A plugin that computes whenever it may, for so long at a time, takes its share and no more.
    #[test]
    fn what_is_computed_is_paid_for_with_time() {
        for (percent, call) in [(20, 10), (20, 3000), (1, 5), (50, 400), (100, 100)] {
            let mut share = share(percent);
            // Something was done before, and long ago.
            let begun = ms(1_000_000);
            let (mut now, mut computed) = (begun, Duration::ZERO);
            while now < begun + ms(600_000) {
                if let Some(until) = share.owed_until(now) {
                    assert!(until > now);
                    now = until;
                }
                share.charge(now, ms(call));
                (now, computed) = (now + ms(call), computed + ms(call));
            }
            let elapsed = now - begun;
            let most = (elapsed + SAVED_MAX) * percent / 100 + ms(call);
            assert!(computed <= most, "{percent}% in calls of {call} ms: {computed:?} in {elapsed:?}");
            let least = elapsed * percent / 100 * 3 / 4;
            assert!(
                computed >= least.saturating_sub(ms(call)),
                "{percent}%: only {computed:?} in {elapsed:?}"
            );
        }
    }

    /// However many instances pay into it: none can take the others' time.
    #[test]
    fn instances_share_one_account() {
        let mut share = share(200);
        (0..4).for_each(|_| share.charge(ms(10_000), ms(1000)));
        // 4 s at two cores are 2 s, of which 1 s was saved.
        assert_eq!(share.owed_until(ms(10_999)), Some(ms(11_000) + SLICE));
        assert_eq!(share.owed_until(ms(11_000)), None);
    }

    #[test]
    fn another_share_begins_without_debts() {
        let mut share = share(1);
        share.charge(ms(5000), ms(60_000));
        share.set_percent(1);
        assert!(share.owed_until(ms(1_000_000)).is_some());
        share.set_percent(50);
        assert_eq!(share.owed_until(ms(5001)), None);
    }
}
