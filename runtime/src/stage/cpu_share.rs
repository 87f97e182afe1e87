//! How much of the processor a plugin may take over time. What it has computed is paid for with time that passes, and it
//! waits between two calls while it owes any: a call may be as long as its own limit says, and is paid for afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// So much time counts as paid in advance where a plugin did nothing.
const SAVED_MAX: Duration = Duration::from_secs(1);
/// Whoever has to wait waits so much longer than it owes: a few long waits are better than one for every batch.
const SLICE: Duration = Duration::from_millis(50);

/// The shares of a stage's plugins. Each version has its own, so that none pays for another, and keeps it however often
/// it is replaced; it has one, wherever and however often it stands in the chain.
#[derive(Default)]
pub(super) struct CpuAccounts(Mutex<BTreeMap<(String, u32), Arc<CpuAccount>>>);

/// All instances of one version together.
pub(crate) struct CpuAccount(Mutex<CpuShare>);

impl CpuAccounts {
    /// Of that version, which may take so many percent of a core.
    pub(super) fn of(&self, version: String, percent: u32, now: Duration) -> Arc<CpuAccount> {
        let mut accounts = self.0.lock().expect("no code panics while it holds this lock");
        // One that has saved all that it may is as good as a new one.
        accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_as_new(now));
        let account = accounts.entry((version, percent));
        Arc::clone(account.or_insert_with(|| Arc::new(CpuAccount::new(percent))))
    }
}

impl CpuAccount {
    pub(super) fn new(percent: u32) -> Self {
        Self(Mutex::new(CpuShare { percent, paid: Duration::ZERO }))
    }

    /// So much was computed since `began`.
    pub(crate) fn charge(&self, began: Duration, cpu: Duration) {
        self.0.lock().expect("no code panics while it holds this lock").charge(began, cpu);
    }

    /// Until when the next call has to wait; none if it need not.
    pub(crate) fn owed_until(&self, now: Duration) -> Option<Duration> {
        self.0.lock().expect("no code panics while it holds this lock").owed_until(now)
    }

    fn is_as_new(&self, now: Duration) -> bool {
        let share = self.0.lock().expect("no code panics while it holds this lock");
        share.paid.saturating_add(SAVED_MAX) <= now
    }
}

/// State alone.
#[derive(Debug)]
struct CpuShare {
    /// Percent of one core.
    percent: u32,
    /// What was computed is paid for when the clock gets there.
    paid: Duration,
}

impl CpuShare {
    fn charge(&mut self, began: Duration, cpu: Duration) {
        let price = cpu.saturating_mul(100) / self.percent.max(1);
        self.paid = self.paid.max(began.saturating_sub(SAVED_MAX)).saturating_add(price);
    }

    fn owed_until(&self, now: Duration) -> Option<Duration> {
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
        CpuShare { percent, paid: Duration::ZERO }
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

    /// Neither a canary nor a version that comes and goes changes what another one may take, or gets rid of its debts.
    #[test]
    fn each_version_has_its_account_and_keeps_its_debts() {
        let accounts = CpuAccounts::default();
        let of = |version: &str, percent, now| accounts.of(version.to_owned(), percent, now);
        let stable = of("a@1", 1, ms(5000));
        stable.charge(ms(5000), ms(600));
        assert_eq!(of("a@2", 1, ms(5001)).owed_until(ms(5001)), None);
        assert_eq!(of("a@1", 50, ms(5001)).owed_until(ms(5001)), None);
        drop(stable);
        // 600 ms at a percent are a minute, of which 1 s was saved.
        assert_eq!(of("a@1", 1, ms(6000)).owed_until(ms(63_999)), Some(ms(64_000) + SLICE));
        // Whoever holds one shares it with whoever comes later.
        assert!(Arc::ptr_eq(&of("a@1", 1, ms(6000)), &of("a@1", 1, ms(6000))));
        of("a@3", 1, ms(65_000));
        assert_eq!(accounts.0.lock().unwrap().len(), 1, "what is paid for is forgotten");
    }
}
