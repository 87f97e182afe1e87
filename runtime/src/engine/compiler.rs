//! From WebAssembly to machine code. A trait, because compiling hostile code is best done in a process of its own
//! with limits: wasmtime does not regard slow compilation as a security bug.

/// Why a component did not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compile the component: {message}")]
pub struct CompileError {
    pub message: String,
}

impl CompileError {
    pub(crate) fn new(error: &wasmtime::Error) -> Self {
        Self { message: format!("{error:#}") }
    }
}

/// Makes machine code for `engine`. Whoever implements this is trusted: the code is run as it is.
pub trait Compiler: Send + Sync {
    fn compile(&self, engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Vec<u8>, CompileError>;
}

/// Compiles on the calling thread.
pub struct InProcessCompiler;

impl Compiler for InProcessCompiler {
    fn compile(&self, engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
        engine.precompile_component(wasm).map_err(|error| CompileError::new(&error))
    }
}
