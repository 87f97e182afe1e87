//! WASI preview 1, except for what wasmtime's does that a guest should not make the host do.

use wasmtime::{Linker, Result};

use super::guest::State;
use crate::engine::WASI;

/// `notsup`: there is no such thing.
const NOT_SUPPORTED: i32 = 58;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, State::wasi)?;
    linker.allow_shadowing(true);
    add_sockets(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// There are none. wasmtime's say so with a line in the node's log for each call, past the limits of a plugin's log.
fn add_sockets(linker: &mut Linker<State>) -> Result<()> {
    linker.func_wrap(WASI, "sock_accept", |_: i32, _: i32, _: i32| NOT_SUPPORTED)?;
    linker.func_wrap(WASI, "sock_recv", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOT_SUPPORTED)?;
    linker.func_wrap(WASI, "sock_send", |_: i32, _: i32, _: i32, _: i32, _: i32| NOT_SUPPORTED)?;
    linker.func_wrap(WASI, "sock_shutdown", |_: i32, _: i32| NOT_SUPPORTED)?;
    Ok(())
}
