//! What a stage is, independent of where it runs.

use std::sync::Arc;
use std::time::Duration;

use millstream_record::Compression;

use super::deployment::Canary;
use super::tap::TapFate;
use crate::batch::Position;
use crate::clock::SharedClock;
use crate::grants::Grants;
use crate::limits::PluginLimits;
use crate::plugin::{InstanceConfig, Lent, Plugin, StageNames, TracingLog};
use crate::runner::RunnerSpec;

/// Members of the group that one stage may have on one node.
pub const PARALLELISM_MAX: u32 = 64;
/// Topics a stage may read, and as many it may write.
pub const TOPICS_MAX: usize = 64;
/// Plugins in a chain.
pub const PLUGINS_MAX: usize = 16;

/// What happens to a record that a plugin rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnError {
    /// The stage stops before the batch, and says why.
    Stop,
    /// The record is dropped and counted.
    Skip,
    /// The record goes to this topic, with the cause in its headers.
    DeadLetter(Arc<str>),
}

impl OnError {
    /// What those see who look at rejected records. Where the stage stops for them, nothing is shown.
    pub(crate) fn fate(&self) -> TapFate {
        match self {
            Self::DeadLetter(_) => TapFate::DeadLettered,
            Self::Skip | Self::Stop => TapFate::Skipped,
        }
    }

    /// Where they go, if that is a topic.
    pub(crate) fn dead_letter(&self) -> Option<&Arc<str>> {
        match self {
            Self::DeadLetter(topic) => Some(topic),
            Self::Skip | Self::Stop => None,
        }
    }
}

/// How often, and after which waits, a stage calls a plugin again that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// In a row, at one batch. Beyond them its records count as rejected.
    pub retries: u32,
    /// Before the first one; doubled with each.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl RetryPolicy {
    /// The wait before a retry, which are counted from 0.
    pub(crate) fn backoff(&self, retry: u32) -> Duration {
        let grown = self.backoff.saturating_mul(2_u32.saturating_pow(retry));
        grown.min(self.backoff_max.max(self.backoff))
    }
}

impl Default for RetryPolicy {
    /// About half a minute.
    fn default() -> Self {
        Self { retries: 10, backoff: Duration::from_millis(100), backoff_max: Duration::from_secs(10) }
    }
}

/// One link of a stage's chain.
#[derive(Debug, Clone)]
pub struct StagePlugin {
    pub name: String,
    pub plugin: Arc<Plugin>,
    /// Which of the plugin's versions this is; 0 where there are no versions.
    pub version: u32,
    /// JSON text.
    pub config: String,
    pub limits: PluginLimits,
    /// What it may use beside computing.
    pub grants: Grants,
    /// What it goes back to by itself.
    pub previous: Option<Box<Previous>>,
}

/// The version before.
#[derive(Debug, Clone)]
pub struct Previous {
    pub plugin: StagePlugin,
    /// A version that has worked until then (milliseconds since the Unix epoch) is not to blame for what comes after.
    pub until_ms: i64,
}

impl StagePlugin {
    /// Whether instances of the one do what those of the other do, and go back to the same when they crash.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.version == other.version
            && self.plugin.sha256() == other.plugin.sha256()
            && self.config == other.config
            && self.limits == other.limits
            && self.grants == other.grants
            && match (&self.previous, &other.previous) {
                (None, None) => true,
                (Some(a), Some(b)) => a.until_ms == b.until_ms && a.plugin.same_as(&b.plugin),
                _ => false,
            }
    }

    /// What its instances in that stage are made for.
    pub(crate) fn instance_config(
        &self,
        stage: &StageSpec,
        clock: &SharedClock,
        lent: Lent,
    ) -> InstanceConfig {
        let log = TracingLog {
            pipeline: stage.pipeline.clone(),
            stage: stage.name.clone(),
            plugin: self.name.clone(),
        };
        InstanceConfig {
            config: self.config.clone(),
            limits: self.limits.clone(),
            log: Arc::new(log),
            clock: Arc::clone(clock),
            names: StageNames { plugin: self.name.clone(), from: stage.from.clone(), to: stage.to.clone() },
            lent,
        }
    }

    /// For the metadata of an offset, and for people.
    pub(crate) fn label(&self) -> String {
        match self.version {
            0 => format!("{}@{}", self.name, self.plugin.version()),
            number => format!("{}@v{number}:{}", self.name, self.plugin.version()),
        }
    }
}

/// A stage, ready to run: its plugins are compiled and have accepted their configuration.
#[derive(Debug, Clone)]
pub struct StageSpec {
    pub pipeline: String,
    pub name: String,
    /// Of its plugins in the way of the records.
    pub position: Position,
    /// Set if it is no stage, but a source or a sink, which has one plugin.
    pub runner: Option<RunnerSpec>,
    pub from: Vec<Arc<str>>,
    /// Empty: the stage copies.
    pub plugins: Vec<StagePlugin>,
    pub canary: Option<Canary>,
    /// Outputs that name no topic go to the first one.
    pub to: Vec<Arc<str>>,
    pub group: String,
    pub parallelism: u32,
    pub on_error: OnError,
    pub retry: RetryPolicy,
    pub compression: Compression,
}

/// Who a plugin is to the broker, in Kafka's form. No name has a slash in it, so that a prefix up to one means all of a
/// pipeline, and nothing else.
pub fn plugin_principal(pipeline: &str, plugin: &str) -> String {
    format!("User:plugin/{pipeline}/{plugin}")
}

impl StageSpec {
    /// As whom it reads: the plugin that gets what is read. A stage that copies is on its own.
    pub(crate) fn reads_as(&self) -> String {
        self.principal(self.plugins.first())
    }

    /// As whom it writes: the plugin whose outputs are written.
    pub(crate) fn writes_as(&self) -> String {
        self.principal(self.plugins.last())
    }

    fn principal(&self, plugin: Option<&StagePlugin>) -> String {
        match plugin {
            Some(plugin) => plugin_principal(&self.pipeline, &plugin.name),
            None => format!("User:stage/{}/{}", self.pipeline, self.name),
        }
    }

    /// Whether a stage that runs `self` may go on when `other` is applied, at most with other versions of its plugins.
    pub(crate) fn is_the_stage_of(&self, other: &Self) -> bool {
        self.position == other.position
            && self.runner == other.runner
            && self.from == other.from
            && self.to == other.to
            && self.group == other.group
            && self.parallelism == other.parallelism
            && self.on_error == other.on_error
            && self.retry == other.retry
            && self.compression == other.compression
            && self.plugins.len() == other.plugins.len()
            && self.plugins.iter().zip(&other.plugins).all(|(a, b)| a.name == b.name)
    }
}
