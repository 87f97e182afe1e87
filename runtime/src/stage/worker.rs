//! The thread of one task that opens batches, calls the plugins and gathers the outputs. It owns the instances, so
//! that a plugin that computes for a second delays its own stage and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::mill::Mill;
use super::port::FetchedPartition;
use super::status::StageShared;
use super::topic::OutputTopic;
use super::unit::Unit;

/// Jobs that wait for the worker: the next is fetched while one is mapped.
const JOBS_QUEUED_MAX: usize = 2;
/// Units that wait to be committed. Each may hold what a call returns, so one is enough.
const UNITS_QUEUED_MAX: usize = 1;

/// Batches to be mapped.
pub(super) struct Job {
    pub(super) fetched: Vec<FetchedPartition>,
    pub(super) topology: Arc<Topology>,
}

/// What the stage knows of its topics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Topology {
    /// How many partitions each input topic has.
    pub(super) sources: BTreeMap<Arc<str>, i32>,
    /// The output topics, in the stage's order, and behind them the dead letter topic.
    pub(super) outputs: Vec<OutputTopic>,
}

impl Topology {
    /// Partitions of an input topic. One that the stage did not ask for compares with none.
    pub(super) fn sources_of(&self, topic: &str) -> i32 {
        self.sources.get(topic).copied().unwrap_or(0)
    }
}

/// The task's side.
pub(super) struct Worker {
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) units: mpsc::Receiver<Unit>,
    finish: CancellationToken,
    cancel: CancellationToken,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(shared: Arc<StageShared>, task: u32) -> std::io::Result<Self> {
        let (jobs, job_receiver) = mpsc::channel(JOBS_QUEUED_MAX);
        let (unit_sender, units) = mpsc::channel(UNITS_QUEUED_MAX);
        let (finish, cancel) = (CancellationToken::new(), CancellationToken::new());
        let (finishing, cancelled) = (finish.clone(), cancel.clone());
        let name = format!("stage-{}-{task}", shared.spec.name);
        // Timers only: the plugins' time limits and the waiting between retries.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            let work = run(shared, task, job_receiver, unit_sender, finishing);
            runtime.block_on(async {
                tokio::select! { biased; () = cancelled.cancelled() => (), () = work => () }
            });
        })?;
        Ok(Self { jobs, units, finish, cancel, thread })
    }

    /// Lets the worker end after the batch that it is at, whatever is queued. Its last unit follows, and then the
    /// end of `units`.
    pub(super) fn finish(&self) {
        self.finish.cancel();
    }

    /// Ends the thread: at the latest with the next tick, since the plugin yields with each. False if it had panicked.
    pub(super) async fn stop(self) -> bool {
        let Self { jobs, mut units, cancel, thread, .. } = self;
        cancel.cancel();
        drop(jobs);
        // The channel closes when the thread lets go of it, so that joining does not block.
        while units.recv().await.is_some() {}
        thread.join().is_ok()
    }
}

async fn run(
    shared: Arc<StageShared>,
    task: u32,
    jobs: mpsc::Receiver<Job>,
    units: mpsc::Sender<Unit>,
    finish: CancellationToken,
) {
    let started = finish.run_until_cancelled(Mill::start(shared, task, units.clone(), finish.clone())).await;
    match started {
        None => {}
        Some(Ok(mut mill)) => mill.run(jobs).await,
        Some(Err(ending)) => {
            // If nobody takes it, nobody waits for the worker either.
            let _ = units.send(Unit::ending(ending)).await;
        }
    }
}
