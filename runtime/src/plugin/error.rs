//! What can go wrong in a plugin, and who can do something about it.

use std::time::Duration;

use crate::outputs::OutputError;

/// Why a batch was not transformed. After anything but `Retry` and `Stop` the instance is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    #[error("the plugin trapped: {message}")]
    Trap {
        /// What happened, with the last line that the plugin wrote to standard error.
        message: String,
        /// The guest's functions, innermost first.
        backtrace: Vec<String>,
    },
    #[error("the plugin did not answer within {} ms", .budget.as_millis())]
    Timeout { budget: Duration },
    #[error("the plugin wanted more than its {limit_bytes} bytes of memory")]
    MemoryLimit { limit_bytes: u64 },
    /// It is not to blame: it works as soon as there is memory again.
    #[error("the plugins of this node have used up the {limit_bytes} bytes of plugin.memory.bytes.max")]
    NodeMemory { limit_bytes: u64 },
    #[error("the plugin returned invalid output: {0}")]
    InvalidOutput(#[from] OutputError),
    #[error("the plugin asked to try the batch again: {0}")]
    Retry(String),
    #[error("the plugin stopped the stage: {0}")]
    Stop(String),
}

impl PluginError {
    /// Whether the instance is gone with it.
    pub fn is_crash(&self) -> bool {
        !matches!(self, Self::Retry(_) | Self::Stop(_))
    }

    /// Whether the instance is gone, and the plugin or a record is to blame.
    pub(crate) fn is_the_plugins_crash(&self) -> bool {
        self.is_crash() && !matches!(self, Self::NodeMemory { .. })
    }

    /// The short name under which errors are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::Timeout { .. } => "timeout",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::NodeMemory { .. } => "node_memory",
            Self::InvalidOutput(_) => "invalid_output",
            Self::Retry(_) => "retry",
            Self::Stop(_) => "stop",
        }
    }
}

/// Why there is no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// `init` said no: for whoever wrote the configuration.
    #[error("the plugin refuses its configuration: {reason}")]
    ConfigRefused { reason: String },
    #[error("the plugin failed to start: {0}")]
    Failed(#[source] PluginError),
    /// A transform where a source or a sink should be, or the other way round.
    #[error("the plugin is of another kind than its place in the pipeline")]
    Role,
    #[error("no room for another instance: {message}")]
    NoRoom { message: String },
}

impl StartError {
    /// Of an instance that failed while it was made.
    pub(super) fn failed(error: PluginError) -> Self {
        match error {
            PluginError::NodeMemory { .. } => Self::NoRoom { message: error.to_string() },
            error => Self::Failed(error),
        }
    }
}
