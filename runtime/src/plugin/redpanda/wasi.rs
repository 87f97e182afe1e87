//! WASI preview 1, except for what wasmtime's does that a guest should not make the host do.

use wasmtime::{Caller, Extern, Linker, Result};

use super::abi::{Buffer, parts_of};
use super::guest::State;
use crate::engine::{MEMORY, WASI};
use crate::plugin::stdio::WRITE_BYTES_MAX;

const SUCCESS: i32 = 0;
/// `badf`: no such file is open.
const BAD_FILE: i32 = 8;
/// `notsup`: there is no such thing.
const NOT_SUPPORTED: i32 = 58;

/// Buffers of a write that are looked at, for the first that is not empty.
const BUFFERS_MAX: u32 = 1024;
/// A buffer's place and its length.
const BUFFER_BYTES: u32 = 8;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, State::wasi)?;
    linker.allow_shadowing(true);
    add_sockets(linker)?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |caller: Caller<'_, State>, file: i32, at: u32, count: u32, written: u32| {
            fd_write(caller, file, Buffer { at, length: count }, written)
        },
    )?;
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

/// There are no files but standard output and error. Of what is large a part is written, and the guest comes back with the
/// rest: wasmtime's function would fail, which makes Rust's `println!` panic.
fn fd_write(mut caller: Caller<'_, State>, file: i32, buffers: Buffer, written: u32) -> Result<i32> {
    // Also of a module that is still being instantiated.
    let memory = caller.get_export(MEMORY).and_then(Extern::into_memory);
    let memory = memory.expect("a module that was linked exports its memory");
    let (mut memory, state) = parts_of(memory, &mut caller);
    let stream = match file {
        1 => &state.stdout,
        2 => &state.stderr,
        _ => return Ok(BAD_FILE),
    };
    let length = buffers.length.min(BUFFERS_MAX) * BUFFER_BYTES;
    let (buffers, _) = memory.get(Buffer { at: buffers.at, length })?.as_chunks::<4>();
    let buffers = buffers
        .chunks_exact(2)
        .map(|pair| Buffer { at: u32::from_le_bytes(pair[0]), length: u32::from_le_bytes(pair[1]) });
    let mut taken = 0;
    if let Some(Buffer { at, length }) = buffers.into_iter().find(|buffer| buffer.length > 0) {
        taken = length.min(WRITE_BYTES_MAX as u32);
        stream.append(memory.get(Buffer { at, length: taken })?);
    }
    memory.put(written, &taken.to_le_bytes())?;
    Ok(SUCCESS)
}
