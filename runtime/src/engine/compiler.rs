//! From WebAssembly to machine code. A trait, because a node compiles in a process of its own with limits: wasmtime
//! does not regard slow or greedy compilation as a security bug, and a component of a few megabytes can make it take
//! gigabytes and minutes.
//!
//! ```text
//! ChildCompiler --component on stdin--> the same binary, limited: compile_in_child
//!               <--code on stdout------
//! ```

mod child;
mod in_child;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::artifact::{self, Artifact};

pub use child::ChildCompiler;
pub use in_child::compile_in_child;

/// Address space of a compilation, the binary's own included. Measured: a plugin of the SDK takes tens of megabytes, one
/// of 30 MB in thousands of functions a few hundred.
const MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// What a compilation may compute. A plugin of the SDK takes a fraction of a second.
const CPU_TIME_MAX: Duration = Duration::from_secs(40);
/// On a machine that is busy with other things, the CPU time takes longer than that.
const WALL_TIME_MAX: Duration = Duration::from_secs(60);
/// Machine code is a few times the size of its component.
const CODE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why a plugin did not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("compile the plugin: {message}")]
    Refused { message: String },
    #[error("compiling the plugin took more than {} s", .limit.as_secs())]
    TooSlow { limit: Duration },
    #[error("compiling the plugin took more than {} MiB of memory", .limit_bytes >> 20)]
    TooMuchMemory { limit_bytes: u64 },
    #[error("the plugin's machine code has more than {} MiB", .limit_bytes >> 20)]
    TooMuchCode { limit_bytes: u64 },
    #[error("compiling the plugin was given up")]
    GivenUp,
    #[error("the process that compiles the plugin: {message}")]
    Process { message: String },
}

impl CompileError {
    pub(crate) fn refused(error: &wasmtime::Error) -> Self {
        Self::Refused { message: format!("{error:#}") }
    }
}

/// Makes machine code for `engine`. Whoever implements this is trusted: the code is run as it is.
pub trait Compiler: Send + Sync {
    /// Blocks. May end early, with [`CompileError::GivenUp`], once `stop` fires.
    fn compile(
        &self,
        engine: &wasmtime::Engine,
        wasm: &[u8],
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, CompileError>;
}

/// Compiles on the calling thread, without any limit: for components that are known, as in tests and benchmarks.
pub struct InProcessCompiler;

impl Compiler for InProcessCompiler {
    fn compile(
        &self,
        engine: &wasmtime::Engine,
        wasm: &[u8],
        _stop: &CancellationToken,
    ) -> Result<Vec<u8>, CompileError> {
        precompile(engine, wasm).map_err(|error| CompileError::refused(&error))
    }
}

fn precompile(engine: &wasmtime::Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    match artifact::check(wasm) {
        Ok(Artifact::CoreModule) => engine.precompile_module(wasm),
        // Of what is neither, the compiler says what is wrong.
        Ok(Artifact::Component) | Err(_) => engine.precompile_component(wasm),
    }
}

#[cfg(test)]
mod tests;
