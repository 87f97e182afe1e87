//! What a stage is, independent of where it runs.

use std::sync::Arc;

use millstream_record::Compression;

use crate::limits::PluginLimits;
use crate::plugin::Plugin;

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

/// One link of a stage's chain.
#[derive(Debug, Clone)]
pub struct StagePlugin {
    pub name: String,
    pub plugin: Arc<Plugin>,
    /// JSON text.
    pub config: String,
    pub limits: PluginLimits,
}

/// A stage, ready to run: its plugins are compiled and have accepted their configuration.
#[derive(Debug, Clone)]
pub struct StageSpec {
    pub pipeline: String,
    pub name: String,
    pub from: Vec<Arc<str>>,
    /// Empty: the stage copies.
    pub plugins: Vec<StagePlugin>,
    /// Outputs that name no topic go to the first one.
    pub to: Vec<Arc<str>>,
    pub group: String,
    pub parallelism: u32,
    pub on_error: OnError,
    pub compression: Compression,
}

impl StageSpec {
    /// Whether a stage that runs `self` may go on as it is when `other` is applied.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let plugin = |a: &StagePlugin, b: &StagePlugin| {
            a.name == b.name
                && a.plugin.sha256() == b.plugin.sha256()
                && a.config == b.config
                && a.limits == b.limits
        };
        self.from == other.from
            && self.to == other.to
            && self.group == other.group
            && self.parallelism == other.parallelism
            && self.on_error == other.on_error
            && self.compression == other.compression
            && self.plugins.len() == other.plugins.len()
            && self.plugins.iter().zip(&other.plugins).all(|(a, b)| plugin(a, b))
    }

    /// What an offset's commit says about who made the outputs: the plugins' versions.
    pub(crate) fn commit_metadata(&self) -> Arc<str> {
        let versions: Vec<String> = self
            .plugins
            .iter()
            .map(|plugin| format!("{}@{}", plugin.name, plugin.plugin.version()))
            .collect();
        versions.join(",").into()
    }
}
