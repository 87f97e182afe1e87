//! A stage: reads topics as a member of a consumer group, maps batches through its plugins, writes topics.
//!
//! ```text
//! port.poll ──> jobs ──> worker thread: open, transform, assemble ──> units ──> port.commit
//!   (async)    bounded     (its own OS thread, owns the instances)   bounded     (async, one at a time)
//! ```
//!
//! A batch's outputs and its offset are in one commit, so that a transaction can wrap it. While one commit is in
//! flight the worker goes on, and what queues for it meanwhile becomes one unit. A unit goes out when nothing is
//! queued, and in the middle of a job when its bytes or its age reach their limit: batches are small and plugins
//! make much of little, so that a fetch of 4 MiB can stand for any amount of memory and time.

mod appending;
mod assemble;
mod chain;
mod chains;
mod cpu_share;
mod dead_letter;
mod deployment;
mod isolate;
pub mod letter_headers;
mod letters;
mod metrics;
mod mill;
mod partitioner;
mod plugin_metrics;
mod port;
mod rejections;
mod spec;
mod status;
mod tap;
mod task;
mod topic;
mod unit;
mod usage;
mod usage_metrics;
mod worker;

pub mod memory;
#[cfg(any(test, feature = "testing"))]
pub mod port_contract;

pub use deployment::{Canary, RolledBack};
pub use metrics::RuntimeMetrics;
pub use port::{
    Commit, CommittedOffset, FetchedPartition, OutputBatch, Polled, PortError, PortFactory, PortRequest,
    RunnerPort, SeekTo, StagePort, TopicPartition,
};
pub use spec::{
    OnError, PARALLELISM_MAX, PLUGINS_MAX, Previous, RetryPolicy, StagePlugin, StageSpec, TOPICS_MAX,
    plugin_principal,
};
pub use status::{CanaryStatus, PluginStatus, StageEvent, StageFailure, StageState, StageStatus};
pub use tap::{Tap, TapError, TapFate, TapFilter, TapNews, TapRecord, TapSide};
pub use topic::{TopicInfo, TopicRules};
pub use usage::UsageStatus;

pub(crate) use assemble::Assembler;
pub(crate) use chain::Chain;
pub(crate) use chains::{Chains, start_chains};
pub(crate) use dead_letter::{Cause, Original};
pub(crate) use deployment::{AfterCrash, Crash, Deployment};
pub(crate) use letters::Letter;
pub(crate) use mill::Halt;
pub(crate) use partitioner::partition_of_key;
pub(crate) use plugin_metrics::{MetricError, PluginMetrics};
pub(crate) use rejections::{Rejection, Rejections};
pub(crate) use status::StageShared;
pub(crate) use tap::TappedBatch;
pub(crate) use task::run_stage;
pub(crate) use topic::OutputTopic;
pub(crate) use unit::UnitCounts;
pub(crate) use usage::{CallUsage, InstanceUsage};

#[cfg(test)]
mod tests;
