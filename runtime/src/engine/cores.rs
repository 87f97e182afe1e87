//! How many plugins compute at the same time. Each has a thread of its own, and the operating system knows nothing of
//! what they do: a dozen that compute without a pause would leave the node's other threads a fraction of the machine. A
//! plugin holds a core while it computes, and gives it back while it waits and when a tick of the epoch ends its slice.
//!
//! Two queues: whoever computes now and then goes before those that have computed for a slice and more. A call that takes
//! microseconds never waits for all the loops of a node, but for one slice of one of them at most.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::clock::SharedClock;

/// Of so many cores that are given back while both queues have somebody in them, one goes to those that have computed for
/// long: they wait, but not for ever.
const LONG_EVERY: u32 = 4;

/// Shared by all plugins of an engine.
pub(crate) struct Cores {
    state: Mutex<State>,
    clock: SharedClock,
    slice_min: Duration,
    waited_nanos: AtomicU64,
}

/// If any core is free, nobody waits.
struct State {
    free: u32,
    next_ticket: u64,
    begun: Queue,
    long: Queue,
    /// Turns that those that have computed for long have let others have.
    passed: u32,
}

/// In the order of their tickets: first come, first served. Who isn't in it any more has been given a core.
type Queue = BTreeMap<u64, Waker>;

/// Of one instance.
pub(crate) struct Place {
    cores: Arc<Cores>,
    queued: Option<Queued>,
    held: Arc<HeldTime>,
    /// What it has computed, less what it has rested: half of the time is as good as all of it.
    restless: Duration,
    left: Duration,
    waited: Duration,
}

/// How long an instance has held a core: for whoever is called from inside of it.
pub(crate) struct HeldTime {
    clock: SharedClock,
    slice_min: Duration,
    /// Nanoseconds of the clock, when it was given the core that it holds; `NOT_HELD` if it holds none.
    began: AtomicU64,
    /// Of the cores that it had before.
    nanos: AtomicU64,
}

const NOT_HELD: u64 = u64::MAX;
/// However long an instance has computed, so long a rest is enough.
const RESTLESS_MAX: Duration = Duration::from_millis(100);

/// An instance that has something to do: whoever drops this leaves the queue.
pub(crate) struct Computing<'a>(&'a mut Place);

struct Queued {
    ticket: u64,
    is_long: bool,
    since: Duration,
}

impl Cores {
    /// Whoever has a core may keep it for `slice_min`; the tick of the epoch after that takes it away.
    pub(crate) fn new(max: u32, clock: SharedClock, slice_min: Duration) -> Arc<Self> {
        let state =
            State { free: max.max(1), next_ticket: 0, begun: Queue::new(), long: Queue::new(), passed: 0 };
        Arc::new(Self { state: Mutex::new(state), clock, slice_min, waited_nanos: AtomicU64::new(0) })
    }

    pub(crate) fn place(self: &Arc<Self>) -> Place {
        let held = HeldTime {
            clock: Arc::clone(&self.clock),
            slice_min: self.slice_min,
            began: AtomicU64::new(NOT_HELD),
            nanos: AtomicU64::new(0),
        };
        Place {
            cores: Arc::clone(self),
            queued: None,
            held: Arc::new(held),
            restless: Duration::ZERO,
            left: self.clock.monotonic(),
            waited: Duration::ZERO,
        }
    }

    /// What plugins have waited for a core, all together.
    pub(super) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_nanos.load(Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl State {
    fn queue(&mut self, is_long: bool) -> &mut Queue {
        if is_long { &mut self.long } else { &mut self.begun }
    }

    /// Somebody needs their core no more: whom to wake, if another has it now.
    fn give_back(&mut self) -> Option<Waker> {
        let is_longs_turn = self.begun.is_empty() || self.passed + 1 >= LONG_EVERY;
        let next = match self.long.first_entry() {
            Some(long) if is_longs_turn => {
                self.passed = 0;
                Some(long.remove())
            }
            waits => {
                self.passed += u32::from(waits.is_some());
                self.begun.pop_first().map(|(_, waker)| waker)
            }
        };
        self.free += u32::from(next.is_none());
        next
    }
}

impl Place {
    pub(crate) fn held(&self) -> Arc<HeldTime> {
        Arc::clone(&self.held)
    }

    pub(crate) fn computing(&mut self) -> Computing<'_> {
        self.waited = Duration::ZERO;
        Computing(self)
    }

    fn poll_core(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = self.cores.clock.monotonic();
        let Some(queued) = &self.queued else {
            self.restless = self.restless.saturating_sub(now.saturating_sub(self.left));
            let is_long = self.restless >= self.cores.slice_min;
            let mut state = self.cores.state();
            if state.free > 0 {
                state.free -= 1;
                return Poll::Ready(());
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.queue(is_long).insert(ticket, context.waker().clone());
            self.queued = Some(Queued { ticket, is_long, since: now });
            return Poll::Pending;
        };
        let mut state = self.cores.state();
        if let Some(waker) = state.queue(queued.is_long).get_mut(&queued.ticket) {
            waker.clone_from(context.waker());
            return Poll::Pending;
        }
        drop(state);
        let waited = now.saturating_sub(queued.since);
        self.waited += waited;
        self.cores.waited_nanos.fetch_add(nanos(waited), Ordering::Relaxed);
        self.queued = None;
        Poll::Ready(())
    }
}

impl Computing<'_> {
    /// Lets `work` go on once there is a core for it.
    pub(crate) fn poll<F: Future>(
        &mut self,
        context: &mut Context<'_>,
        work: Pin<&mut F>,
    ) -> Poll<F::Output> {
        let place = &mut *self.0;
        ready!(place.poll_core(context));
        let core = Core(&place.cores);
        place.held.begin();
        let polled = work.poll(context);
        let held = place.held.end();
        drop(core);
        place.restless = (place.restless + held).min(RESTLESS_MAX);
        place.left = place.cores.clock.monotonic();
        polled
    }

    /// What it has waited for a core until now.
    pub(crate) fn waited(&self) -> Duration {
        let now = |queued: &Queued| self.0.cores.clock.monotonic().saturating_sub(queued.since);
        self.0.waited + self.0.queued.as_ref().map_or(Duration::ZERO, now)
    }
}

/// Who gives up while queued leaves the queue, or gives back what it was given and never took.
impl Drop for Computing<'_> {
    fn drop(&mut self) {
        let Some(queued) = self.0.queued.take() else { return };
        let cores = &self.0.cores;
        if cores.state().queue(queued.is_long).remove(&queued.ticket).is_none() {
            drop(Core(cores));
        }
    }
}

impl HeldTime {
    /// All together, until now.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).saturating_add(self.current())
    }

    pub(crate) fn slice_min(&self) -> Duration {
        self.slice_min
    }

    /// Whether another should have the core now.
    pub(crate) fn is_slice_over(&self) -> bool {
        self.current() >= self.slice_min
    }

    /// Since it was given the core that it holds.
    fn current(&self) -> Duration {
        match self.began.load(Ordering::Relaxed) {
            NOT_HELD => Duration::ZERO,
            began => self.clock.monotonic().saturating_sub(Duration::from_nanos(began)),
        }
    }

    fn begin(&self) {
        self.began.store(nanos(self.clock.monotonic()), Ordering::Relaxed);
    }

    fn end(&self) -> Duration {
        let held = self.current();
        self.nanos.fetch_add(nanos(held), Ordering::Relaxed);
        self.began.store(NOT_HELD, Ordering::Relaxed);
        held
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Given back when dropped, however the work ended.
struct Core<'a>(&'a Cores);

impl Drop for Core<'_> {
    fn drop(&mut self) {
        let next = self.0.state().give_back();
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;
    use crate::clock::ManualClock;

    const SLICE: Duration = Duration::from_millis(5);

    fn cores(max: u32) -> (Arc<Cores>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        (Cores::new(max, Arc::clone(&clock) as SharedClock, SLICE), clock)
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Something that computes for ever: so long at a time.
    struct Looping<'a> {
        computing: Computing<'a>,
        clock: Arc<ManualClock>,
        time: Duration,
        woken: Arc<Woken>,
    }

    impl<'a> Looping<'a> {
        fn new(place: &'a mut Place, clock: &Arc<ManualClock>, time: Duration) -> Self {
            let computing = place.computing();
            Self { computing, clock: Arc::clone(clock), time, woken: Arc::default() }
        }

        /// True if it has computed.
        fn poll(&mut self) -> bool {
            self.woken.0.store(false, Ordering::Relaxed);
            let waker = Arc::clone(&self.woken).into();
            let mut computed = false;
            let work = pin!(poll_fn::<(), _>(|_| {
                computed = true;
                self.clock.advance(self.time);
                Poll::Pending
            }));
            assert!(self.computing.poll(&mut Context::from_waker(&waker), work).is_pending());
            computed
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    fn hold(cores: &Arc<Cores>) -> Place {
        let mut place = cores.place();
        assert!(place.poll_core(&mut Context::from_waker(Waker::noop())).is_ready());
        place
    }

    fn give_back(place: Place) {
        drop(Core(&place.cores));
    }

    #[test]
    fn no_more_compute_than_there_are_cores() {
        let (cores, clock) = cores(2);
        let (first, second) = (hold(&cores), hold(&cores));
        let mut place = cores.place();
        let mut third = Looping::new(&mut place, &clock, SLICE);
        assert!(!third.poll());
        clock.advance(Duration::from_millis(7));
        assert_eq!(third.computing.waited(), Duration::from_millis(7));
        give_back(first);
        assert!(third.is_woken());
        assert!(third.poll());
        assert_eq!(third.computing.waited(), Duration::from_millis(7));
        assert_eq!((cores.waited(), third.computing.0.held.total()), (Duration::from_millis(7), SLICE));
        give_back(second);
        assert_eq!(cores.state().free, 2);
    }

    /// Otherwise one that computes without a pause would have the core again before anybody else looked.
    #[test]
    fn who_comes_back_queues_behind_who_waits() {
        let (cores, clock) = cores(1);
        let first = hold(&cores);
        let [mut other, mut greedy] = [cores.place(), cores.place()];
        let mut other = Looping::new(&mut other, &clock, SLICE);
        assert!(!other.poll());
        give_back(first);
        let mut greedy = Looping::new(&mut greedy, &clock, SLICE);
        assert!(!greedy.poll(), "the core is the other's, which did not look yet");
        assert!(other.is_woken() && !greedy.is_woken());
        assert!(other.poll());
        assert!(greedy.is_woken());
    }

    /// Symptom: a call that takes microseconds waits for each loop of the node in turn.
    #[test]
    fn who_has_computed_little_goes_first_but_not_always() {
        let (cores, clock) = cores(1);
        let mut places: Vec<_> = (0..7).map(|_| cores.place()).collect();
        let (last, places) = places.split_last_mut().unwrap();
        let mut long = Looping::new(last, &clock, SLICE);
        assert!(long.poll());
        let holder = hold(&cores);
        assert!(!long.poll());
        let mut shorts: Vec<_> =
            places.iter_mut().map(|place| Looping::new(place, &clock, SLICE / 10)).collect();
        assert!(!shorts.iter_mut().any(Looping::poll));
        give_back(holder);
        for turn in 1..=7 {
            if turn == LONG_EVERY {
                assert!(long.is_woken() && long.poll());
                continue;
            }
            let woken = shorts.iter().position(Looping::is_woken).unwrap();
            assert!(turn > LONG_EVERY || !long.is_woken());
            assert!(shorts.remove(woken).poll());
        }
        assert!(shorts.is_empty());
    }

    /// Symptom: loops are queued with those that have only begun, because the tick came a little early, or because they
    /// wait for nothing now and then.
    #[test]
    fn who_rests_less_than_it_computes_has_computed_for_long() {
        let is_long = |computes: Duration, rests: Duration| {
            let (cores, clock) = cores(1);
            let mut place = cores.place();
            let mut looping = Looping::new(&mut place, &clock, computes);
            for _ in 0..100 {
                assert!(looping.poll());
                clock.advance(rests);
            }
            let holder = hold(&cores);
            assert!(!looping.poll());
            let is_long = !cores.state().long.is_empty();
            drop(looping);
            give_back(holder);
            is_long
        };
        assert!(is_long(SLICE / 2, SLICE / 4));
        assert!(is_long(SLICE * 2, Duration::from_micros(1)));
        assert!(!is_long(SLICE / 2, SLICE / 2));
        assert!(!is_long(SLICE * 10, SLICE * 10));
    }

    #[test]
    fn whoever_gives_up_takes_no_core_along() {
        let (cores, clock) = cores(1);
        let holder = hold(&cores);
        let mut place = cores.place();
        let mut queued = Looping::new(&mut place, &clock, SLICE);
        assert!(!queued.poll());
        drop(queued);
        assert!(cores.state().begun.is_empty());
        let mut given = Looping::new(&mut place, &clock, SLICE);
        assert!(!given.poll());
        give_back(holder);
        assert_eq!(cores.state().free, 0);
        drop(given);
        assert_eq!(cores.state().free, 1);
    }
}
