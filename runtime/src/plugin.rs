//! A compiled plugin, and the instances that run it.
//!
//! ```text
//! Plugin (shared, immutable) --start--> Instance (one Store, one task) --transform(batch)--> Transformed
//!                                          any trap or timeout: discarded
//! ```

mod bindings;
mod call;
mod error;
mod host;
mod instance;
mod log;
mod stdio;
mod typed;

use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::engine::{EngineState, PluginForm};

pub use error::{PluginError, StartError};
pub use instance::{Instance, InstanceConfig};
pub use log::{LogLevel, PluginLog, TracingLog};

pub(crate) use host::{HostState, link_host};

/// A component that keeps the contract, compiled and linked.
pub struct Plugin {
    engine: Arc<EngineState>,
    sha256: [u8; 32],
    pre: Pre,
}

enum Pre {
    TransformBatch(bindings::BatchTransformerPre<HostState>),
    Transform(bindings::TransformerPre<HostState>),
}

impl Plugin {
    pub(crate) fn new(
        engine: Arc<EngineState>,
        sha256: [u8; 32],
        form: PluginForm,
        pre: InstancePre<HostState>,
    ) -> wasmtime::Result<Self> {
        let pre = match form {
            PluginForm::TransformBatch => Pre::TransformBatch(bindings::BatchTransformerPre::new(pre)?),
            PluginForm::Transform => Pre::Transform(bindings::TransformerPre::new(pre)?),
        };
        Ok(Self { engine, sha256, pre })
    }

    /// Which of the two interfaces the host calls.
    pub fn form(&self) -> PluginForm {
        match self.pre {
            Pre::TransformBatch(_) => PluginForm::TransformBatch,
            Pre::Transform(_) => PluginForm::Transform,
        }
    }

    /// Identifies the plugin's version: the hash of the component.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The start of the hash, enough for people and for the metadata of an offset.
    pub fn version(&self) -> String {
        crate::engine::hex(&self.sha256[..6])
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("version", &self.version()).field("form", &self.form()).finish()
    }
}

#[cfg(test)]
mod tests;
