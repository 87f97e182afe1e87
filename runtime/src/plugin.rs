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
mod v0_1;

use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::engine::{Contract, EngineState, Export, PluginForm};

pub use error::{PluginError, StartError};
pub use instance::{Instance, InstanceConfig};
pub use log::{LogLevel, PluginLog, TracingLog};

pub(crate) use host::{HostState, link_host};
pub(crate) use v0_1::{TRANSFORM as TRANSFORM_V0_1, TRANSFORM_BATCH as TRANSFORM_BATCH_V0_1};

/// A component that keeps the contract, compiled and linked.
pub struct Plugin {
    engine: Arc<EngineState>,
    sha256: [u8; 32],
    pre: Pre,
}

enum Pre {
    TransformBatch(bindings::BatchTransformerPre<HostState>),
    Transform(bindings::TransformerPre<HostState>),
    V0_1(v0_1::TransformPre),
}

impl Plugin {
    pub(crate) fn new(
        engine: Arc<EngineState>,
        sha256: [u8; 32],
        export: Export,
        pre: InstancePre<HostState>,
    ) -> wasmtime::Result<Self> {
        let pre = match (export.contract, export.form) {
            (Contract::V0_1, form) => Pre::V0_1(v0_1::TransformPre::new(pre, form)?),
            (Contract::V0_2, PluginForm::TransformBatch) => {
                Pre::TransformBatch(bindings::BatchTransformerPre::new(pre)?)
            }
            (Contract::V0_2, PluginForm::Transform) => Pre::Transform(bindings::TransformerPre::new(pre)?),
        };
        Ok(Self { engine, sha256, pre })
    }

    /// Which of the two interfaces the host calls.
    pub fn form(&self) -> PluginForm {
        match &self.pre {
            Pre::TransformBatch(_) => PluginForm::TransformBatch,
            Pre::Transform(_) => PluginForm::Transform,
            Pre::V0_1(pre) => pre.form(),
        }
    }

    /// Which version of the contract it was built against.
    pub fn contract(&self) -> Contract {
        match &self.pre {
            Pre::TransformBatch(_) | Pre::Transform(_) => Contract::V0_2,
            Pre::V0_1(_) => Contract::V0_1,
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
