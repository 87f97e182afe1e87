//! What a stage runs its records through, and how that changes while it runs.
//!
//! ```text
//! Runtime::apply ── replace ──> Deployments ── generation ──> each task's mill: looks between two batches,
//! a mill ── crashed ──────────>   (shared)                    takes the chains that were started for it
//! ```
//!
//! Whoever replaces a deployment starts its instances first, beside those that work. A mill that finds none for itself
//! (the node had no room for both) starts them when the old ones are gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::chains::Chains;
use super::spec::{Previous, StagePlugin};
use crate::clock::SharedClock;

/// So many crashes of a plugin within `CRASHES_TIME`, and a version that has a previous one goes back to it.
const CRASHES_MAX: usize = 3;
const CRASHES_TIME: Duration = Duration::from_secs(60);

/// Plugins of one stage at one time.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    /// Counts the deployments of a running stage.
    pub(crate) generation: u64,
    pub(crate) plugins: Vec<StagePlugin>,
    pub(crate) canary: Option<Canary>,
}

/// Another version of one plugin, for some partitions of the stage's input.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Its place in the chain.
    pub index: usize,
    pub plugin: StagePlugin,
    pub partitions: BTreeSet<i32>,
}

impl Canary {
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.index == other.index && self.partitions == other.partitions && self.plugin.same_as(&other.plugin)
    }
}

impl Deployment {
    /// The chain of the partitions that the canary is for.
    pub(super) fn canary_plugins(&self) -> Option<Vec<StagePlugin>> {
        let Canary { index, plugin, .. } = self.canary.as_ref()?;
        let mut plugins = self.plugins.clone();
        plugins[*index] = plugin.clone();
        Some(plugins)
    }

    pub(crate) fn same_as(&self, plugins: &[StagePlugin], canary: Option<&Canary>) -> bool {
        let same_canary = match (&self.canary, canary) {
            (Some(a), Some(b)) => a.same_as(b),
            (None, None) => true,
            _ => false,
        };
        same_canary
            && self.plugins.len() == plugins.len()
            && self.plugins.iter().zip(plugins).all(|(a, b)| a.same_as(b))
    }
}

/// A version that was taken back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Of the chain.
    pub plugin: String,
    /// Versions' numbers.
    pub from: u32,
    pub to: u32,
    /// The sha-256 of the version that crashed.
    pub sha256: [u8; 32],
    pub canary: bool,
    pub reason: String,
}

/// What a mill does about a crash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterCrash {
    /// The same version may do it the next time.
    Again,
    /// There is another deployment to go on with.
    RolledBack(RolledBack),
    /// It is not for the version: the batch is bad.
    GiveUp,
}

/// Who crashed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crash<'a> {
    pub(crate) generation: u64,
    pub(crate) canary: bool,
    /// Place in the chain.
    pub(crate) index: usize,
    pub(crate) reason: &'a str,
    /// Whether this batch, or this start, was tried before.
    pub(crate) again: bool,
}

impl<'a> Crash<'a> {
    /// Of a plugin that had records of that partition.
    pub(crate) fn of(chains: &Chains, partition: i32, index: usize, reason: &'a str, again: bool) -> Self {
        let canary = chains.is_canary(partition);
        Self { generation: chains.generation(), canary, index, reason, again }
    }
}

/// The deployment of a running stage, shared by its tasks.
pub(crate) struct Deployments {
    /// That of `State::current`: mills look at it before each batch, and wait for it when they have nothing to do.
    generation: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    current: Arc<Deployment>,
    /// Instances that wait for the task of that number.
    prepared: BTreeMap<u32, Chains>,
    /// Of the current deployment: time, place in the chain, whether of the canary.
    crashes: VecDeque<(Duration, usize, bool)>,
}

impl Deployments {
    pub(crate) fn new(plugins: Vec<StagePlugin>, canary: Option<Canary>) -> Self {
        let current = Arc::new(Deployment { generation: 1, plugins, canary });
        let state = State { current, prepared: BTreeMap::new(), crashes: VecDeque::new() };
        Self { generation: watch::channel(1).0, state: Mutex::new(state) }
    }

    pub(crate) fn current(&self) -> Arc<Deployment> {
        Arc::clone(&self.lock().current)
    }

    pub(crate) fn is_current(&self, generation: u64) -> bool {
        *self.generation.borrow() == generation
    }

    /// Waits until there is another deployment than that one.
    pub(crate) async fn replaced(&self, generation: u64) {
        let mut current = self.generation.subscribe();
        // The sender is ours.
        let _ = current.wait_for(|current| *current != generation).await;
    }

    /// The next deployment, for `replace`.
    pub(crate) fn next(&self, plugins: Vec<StagePlugin>, canary: Option<Canary>) -> Arc<Deployment> {
        Arc::new(Deployment { generation: self.lock().current.generation + 1, plugins, canary })
    }

    /// Makes `next` the current one; `prepared` are its chains, for the tasks from 0 on.
    pub(crate) fn replace(&self, next: Arc<Deployment>, prepared: Vec<Chains>) {
        let mut state = self.lock();
        let generation = state.current.generation + 1;
        let fits = generation == next.generation;
        // Instances are not dropped while others wait for the lock.
        let unused = match fits {
            true => self.set(&mut state, next),
            // Meanwhile a version was taken back: these instances belong to a deployment that never was.
            false => self.set(&mut state, Arc::new(Deployment { generation, ..Deployment::clone(&next) })),
        };
        let wanted = if fits { prepared } else { Vec::new() };
        state.prepared = (0..).zip(wanted).collect();
        drop(state);
        drop(unused);
    }

    /// The instances that were started for this task and the current deployment.
    pub(super) fn take_prepared(&self, task: u32) -> Option<Chains> {
        self.lock().prepared.remove(&task)
    }

    /// Decides what follows from a crash, and takes the version back if that is it.
    pub(super) fn crashed(&self, crash: Crash<'_>, clock: &SharedClock) -> AfterCrash {
        let (now, wall_ms) = (clock.monotonic(), clock.wall_ms());
        let mut state = self.lock();
        let Crash { generation, canary, index, reason, again } = crash;
        if state.current.generation != generation {
            // Another task has taken it back meanwhile, or somebody deployed: that one decides.
            return AfterCrash::Again;
        }
        let current = Arc::clone(&state.current);
        let suspect = match (&current.canary, canary) {
            (Some(canary), true) if canary.index == index => Some((&canary.plugin, true)),
            _ => current.plugins.get(index).map(|plugin| (plugin, false)),
        };
        let Some((suspect, of_canary)) = suspect else { return AfterCrash::GiveUp };
        let replacement = match &suspect.previous {
            _ if of_canary => Some(current.plugins[index].clone()),
            Some(previous) if wall_ms < previous.until_ms => Some(previous.plugin.clone()),
            _ => None,
        };
        let Some(replacement) = replacement else {
            return if again { AfterCrash::GiveUp } else { AfterCrash::Again };
        };
        let since = now.saturating_sub(CRASHES_TIME);
        state.crashes.retain(|(at, ..)| *at >= since);
        state.crashes.push_back((now, index, of_canary));
        let mine = |(_, at, canary): &&(Duration, usize, bool)| (*at, *canary) == (index, of_canary);
        if state.crashes.iter().filter(mine).count() < CRASHES_MAX {
            return AfterCrash::Again;
        }
        let rolled_back = RolledBack {
            plugin: suspect.name.clone(),
            from: suspect.version,
            to: replacement.version,
            sha256: *suspect.plugin.sha256(),
            canary: of_canary,
            reason: reason.to_owned(),
        };
        let mut plugins = current.plugins.clone();
        let mut left = current.canary.clone();
        match of_canary {
            true => left = None,
            false => plugins[index] = replacement,
        }
        let next = Deployment { generation: generation + 1, plugins, canary: left };
        let unused = self.set(&mut state, Arc::new(next));
        drop(state);
        drop(unused);
        AfterCrash::RolledBack(rolled_back)
    }

    /// Returns instances that were waiting for the deployment before.
    fn set(&self, state: &mut State, next: Arc<Deployment>) -> BTreeMap<u32, Chains> {
        let generation = next.generation;
        state.current = next;
        state.crashes.clear();
        self.generation.send_replace(generation);
        std::mem::take(&mut state.prepared)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl Previous {
    /// A version that may be returned to until then.
    pub fn new(plugin: StagePlugin, until_ms: i64) -> Self {
        // One step back is what there is: a version that was taken back has no previous one.
        Self { plugin: StagePlugin { previous: None, ..plugin }, until_ms }
    }
}
