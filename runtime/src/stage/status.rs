//! What a stage tells about itself: a snapshot for people.

use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::sync::mpsc;

use super::cpu_share::{CpuAccount, CpuAccounts};
use super::deployment::{AfterCrash, Crash, Deployments, RolledBack};
use super::metrics::{RuntimeMetrics, StageMetrics};
use super::plugin_metrics::PluginMetrics;
use super::port::TopicPartition;
use super::spec::{StagePlugin, StageSpec, plugin_principal};
use super::tap::Taps;
use super::unit::UnitCounts;
use super::usage::{PluginUsage, UsageStatus};
use crate::batch::Position;
use crate::clock::SharedClock;
use crate::engine::{Contract, PluginForm};
use crate::environment::Environment;
use crate::outputs::cut;
use crate::plugin::{InstanceConfig, Lent, LineOrigin, PluginLog, PluginLogs};
use crate::runner::RunnerKind;

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
    /// Who it is to the broker.
    pub principal: String,
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
    environment: Environment,
    /// What the plugins count, by their places in the chain.
    plugin_metrics: Vec<Arc<PluginMetrics>>,
    clock: SharedClock,
    logs: Arc<PluginLogs>,
    /// Of those who look at its records.
    pub(crate) taps: Arc<Taps>,
    /// By the plugins' places in the chain.
    usages: Vec<Arc<PluginUsage>>,
    cpu_accounts: CpuAccounts,
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
        environment: Environment,
    ) -> Self {
        let count =
            |plugin: &StagePlugin| PluginMetrics::new(&metrics.of_plugins, &spec.pipeline, &plugin.name);
        let plugin_metrics = spec.plugins.iter().map(|plugin| Arc::new(count(plugin))).collect();
        let usages = metrics.usages(&spec);
        let metrics = StageMetrics::new(metrics, &spec);
        let life = Life {
            state: StageState::Starting,
            since_ms: clock.wall_ms(),
            last_rejection: None,
            last_rollback: None,
            last_failure: None,
            finished: 0,
        };
        let deployments = Deployments::new(spec.plugins.clone(), spec.canary.clone());
        Self {
            spec,
            deployments,
            events,
            metrics,
            environment,
            plugin_metrics,
            clock,
            logs,
            taps: Arc::default(),
            usages,
            cpu_accounts: CpuAccounts::default(),
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
    pub(crate) fn count_inline(&self, counts: &UnitCounts) {
        let _life = self.life.lock().expect("no code panics while it holds this lock");
        self.metrics.count(counts);
    }

    /// Counts what was committed. All counters move together: whoever reads them sees what was read beside what
    /// came of it, and a batch that has to be mapped again is not counted twice.
    pub(crate) fn count_commit(&self, counts: &UnitCounts) {
        let _life = self.life.lock().expect("no code panics while it holds this lock");
        self.metrics.count(counts);
        self.metrics.commits.inc();
    }

    pub(crate) fn is_failed(&self) -> bool {
        let life = self.life.lock().expect("no code panics while it holds this lock");
        matches!(life.state, StageState::Failed(_))
    }

    /// Of the plugin at that place; whatever its version is.
    pub(crate) fn usage(&self, index: usize) -> Arc<PluginUsage> {
        Arc::clone(&self.usages[index])
    }

    /// What that version of a plugin may take of the processor.
    pub(crate) fn cpu_account(&self, plugin: &StagePlugin) -> Arc<CpuAccount> {
        let percent = plugin.limits.cpu_percent_max;
        self.cpu_accounts.of(plugin.label(), percent, self.clock.monotonic())
    }

    pub(crate) fn forget_rollback(&self) {
        self.life.lock().expect("no code panics while it holds this lock").last_rollback = None;
    }

    /// What an instance is made for, at that place in the chain. Its lines go to the log, and for a while those who ask find
    /// them.
    pub(crate) fn instance_config(&self, index: usize, plugin: &StagePlugin) -> InstanceConfig {
        let lent = Lent {
            grants: plugin.grants.clone(),
            environment: self.environment.clone(),
            metrics: Arc::clone(&self.plugin_metrics[index]),
        };
        let mut config = plugin.instance_config(&self.spec, &self.clock, lent);
        config.log = self.keep_lines(plugin, config.log);
        config
    }

    fn keep_lines(&self, plugin: &StagePlugin, log: Arc<dyn PluginLog>) -> Arc<dyn PluginLog> {
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
            principal: plugin_principal(&spec.pipeline, &plugin.name),
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
            errors: metrics.errors_total(),
            lag: metrics.lag(),
            last_rejection: life.last_rejection.clone(),
            last_rollback: life.last_rollback.clone(),
            last_failure: life.last_failure.clone(),
        }
    }
}
