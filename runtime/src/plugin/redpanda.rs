//! Modules that were built with Redpanda's SDK for data transforms: core modules of WASI preview 1, whose `main` never
//! returns. It asks for one batch after the other, and waits inside of that call until there is one:
//!
//! ```text
//! Guest::call ── Job ──> Desk ──> read_batch_header ─> read_next_record ─> write_record ─> ... (the guest, on a fiber)
//!             <── Job ──      <── read_batch_header, the next time
//! ```
//!
//! So an instance is a future that runs `main`, and is polled while there is a batch for it. Time counts only then.
//! Key, value and headers cross the border encoded as in a Kafka record, so that nothing is converted.

mod abi;
mod desk;
mod environment;
mod guest;
mod job;
mod schema_registry;
mod wasi;

use wasmtime::error::Context as _;
use wasmtime::{ExternType, InstancePre, Linker, Module, Result};

use crate::engine::{MEMORY, START};

pub(super) use guest::Guest;

/// What modules may import.
pub(crate) struct RedpandaLinker(Linker<guest::State>);

/// A module whose imports and exports have the types that they should have.
pub(crate) struct RedpandaPre(InstancePre<guest::State>);

impl RedpandaLinker {
    pub(crate) fn new(engine: &wasmtime::Engine) -> Result<Self> {
        let mut linker = Linker::new(engine);
        wasi::add_to_linker(&mut linker)?;
        abi::add_to_linker(&mut linker)?;
        schema_registry::add_to_linker(&mut linker)?;
        Ok(Self(linker))
    }

    pub(crate) fn link(&self, module: &Module) -> Result<RedpandaPre> {
        let export = |name: &str| module.get_export(name).with_context(|| format!("no export {name:?}"));
        let ExternType::Func(start) = export(START)? else {
            wasmtime::bail!("its export {START:?} is not a function");
        };
        if start.params().len() + start.results().len() > 0 {
            wasmtime::bail!("its function {START:?} takes or returns something");
        }
        let ExternType::Memory(_) = export(MEMORY)? else {
            wasmtime::bail!("its export {MEMORY:?} is not a memory");
        };
        Ok(RedpandaPre(self.0.instantiate_pre(module)?))
    }
}

#[cfg(test)]
mod tests;
