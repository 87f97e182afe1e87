//! The contract as Rust, generated from `sdk/wit/0.2`. Records are lent to the guest and owned when they come back.

mod batch {
    wasmtime::component::bindgen!({
        path: "../sdk/wit/0.2",
        world: "batch-transformer",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

mod typed {
    wasmtime::component::bindgen!({
        path: "../sdk/wit/0.2",
        world: "transformer",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "millstream:plugin/types": super::batch::millstream::plugin::types,
            "millstream:plugin/log": super::batch::millstream::plugin::log,
        },
    });
}

pub(super) use batch::exports::millstream::plugin::transform_batch::BatchOutput;
pub(super) use batch::millstream::plugin::{log, types};
pub(super) use batch::{BatchTransformer, BatchTransformerPre};
pub(super) use typed::exports::millstream::plugin::transform;
pub(super) use typed::{Transformer, TransformerPre};

/// What sources and sinks import and export, and transforms import of the same.
mod run {
    wasmtime::component::bindgen!({
        path: "../sdk/wit/0.2",
        world: "runner",
        imports: { default: async },
        exports: { default: async },
        with: {
            "millstream:plugin/log": super::batch::millstream::plugin::log,
            "millstream:plugin/files.file": super::super::runner::OpenFile,
            "millstream:plugin/secrets.secret": super::super::lent::SecretHandle,
        },
    });
}

pub(super) use run::exports::millstream::plugin::run::RunError;
pub(super) use run::millstream::plugin as imports;
pub(super) use run::{Runner, RunnerPre};
