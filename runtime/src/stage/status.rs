//! What a stage tells about itself: counters for Prometheus, and a snapshot for people.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use tokio::sync::mpsc;

use super::deployment::{AfterCrash, Crash, Deployments, RolledBack};
use super::plugin_metrics::{PluginMetricFamilies, PluginMetrics};
use super::port::TopicPartition;
use super::spec::{StagePlugin, StageSpec};
use super::tap::Taps;
use super::unit::UnitCounts;
use super::usage::{PluginUsage, UsageStatus};
use crate::batch::Position;
use crate::clock::SharedClock;
use crate::engine::{Contract, PluginForm};
use crate::outputs::cut;
use crate::plugin::{LineOrigin, PluginLog, PluginLogs};
use crate::runner::RunnerKind;

pub(super) type Labels = Vec<(&'static str, String)>;

/// The metrics of all stages of a node.
#[derive(Clone)]
pub struct RuntimeMetrics {
    records_in: Family<Labels, Counter>,
    records_out: Family<Labels, Counter>,
    records_rejected: Family<Labels, Counter>,
    bytes_in: Family<Labels, Counter>,
    bytes_out: Family<Labels, Counter>,
    batches_in: Family<Labels, Counter>,
    commits: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    lag: Family<Labels, Gauge>,
    calls: Family<Labels, Histogram, fn() -> Histogram>,
    swaps: Family<Labels, Histogram, fn() -> Histogram>,
    rollbacks: Family<Labels, Counter>,
    of_plugins: PluginMetricFamilies,
}

fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 4.0, 10))
}

/// Finer: how long a stage stands still is what a swap is judged by.
fn swap_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 18))
}

impl RuntimeMetrics {
    /// Enters the metrics into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records_in: Family::default(),
            records_out: Family::default(),
            records_rejected: Family::default(),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            batches_in: Family::default(),
            commits: Family::default(),
            errors: Family::default(),
            lag: Family::default(),
            calls: Family::new_with_constructor(call_seconds),
            swaps: Family::new_with_constructor(swap_seconds),
            rollbacks: Family::default(),
            of_plugins: PluginMetricFamilies::register(registry),
        };
        let registry = registry.sub_registry_with_prefix("stage");
        registry.register(
            "records_in",
            "Records that a stage has read and committed",
            metrics.records_in.clone(),
        );
        registry.register("records_out", "Records that a stage has written", metrics.records_out.clone());
        registry.register(
            "records_rejected",
            "Records that a plugin rejected",
            metrics.records_rejected.clone(),
        );
        registry.register(
            "bytes_in",
            "Bytes of batches that a stage has read and committed",
            metrics.bytes_in.clone(),
        );
        registry.register(
            "bytes_out",
            "Bytes of batches that a stage has written",
            metrics.bytes_out.clone(),
        );
        registry.register(
            "batches_in",
            "Record batches that a stage has read and committed",
            metrics.batches_in.clone(),
        );
        registry.register("commits", "Commits of outputs and offsets", metrics.commits.clone());
        registry.register("errors", "What stopped or delayed a stage, by kind", metrics.errors.clone());
        registry.register(
            "lag",
            "Records between a stage and the end of its partitions",
            metrics.lag.clone(),
        );
        let calls = metrics.calls.clone();
        registry.register_with_unit("plugin_call", "Time of a plugin's calls", Unit::Seconds, calls);
        let swaps = metrics.swaps.clone();
        let help = "Time between two batches while other versions of plugins take over";
        registry.register_with_unit("plugin_swap", help, Unit::Seconds, swaps);
        let help = "Versions of plugins that were taken back by themselves";
        registry.register("plugin_rollbacks", help, metrics.rollbacks.clone());
        metrics
    }
}

/// The counters of one stage. They outlive its restarts.
pub(crate) struct StageMetrics {
    labels: Labels,
    records_in: Counter,
    records_out: Counter,
    records_rejected: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    batches_in: Counter,
    commits: Counter,
    errors: Family<Labels, Counter>,
    /// Of all kinds.
    errors_total: AtomicU64,
    lag: Gauge,
    lags: Mutex<BTreeMap<TopicPartition, i64>>,
    calls: Vec<Histogram>,
    swaps: Histogram,
    rollbacks: Counter,
}

impl StageMetrics {
    pub(crate) fn new(metrics: &RuntimeMetrics, spec: &StageSpec) -> Self {
        let labels: Labels = vec![("pipeline", spec.pipeline.clone()), ("stage", spec.name.clone())];
        let counter = |family: &Family<Labels, Counter>| family.get_or_create(&labels).clone();
        let call = |plugin: &super::StagePlugin| {
            let labels = [labels.clone(), vec![("plugin", plugin.name.clone())]].concat();
            metrics.calls.get_or_create(&labels).clone()
        };
        Self {
            records_in: counter(&metrics.records_in),
            records_out: counter(&metrics.records_out),
            records_rejected: counter(&metrics.records_rejected),
            bytes_in: counter(&metrics.bytes_in),
            bytes_out: counter(&metrics.bytes_out),
            batches_in: counter(&metrics.batches_in),
            commits: counter(&metrics.commits),
            errors: metrics.errors.clone(),
            errors_total: AtomicU64::new(0),
            lag: metrics.lag.get_or_create(&labels).clone(),
            lags: Mutex::default(),
            calls: spec.plugins.iter().map(call).collect(),
            swaps: metrics.swaps.get_or_create(&labels).clone(),
            rollbacks: counter(&metrics.rollbacks),
            labels,
        }
    }

    pub(super) fn observe_call(&self, plugin: usize, time: Duration) {
        self.calls[plugin].observe(time.as_secs_f64());
    }

    pub(crate) fn observe_swap(&self, time: Duration) {
        self.swaps.observe(time.as_secs_f64());
    }

    pub(crate) fn count_error(&self, kind: &'static str) {
        let labels = [self.labels.clone(), vec![("kind", kind.to_owned())]].concat();
        self.errors.get_or_create(&labels).inc();
        self.errors_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_lag(&self, partition: TopicPartition, lag: i64) {
        self.change_lags(|lags| {
            lags.insert(partition, lag.max(0));
        });
    }

    /// Others report the lag of partitions that are theirs now.
    pub(crate) fn forget_lags(&self, partitions: &[TopicPartition]) {
        self.change_lags(|lags| lags.retain(|partition, _| !partitions.contains(partition)));
    }

    fn change_lags(&self, change: impl FnOnce(&mut BTreeMap<TopicPartition, i64>)) {
        let mut lags = self.lags.lock().expect("no code panics while it holds this lock");
        change(&mut lags);
        self.lag.set(lags.values().sum());
    }
}

/// Where a stage is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum StageState {
    /// Opening its ports and instances.
    Starting,
    Running,
    /// It waits for something that is expected to work again.
    Waiting {
        reason: String,
    },
    /// It needs a person; nothing of the batch in question was committed.
    Failed(StageFailure),
    /// It was told to.
    Stopped,
    /// A source or sink: its plugin has returned, because its work is done.
    Finished,
}

/// Why a stage stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageFailure {
    /// `trap`, `timeout`, `memory_limit`, `invalid_output`, `retry`, `stop`, `rejected`, `input`, `start`, `port`
    /// or `worker`.
    pub kind: &'static str,
    pub reason: String,
    pub plugin: Option<String>,
    /// The batch that it happened with.
    pub topic: Option<String>,
    pub partition: Option<i32>,
    /// The first offset that was not processed.
    pub offset: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
}

impl StageFailure {
    pub(crate) fn without_batch(kind: &'static str, reason: &dyn std::fmt::Display) -> Self {
        Self {
            kind,
            reason: cut(&reason.to_string()),
            plugin: None,
            topic: None,
            partition: None,
            offset: None,
            backtrace: Vec::new(),
        }
    }

    /// With the first record that was not processed.
    pub(crate) fn at(self, of: &TopicPartition, offset: i64) -> Self {
        let (topic, partition) = (Some(of.topic.to_string()), Some(of.partition));
        Self { topic, partition, offset: Some(offset), ..self }
    }

    pub(crate) fn of_plugin(kind: &'static str, reason: &dyn std::fmt::Display, plugin: &str) -> Self {
        Self { plugin: Some(plugin.to_owned()), ..Self::without_batch(kind, reason) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginStatus {
    pub name: String,
    /// The number of the version.
    #[serde(skip_serializing_if = "is_zero")]
    pub number: u32,
    /// The start of the component's hash.
    pub version: String,
    pub form: PluginForm,
    pub contract: Option<Contract>,
    pub usage: UsageStatus,
    /// Another version, and the partitions that it is tried on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CanaryStatus {
    pub number: u32,
    pub version: String,
    pub partitions: Vec<i32>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a stage tells whoever keeps the plugins' versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEvent {
    pub pipeline: String,
    pub stage: String,
    pub rolled_back: RolledBack,
}

/// A snapshot of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageStatus {
    pub pipeline: String,
    pub stage: String,
    pub position: Position,
    /// Set if it is no stage, but a source or a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerKind>,
    /// Empty for an ingest or a view, and for a source.
    pub group: String,
    pub from: Vec<String>,
    pub to: Vec<String>,
    /// Where its rejected records go, if that is a topic.
    pub dead_letter: Option<String>,
    pub plugins: Vec<PluginStatus>,
    pub parallelism: u32,
    #[serde(flatten)]
    pub state: StageState,
    /// When the state began, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Here and below: what is committed, as of one moment.
    pub records_in: u64,
    pub records_out: u64,
    pub records_rejected: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub batches_in: u64,
    pub commits: u64,
    /// What stopped or delayed it since it was started.
    pub errors: u64,
    pub lag: i64,
    /// What the last rejected record was rejected for.
    pub last_rejection: Option<String>,
    /// The last version that was taken back by itself.
    pub last_rollback: Option<String>,
    /// Of an ingest or a view: why the last batch that it did not map was not.
    pub last_failure: Option<String>,
}

/// What a stage's tasks share, and others look at.
pub(crate) struct StageShared {
    /// As it was when the stage started: which versions of its plugins it runs now is in `deployments`.
    pub(crate) spec: StageSpec,
    pub(crate) deployments: Deployments,
    events: mpsc::Sender<StageEvent>,
    pub(crate) metrics: StageMetrics,
    /// What the plugin of a source or a sink counts.
    pub(crate) plugin_metrics: PluginMetrics,
    clock: SharedClock,
    logs: Arc<PluginLogs>,
    /// Of those who look at its records.
    pub(crate) taps: Arc<Taps>,
    /// By the plugins' places in the chain.
    usages: Vec<Arc<PluginUsage>>,
    life: Mutex<Life>,
}

/// Its lock also holds the counters together, see `count_commit`.
struct Life {
    state: StageState,
    since_ms: i64,
    last_rejection: Option<String>,
    last_rollback: Option<String>,
    last_failure: Option<String>,
    /// Tasks of a source or sink whose work is done.
    finished: u32,
}

impl StageShared {
    pub(crate) fn new(
        spec: StageSpec,
        metrics: &RuntimeMetrics,
        clock: SharedClock,
        events: mpsc::Sender<StageEvent>,
        logs: Arc<PluginLogs>,
    ) -> Self {
        let metrics_of_plugins = &metrics.of_plugins;
        let metrics = StageMetrics::new(metrics, &spec);
        let life = Life {
            state: StageState::Starting,
            since_ms: clock.wall_ms(),
            last_rejection: None,
            last_rollback: None,
            last_failure: None,
            finished: 0,
        };
        let plugin_metrics = PluginMetrics::new(metrics_of_plugins, &spec);
        let deployments = Deployments::new(spec.plugins.clone(), spec.canary.clone());
        let usages = spec.plugins.iter().map(|_| Arc::default()).collect();
        Self {
            spec,
            deployments,
            events,
            metrics,
            plugin_metrics,
            clock,
            logs,
            taps: Arc::default(),
            usages,
            life: Mutex::new(life),
        }
    }

    /// Decides what follows from a crash of a plugin. What a rollback means for the plugin's versions is for others
    /// to write down.
    pub(crate) fn crashed(&self, crash: Crash<'_>) -> AfterCrash {
        let decided = self.deployments.crashed(crash, &self.clock);
        let AfterCrash::RolledBack(rolled_back) = &decided else { return decided };
        let StageSpec { pipeline, name, .. } = &self.spec;
        let RolledBack { plugin, from, to, reason, .. } = rolled_back;
        tracing::warn!(
            pipeline,
            stage = name,
            plugin,
            from,
            to,
            reason,
            "the plugin's version is taken back"
        );
        self.metrics.rollbacks.inc();
        let told = format!("plugin {plugin}: version {from} was taken back for {to}: {reason}");
        self.life.lock().expect("no code panics while it holds this lock").last_rollback = Some(told);
        let event =
            StageEvent { pipeline: pipeline.clone(), stage: name.clone(), rolled_back: rolled_back.clone() };
        if self.events.try_send(event).is_err() {
            tracing::error!(pipeline, stage = name, "nobody takes down that a version was taken back");
        }
        decided
    }

    /// Moves on to `state`. A failure stays: the tasks that stop after it must not hide it.
    pub(crate) fn set_state(&self, state: StageState) {
        let mut life = self.life.lock().expect("no code panics while it holds this lock");
        if matches!(life.state, StageState::Failed(_)) || life.state == state {
            return;
        }
        life.state = state;
        life.since_ms = self.clock.wall_ms();
    }

    pub(crate) fn set_last_rejection(&self, reason: &str) {
        let mut life = self.life.lock().expect("no code panics while it holds this lock");
        life.last_rejection = Some(reason.to_owned());
    }

    pub(crate) fn set_last_failure(&self, reason: &str) {
        let mut life = self.life.lock().expect("no code panics while it holds this lock");
        life.last_failure = Some(reason.to_owned());
    }

    /// Counts a batch that was mapped on its way.
    pub(crate) fn count_inline(&self, records_in: usize, records_out: usize, rejected: usize, bytes: usize) {
        let _life = self.life.lock().expect("no code panics while it holds this lock");
        let metrics = &self.metrics;
        metrics.records_in.inc_by(records_in as u64);
        metrics.records_out.inc_by(records_out as u64);
        metrics.records_rejected.inc_by(rejected as u64);
        metrics.bytes_in.inc_by(bytes as u64);
        metrics.batches_in.inc();
    }

    /// Counts what was committed. All counters move together: whoever reads them sees what was read beside what
    /// came of it, and a batch that has to be mapped again is not counted twice.
    pub(crate) fn count_commit(&self, counts: &UnitCounts) {
        let _life = self.life.lock().expect("no code panics while it holds this lock");
        let metrics = &self.metrics;
        metrics.records_in.inc_by(counts.records_in);
        metrics.records_out.inc_by(counts.records_out);
        metrics.records_rejected.inc_by(counts.records_rejected);
        metrics.bytes_in.inc_by(counts.bytes_in);
        metrics.bytes_out.inc_by(counts.bytes_out);
        metrics.batches_in.inc_by(counts.batches_in);
        metrics.commits.inc();
    }

    pub(crate) fn is_failed(&self) -> bool {
        let life = self.life.lock().expect("no code panics while it holds this lock");
        matches!(life.state, StageState::Failed(_))
    }

    /// Of the plugin at that place; whatever its version is.
    pub(crate) fn usage(&self, index: usize) -> Arc<PluginUsage> {
        Arc::clone(&self.usages[index])
    }

    /// Where a plugin's lines go, and for a while those who ask find them.
    pub(crate) fn keep_lines(&self, plugin: &StagePlugin, log: Arc<dyn PluginLog>) -> Arc<dyn PluginLog> {
        let StageSpec { pipeline, name, .. } = &self.spec;
        let origin = LineOrigin {
            pipeline: pipeline.clone(),
            stage: name.clone(),
            plugin: plugin.name.clone(),
            version: plugin.version,
        };
        self.logs.keep(origin, log)
    }

    /// It has failed, or its work is done: it does not go on by itself.
    pub(crate) fn is_over(&self) -> bool {
        let life = self.life.lock().expect("no code panics while it holds this lock");
        matches!(life.state, StageState::Failed(_) | StageState::Finished)
    }

    /// One task's work is done.
    pub(crate) fn finished(&self) {
        let mut life = self.life.lock().expect("no code panics while it holds this lock");
        life.finished += 1;
        if life.finished == self.spec.parallelism {
            drop(life);
            self.set_state(StageState::Finished);
        }
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(crate) fn status(&self) -> StageStatus {
        let life = self.life.lock().expect("no code panics while it holds this lock");
        let Self { spec, metrics, .. } = self;
        let deployment = self.deployments.current();
        let canary = |index: usize| {
            let canary = deployment.canary.as_ref().filter(|canary| canary.index == index)?;
            Some(CanaryStatus {
                number: canary.plugin.version,
                version: canary.plugin.plugin.version(),
                partitions: canary.partitions.iter().copied().collect(),
            })
        };
        let plugin = |(index, plugin): (usize, &super::StagePlugin)| PluginStatus {
            name: plugin.name.clone(),
            number: plugin.version,
            version: plugin.plugin.version(),
            form: plugin.plugin.form(),
            contract: plugin.plugin.contract(),
            usage: self.usages[index].status(),
            canary: canary(index),
        };
        StageStatus {
            pipeline: spec.pipeline.clone(),
            stage: spec.name.clone(),
            position: spec.position,
            runner: spec.runner.as_ref().map(|runner| runner.kind),
            group: spec.group.clone(),
            from: spec.from.iter().map(ToString::to_string).collect(),
            to: spec.to.iter().map(ToString::to_string).collect(),
            dead_letter: spec.on_error.dead_letter().map(ToString::to_string),
            plugins: deployment.plugins.iter().enumerate().map(plugin).collect(),
            parallelism: spec.parallelism,
            state: life.state.clone(),
            since_ms: life.since_ms,
            records_in: metrics.records_in.get(),
            records_out: metrics.records_out.get(),
            records_rejected: metrics.records_rejected.get(),
            bytes_in: metrics.bytes_in.get(),
            bytes_out: metrics.bytes_out.get(),
            batches_in: metrics.batches_in.get(),
            commits: metrics.commits.get(),
            errors: metrics.errors_total.load(Ordering::Relaxed),
            lag: metrics.lag.get(),
            last_rejection: life.last_rejection.clone(),
            last_rollback: life.last_rollback.clone(),
            last_failure: life.last_failure.clone(),
        }
    }
}
