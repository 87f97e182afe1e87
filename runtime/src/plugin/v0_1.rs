//! Contract 0.1, which plugins keep that were built before there was another: the transforms of today, without a position
//! in the way of the records. Whatever the contract becomes, this is what it was.

use wasmtime::component::{ComponentExportIndex, Func, HasSelf, InstancePre, Linker};
use wasmtime::{Result, Store, error::Context as _};

use super::bindings::BatchOutput as PackedOutput;
use super::bindings::transform::{BatchOutput as TypedOutput, Message};
use super::bindings::types::BatchError;
use super::host::HostState;
use super::instance::Answer;
use super::log::LogLevel;
use crate::batch::InputBatch;
use crate::engine::Interface;

/// What the host offers, and what a transform takes.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../sdk/wit/0.1",
        world: "batch-transformer",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::millstream::plugin::log;
use bindings::millstream::plugin::types::BatchInfo;

pub(crate) const TRANSFORM_BATCH: &str = "millstream:plugin/transform-batch@0.1.0";
pub(crate) const TRANSFORM: &str = "millstream:plugin/transform@0.1.0";

pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> Result<()> {
    log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl log::Host for HostState {
    fn log(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log_line(level, &message);
    }
}

/// A transform whose exports are known by their place.
pub(super) struct TransformPre {
    pre: InstancePre<HostState>,
    interface: Interface,
    init: ComponentExportIndex,
    transform: ComponentExportIndex,
}

/// Its functions in one instance. What they take differs from today's contract, what they return does not.
pub(super) struct Transform {
    interface: Interface,
    transform: Func,
}

impl TransformPre {
    pub(super) fn new(pre: InstancePre<HostState>, interface: Interface) -> Result<Self> {
        let name = match interface {
            Interface::TransformBatch => TRANSFORM_BATCH,
            Interface::Transform => TRANSFORM,
        };
        let component = pre.component();
        let export = component.get_export_index(None, name).with_context(|| format!("no export {name}"))?;
        let function = |function: &str| {
            let index = component.get_export_index(Some(&export), function);
            index.with_context(|| format!("{name} has no function {function}"))
        };
        let (init, transform) = (function("init")?, function("transform")?);
        Ok(Self { pre, interface, init, transform })
    }

    pub(super) fn interface(&self) -> Interface {
        self.interface
    }

    pub(super) async fn start(
        &self,
        store: &mut Store<HostState>,
        config: &str,
    ) -> Result<(Transform, Result<(), String>)> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let init = instance.get_typed_func::<(&str,), (Result<(), String>,)>(&mut *store, &self.init)?;
        let transform = instance.get_func(&mut *store, self.transform).context("no function transform")?;
        let (answer,) = init.call_async(&mut *store, (config,)).await?;
        Ok((Transform { interface: self.interface, transform }, answer))
    }
}

impl Transform {
    pub(super) fn is_typed(&self) -> bool {
        matches!(self.interface, Interface::Transform)
    }

    pub(super) async fn call(
        &self,
        store: &mut Store<HostState>,
        input: &InputBatch,
    ) -> Result<Result<Answer, BatchError>> {
        let info = batch_info(input);
        match self.interface {
            Interface::TransformBatch => {
                type Output = (Result<PackedOutput, BatchError>,);
                let call = self.transform.typed::<(BatchInfo<'_>, &[u8]), Output>(&*store)?;
                let (output,) = call.call_async(store, (info, &*input.section)).await?;
                Ok(output.map(Answer::Packed))
            }
            Interface::Transform => {
                type Output = (Result<TypedOutput, BatchError>,);
                let keys = super::typed::header_keys(input);
                let headers = super::typed::headers(input, &keys);
                let messages = super::typed::messages(input, &headers);
                let call = self.transform.typed::<(BatchInfo<'_>, &[Message<'_>]), Output>(&*store)?;
                let (output,) = call.call_async(store, (info, &*messages)).await?;
                Ok(output.map(Answer::Typed))
            }
        }
    }
}

fn batch_info(input: &InputBatch) -> BatchInfo<'_> {
    BatchInfo {
        topic: &input.topic,
        partition: input.partition.unsigned_abs(),
        base_offset: input.base_offset,
        base_timestamp: input.base_timestamp,
        append_time: input.append_time,
        record_count: input.count(),
    }
}
