//! Redpanda's schema registry, as a broker answers that has none. A module that makes a client and never asks it imports
//! all of these functions, unless its linker has found out; so importing them is no reason to refuse it.

use wasmtime::{Caller, Linker, Result};

use super::guest::State;
use crate::engine::SCHEMA_REGISTRY;

/// There is no registry.
const NOT_ENABLED: i32 = -1;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(SCHEMA_REGISTRY, "check_abi_version_0", || {})?;
    let name = "get_schema_definition_len";
    linker.func_wrap(SCHEMA_REGISTRY, name, move |caller: Caller<'_, State>, _: i32, _: i32| {
        refuse(caller, name)
    })?;
    let name = "get_schema_definition";
    linker.func_wrap(SCHEMA_REGISTRY, name, move |caller: Caller<'_, State>, _: i32, _: i32, _: i32| {
        refuse(caller, name)
    })?;
    let name = "get_subject_schema_len";
    linker.func_wrap(
        SCHEMA_REGISTRY,
        name,
        move |caller: Caller<'_, State>, _: i32, _: i32, _: i32, _: i32| refuse(caller, name),
    )?;
    for name in ["get_subject_schema", "create_subject_schema"] {
        linker.func_wrap(
            SCHEMA_REGISTRY,
            name,
            move |caller: Caller<'_, State>, _: i32, _: i32, _: i32, _: i32, _: i32| refuse(caller, name),
        )?;
    }
    Ok(())
}

fn refuse(mut caller: Caller<'_, State>, function: &'static str) -> i32 {
    let state = caller.data_mut();
    state.warn(&format!("{function} of Redpanda's schema registry was called: this node has none"));
    state.registry_called(function);
    NOT_ENABLED
}
