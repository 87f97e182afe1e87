//! A compiled plugin, and the instances that run it.
//!
//! ```text
//! Plugin (shared, immutable) --start--> Instance (one Store, one task) --transform(batch)--> Transformed
//!                                          any trap or timeout: discarded
//! ```
//!
//! A plugin is a component of our own contract, or a module of Redpanda's data transforms (`redpanda`).

mod bindings;
mod call;
mod error;
mod host;
mod instance;
mod kept;
mod lent;
mod log;
mod redpanda;
mod runner;
mod stdio;
mod ticks;
mod typed;
mod v0_1;

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::engine::{Contract, EngineState, Export, Interface, PluginForm};
use crate::grants::Capability;

pub use error::{PluginError, StartError};
pub use instance::{Instance, InstanceConfig, StageNames};
pub use kept::{ANSWER_LINES_MAX, KeptLine, KeptLines, LineFilter, LineOrigin, PluginLogs};
pub use lent::Lent;
pub use log::{LogLevel, PluginLog, TracingLog};

pub(crate) use host::{HostState, link_host};
pub(crate) use redpanda::{RedpandaLinker, RedpandaPre};
pub(crate) use runner::{RunEnd, RunnerInstance, RunnerState, link_runner};
pub(crate) use typed::message_bytes;
pub(crate) use v0_1::{TRANSFORM as TRANSFORM_V0_1, TRANSFORM_BATCH as TRANSFORM_BATCH_V0_1};

/// A component or a module that keeps its contract, compiled and linked.
pub struct Plugin {
    engine: Arc<EngineState>,
    sha256: [u8; 32],
    /// Interfaces that it imports and not everybody may.
    needs: BTreeSet<Capability>,
    pre: Pre,
}

enum Pre {
    Component(ComponentPre),
    Runner(bindings::RunnerPre<RunnerState>),
    Redpanda(RedpandaPre),
}

enum ComponentPre {
    TransformBatch(bindings::BatchTransformerPre<HostState>),
    Transform(bindings::TransformerPre<HostState>),
    V0_1(v0_1::TransformPre),
}

impl Plugin {
    pub(crate) fn new(
        engine: Arc<EngineState>,
        sha256: [u8; 32],
        export: Export,
        needs: BTreeSet<Capability>,
        pre: InstancePre<HostState>,
    ) -> wasmtime::Result<Self> {
        let pre = match (export.contract, export.interface) {
            (Contract::V0_1, interface) => ComponentPre::V0_1(v0_1::TransformPre::new(pre, interface)?),
            (Contract::V0_2, Interface::TransformBatch) => {
                ComponentPre::TransformBatch(bindings::BatchTransformerPre::new(pre)?)
            }
            (Contract::V0_2, Interface::Transform) => {
                ComponentPre::Transform(bindings::TransformerPre::new(pre)?)
            }
        };
        Ok(Self { engine, sha256, needs, pre: Pre::Component(pre) })
    }

    /// A producer or consumer plugin.
    pub(crate) fn runner(
        engine: Arc<EngineState>,
        sha256: [u8; 32],
        needs: BTreeSet<Capability>,
        pre: InstancePre<RunnerState>,
    ) -> wasmtime::Result<Self> {
        let pre = Pre::Runner(bindings::RunnerPre::new(pre)?);
        Ok(Self { engine, sha256, needs, pre })
    }

    pub(crate) fn redpanda(engine: Arc<EngineState>, sha256: [u8; 32], pre: RedpandaPre) -> Self {
        Self { engine, sha256, needs: BTreeSet::new(), pre: Pre::Redpanda(pre) }
    }

    /// How records come in and out.
    pub fn form(&self) -> PluginForm {
        match &self.pre {
            Pre::Component(ComponentPre::TransformBatch(_)) => PluginForm::TransformBatch,
            Pre::Component(ComponentPre::Transform(_)) => PluginForm::Transform,
            Pre::Component(ComponentPre::V0_1(pre)) => pre.interface().into(),
            Pre::Runner(_) => PluginForm::Run,
            Pre::Redpanda(_) => PluginForm::RedpandaTransform,
        }
    }

    /// Which version of the contract it was built against; none if that is not ours.
    pub fn contract(&self) -> Option<Contract> {
        match &self.pre {
            Pre::Component(ComponentPre::TransformBatch(_) | ComponentPre::Transform(_)) | Pre::Runner(_) => {
                Some(Contract::V0_2)
            }
            Pre::Component(ComponentPre::V0_1(_)) => Some(Contract::V0_1),
            Pre::Redpanda(_) => None,
        }
    }

    /// Interfaces that it imports and not everybody may.
    pub fn needs(&self) -> &BTreeSet<Capability> {
        &self.needs
    }

    /// Identifies the plugin's version: the hash of its file.
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
