//! The stages that run on this node.
//!
//! | task | owner | ends when |
//! | --- | --- | --- |
//! | a stage's task, `parallelism` of them | the stage's `TaskTracker`, here | its stage is stopped, or one of its siblings fails |
//! | a task's worker thread | the stage's task | the task ends |

mod inlines;
mod room;
mod swap;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::inlines::Inlines;
use crate::clock::SharedClock;
use crate::environment::Environment;
use crate::inline::{Inline, InlineSpec, LetterBox, Postman};
use crate::pipeline::{Pipeline, PipelineSpec, PluginSource, Problem};
use crate::plugin::PluginLogs;
use crate::runner::run_runner;
use crate::stage::{
    PortFactory, RuntimeMetrics, StageEvent, StageShared, StageSpec, StageStatus, Tap, TapError, TapFilter,
    run_stage,
};

/// Events that wait for their listener.
const EVENTS_MAX: usize = 256;

/// Starts, stops and reports stages. State: the running stages, in one mutex that is never held across an await;
/// changes come one after the other.
pub struct Runtime<F> {
    factory: Arc<F>,
    metrics: RuntimeMetrics,
    clock: SharedClock,
    environment: Environment,
    handle: tokio::runtime::Handle,
    stop: CancellationToken,
    running: Mutex<BTreeMap<StageKey, Running>>,
    inlines: Inlines,
    changes: tokio::sync::Mutex<()>,
    events: mpsc::Sender<StageEvent>,
    logs: Arc<PluginLogs>,
    /// Until somebody asks for it.
    event_receiver: Mutex<Option<mpsc::Receiver<StageEvent>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct StageKey {
    pipeline: String,
    stage: String,
}

#[derive(Clone)]
struct Running {
    shared: Arc<StageShared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What `apply` or `remove` did, by the names of stages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub started: Vec<String>,
    /// Changed, or failed or stopped before.
    pub restarted: Vec<String>,
    /// Going on with other versions of their plugins.
    pub swapped: Vec<String>,
    pub unchanged: Vec<String>,
    pub removed: Vec<String>,
}

impl<F: PortFactory> Runtime<F> {
    /// Stages run on the tokio runtime of `handle`; their plugins on threads of their own.
    pub fn new(
        factory: F,
        metrics: RuntimeMetrics,
        clock: SharedClock,
        environment: Environment,
        handle: tokio::runtime::Handle,
    ) -> Self {
        let (events, event_receiver) = mpsc::channel(EVENTS_MAX);
        Self {
            factory: Arc::new(factory),
            metrics,
            logs: Arc::new(PluginLogs::new(Arc::clone(&clock))),
            clock,
            environment,
            handle,
            stop: CancellationToken::new(),
            running: Mutex::default(),
            inlines: Inlines::default(),
            changes: tokio::sync::Mutex::default(),
            events,
            event_receiver: Mutex::new(Some(event_receiver)),
        }
    }

    /// What stages tell. There is one listener: the second call gets none.
    pub fn events(&self) -> Option<mpsc::Receiver<StageEvent>> {
        self.event_receiver.lock().expect("no code panics while it holds this lock").take()
    }

    /// Whether there is room for the pipeline's stages beside those of the others, with the versions of `plugins`. The error
    /// has its place.
    pub fn check_room(&self, spec: &PipelineSpec, plugins: &dyn PluginSource) -> Result<(), Problem> {
        let running = self.lock();
        let others = running.iter().filter(|(key, _)| key.pipeline != spec.name);
        let others = others.map(|(_, running)| Arc::clone(&running.shared));
        let others: Vec<_> = others.chain(self.inlines.others(&spec.name)).collect();
        drop(running);
        let room_of = |shared: &Arc<StageShared>| {
            let current = shared.deployments.current();
            let instances = room::instances_of(current.plugins.len(), current.canary.is_some());
            (shared.spec.parallelism, instances)
        };
        let is_tried =
            |plugin: &str| plugins.versions(plugin).is_some_and(|versions| versions.canary.is_some());
        room::check(spec, others.iter().map(room_of), is_tried)
    }

    /// Makes the pipeline's stages those of `pipeline`. A stage that is the same and still runs goes on undisturbed; one
    /// that differs in the versions of its plugins alone swaps them between two batches, and stays in its group.
    /// Nothing happens after `shutdown`. If this future is dropped, stages stay stopped that should run, until the
    /// pipeline is applied again.
    pub async fn apply(&self, pipeline: &Pipeline) -> Applied {
        let _changes = self.changes.lock().await;
        let mut applied = Applied::default();
        if self.stop.is_cancelled() {
            return applied;
        }
        let wanted: BTreeMap<&str, &StageSpec> =
            pipeline.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect();
        let (mut stopping, mut swapping) = (Vec::new(), Vec::new());
        for (name, running) in self.stages_of(&pipeline.name) {
            match wanted.get(name.as_str()) {
                Some(spec) if running.shared.spec.is_the_stage_of(spec) && !running.is_over() => {
                    let current = running.shared.deployments.current();
                    if current.same_as(&spec.plugins, spec.canary.as_ref()) {
                        applied.unchanged.push(name);
                    } else {
                        swapping.push((running, *spec));
                        applied.swapped.push(name);
                    }
                }
                Some(_) => {
                    stopping.push(running);
                    applied.restarted.push(name);
                }
                None => {
                    stopping.push(running);
                    self.lock().remove(&key(&pipeline.name, &name));
                    applied.removed.push(name);
                }
            }
        }
        stop_all(stopping).await;
        for (running, spec) in swapping {
            swap::swap(&running.shared, spec).await;
        }
        for spec in &pipeline.stages {
            if applied.unchanged.contains(&spec.name) || applied.swapped.contains(&spec.name) {
                continue;
            }
            if !applied.restarted.contains(&spec.name) {
                applied.started.push(spec.name.clone());
            }
            let running = self.start(spec.clone());
            self.lock().insert(key(&spec.pipeline, &spec.name), running);
        }
        self.inlines.apply(&pipeline.name, &pipeline.inlines, |spec| self.open(spec), &mut applied).await;
        let inlines = pipeline.inlines.iter().map(|inline| &inline.stage);
        self.metrics.retain(&pipeline.name, pipeline.stages.iter().chain(inlines));
        applied
    }

    /// Stops all stages of a pipeline; empty if there is none.
    pub async fn remove(&self, pipeline: &str) -> Applied {
        let _changes = self.changes.lock().await;
        let (removed, stopping): (Vec<String>, Vec<Running>) = self.stages_of(pipeline).into_iter().unzip();
        stop_all(stopping).await;
        self.lock().retain(|key, _| key.pipeline != pipeline);
        let mut applied = Applied { removed, ..Applied::default() };
        self.inlines.apply(pipeline, &[], |spec| self.open(spec), &mut applied).await;
        self.metrics.retain(pipeline, std::iter::empty());
        applied
    }

    /// Stops everything, and commits what is in flight.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let _changes = self.changes.lock().await;
        let all = self.lock().values().cloned().collect();
        stop_all(all).await;
        self.inlines.shutdown().await;
    }

    /// The last lines of all plugins.
    pub fn logs(&self) -> &Arc<PluginLogs> {
        &self.logs
    }

    /// Lets somebody look at what passes a stage, an ingest or a view.
    pub fn tap(&self, pipeline: &str, stage: &str, filter: TapFilter) -> Result<Tap, TapError> {
        let running = self.lock().get(&key(pipeline, stage)).map(|running| Arc::clone(&running.shared));
        let shared = running.or_else(|| self.inlines.shared(pipeline, stage));
        let unknown = || TapError::NoStage { pipeline: pipeline.to_owned(), stage: stage.to_owned() };
        shared.ok_or_else(unknown)?.taps.open(filter)
    }

    /// The ingests and views of a pipeline.
    pub fn inlines(&self, pipeline: &str) -> Vec<Inline> {
        self.inlines.of(pipeline)
    }

    /// All stages, by pipeline and name, and all ingests and views.
    pub fn status(&self) -> Vec<StageStatus> {
        let stages: Vec<_> = self.lock().values().map(|running| running.shared.status()).collect();
        stages.into_iter().chain(self.inlines.status()).collect()
    }

    /// The lag of a stage or sink that has failed, which nobody reads for.
    pub fn set_stalled_lag(&self, pipeline: &str, stage: &str, lag: i64) {
        if let Some(running) = self.lock().get(&key(pipeline, stage))
            && running.is_over()
        {
            running.shared.metrics.set_stalled_lag(lag);
        }
    }

    /// The names of the pipelines.
    pub fn pipelines(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lock().keys().map(|key| key.pipeline.clone()).collect();
        names.dedup();
        names
    }

    fn share(&self, spec: StageSpec) -> Arc<StageShared> {
        let (clock, events, logs) = (Arc::clone(&self.clock), self.events.clone(), Arc::clone(&self.logs));
        let environment = self.environment.clone();
        Arc::new(StageShared::new(spec, &self.metrics, clock, events, logs, environment))
    }

    /// What an ingest or a view has of the node.
    fn open(&self, spec: &InlineSpec) -> (Arc<StageShared>, Option<(LetterBox, Postman)>) {
        let shared = self.share(spec.stage.clone());
        let letters = spec
            .stage
            .on_error
            .dead_letter()
            .map(|_| LetterBox::open(Arc::clone(&shared), Arc::clone(&self.factory), &self.handle));
        (shared, letters)
    }

    fn start(&self, spec: StageSpec) -> Running {
        let parallelism = spec.parallelism;
        let shared = self.share(spec);
        let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
        for task in 0..parallelism {
            let (shared, factory) = (Arc::clone(&shared), Arc::clone(&self.factory));
            if shared.spec.runner.is_some() {
                tasks.spawn_on(run_runner(shared, factory, task, stop.clone()), &self.handle);
            } else {
                tasks.spawn_on(run_stage(shared, factory, task, stop.clone()), &self.handle);
            }
        }
        tasks.close();
        Running { shared, stop, tasks }
    }

    fn stages_of(&self, pipeline: &str) -> Vec<(String, Running)> {
        let running = self.lock();
        let own = running.iter().filter(|(key, _)| key.pipeline == pipeline);
        own.map(|(key, running)| (key.stage.clone(), running.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StageKey, Running>> {
        self.running.lock().expect("no code panics while it holds this lock")
    }
}

impl Running {
    /// It has failed, has finished, or was told to stop: it does not go on by itself.
    fn is_over(&self) -> bool {
        self.shared.is_over() || self.stop.is_cancelled()
    }
}

fn key(pipeline: &str, stage: &str) -> StageKey {
    StageKey { pipeline: pipeline.to_owned(), stage: stage.to_owned() }
}

/// All at once, then waits for each.
async fn stop_all(stages: Vec<Running>) {
    for stage in &stages {
        stage.stop.cancel();
    }
    for stage in stages {
        stage.tasks.wait().await;
    }
}
