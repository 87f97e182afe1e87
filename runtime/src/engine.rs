//! The one wasmtime engine of the process: made when the first plugin is loaded, since a broker without
//! plugins should not pay for it.
//!
//! ```text
//! bytes -> artifact (what is it?) -> outline (imports, exports, sizes) -> contract -> cache or compiler -> Plugin
//! ```
//!
//! What can be told without compiling is told first: compiling is what a hostile component makes expensive.

mod artifact;
mod cache;
mod compiler;
mod config;
mod contract;
mod cores;
mod memory;
mod metrics;
mod outline;
mod redpanda;
mod ticker;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use wasmtime::component::Linker;

use crate::clock::SystemClock;
use crate::limits::INSTANCES_MAX;
use crate::plugin::{HostState, Plugin, RedpandaLinker, RunnerState, link_host, link_runner};

pub use artifact::ArtifactError;
pub use compiler::{ChildCompiler, CompileError, Compiler, InProcessCompiler, compile_in_child};
pub use contract::{Contract, ContractError, PluginForm};
pub use metrics::register as register_metrics;
pub use outline::OutlineError;
pub use redpanda::RedpandaError;

pub(crate) use cache::hex;
pub(crate) use config::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
pub(crate) use contract::{Export, Interface};
pub(crate) use cores::{Cores, HeldTime, Place};
pub(crate) use memory::MemoryBudget;
pub(crate) use redpanda::{ABI_VERSIONS, MEMORY, SCHEMA_REGISTRY, START, TRANSFORM, WASI};

use artifact::Artifact;
use cache::{Code, CompileCache};
use ticker::Ticker;

/// How often the epoch advances: the resolution of every time limit.
const EPOCH_TICK: Duration = Duration::from_millis(5);

/// How the engine is made.
pub struct EngineConfig {
    /// Where compiled code is kept; without one each process compiles anew.
    pub cache_dir: Option<PathBuf>,
    /// Live instances at most, over all stages.
    pub instances_max: u32,
    /// Plugins that compute at the same time, on a core each.
    pub cores_max: u32,
    /// Linear memory of all plugins together.
    pub memory_bytes_max: u64,
    /// What turns WebAssembly into machine code.
    pub compiler: Box<dyn Compiler>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        // One more, for a check: it starts one plugin at a time.
        Self {
            cache_dir: None,
            instances_max: INSTANCES_MAX + 1,
            cores_max: machine_cores(),
            memory_bytes_max: u64::MAX,
            compiler: Box::new(InProcessCompiler),
        }
    }
}

/// Cores that this process may use.
pub fn machine_cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// Why bytes did not become a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Outline(#[from] OutlineError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Contract(#[from] ContractError),
    #[error(transparent)]
    Redpanda(#[from] RedpandaError),
    #[error("start the WebAssembly engine: {0}")]
    Engine(String),
}

/// Compiles and checks plugins.
pub struct PluginEngine {
    config: EngineConfig,
    state: Mutex<Option<Arc<EngineState>>>,
}

/// What exists once the engine does.
pub(crate) struct EngineState {
    pub(crate) engine: wasmtime::Engine,
    linker: Linker<HostState>,
    runner: Linker<RunnerState>,
    redpanda: RedpandaLinker,
    cache: Option<CompileCache>,
    pub(crate) cores: Arc<Cores>,
    pub(crate) memory: Arc<MemoryBudget>,
    _ticker: Ticker,
}

impl PluginEngine {
    pub fn new(config: EngineConfig) -> Self {
        Self { config, state: Mutex::new(None) }
    }

    /// True once a plugin has been loaded.
    pub fn is_started(&self) -> bool {
        self.state.lock().expect("no code panics while it holds this lock").is_some()
    }

    /// Live instances of all components, where they are pooled.
    pub fn instances(&self) -> u64 {
        let state = self.state.lock().expect("no code panics while it holds this lock");
        let metrics = state.as_ref().and_then(|state| state.engine.pooling_allocator_metrics());
        metrics.map_or(0, |metrics| metrics.component_instances())
    }

    /// Linear memory of all plugins together.
    pub fn memory_bytes(&self) -> u64 {
        let state = self.state.lock().expect("no code panics while it holds this lock");
        state.as_ref().map_or(0, |state| state.memory.bytes())
    }

    /// What plugins have waited for a core, all together.
    pub fn waited_for_cores(&self) -> Duration {
        let state = self.state.lock().expect("no code panics while it holds this lock");
        state.as_ref().map_or(Duration::ZERO, |state| state.cores.waited())
    }

    /// Whether these bytes may be a plugin, as far as that can be told without compiling them.
    pub fn check(wasm: &[u8]) -> Result<(), LoadError> {
        match artifact::check(wasm)? {
            Artifact::Component => Ok(contract::check_outline(&outline::read(wasm)?)?),
            Artifact::CoreModule => redpanda::check_outline(&outline::read(wasm)?),
        }
    }

    /// Whether these bytes are a module, as Redpanda's data transforms are, and no component.
    pub(crate) fn is_module(wasm: &[u8]) -> bool {
        artifact::check(wasm) == Ok(Artifact::CoreModule)
    }

    /// Checks, compiles and links a plugin. Takes tens of milliseconds and more: call it on a thread that
    /// may block.
    pub fn load(&self, wasm: &[u8]) -> Result<Plugin, LoadError> {
        self.load_until(&CancellationToken::new(), wasm)
    }

    /// Like [`Self::load`], but compiling is given up when `stop` fires.
    pub fn load_until(&self, stop: &CancellationToken, wasm: &[u8]) -> Result<Plugin, LoadError> {
        Self::check(wasm)?;
        let state = self.state()?;
        let sha256: [u8; 32] = Sha256::digest(wasm).into();
        let component = match self.code(&state, &sha256, wasm, stop)? {
            Code::Component(component) => component,
            Code::Module(module) => {
                let pre = state.redpanda.link(&module).map_err(RedpandaError::link)?;
                return Ok(Plugin::redpanda(state, sha256, pre));
            }
        };
        let needs = contract::needs(&component);
        if contract::is_runner(&component) {
            let pre = state.runner.instantiate_pre(&component).map_err(ContractError::link)?;
            let plugin = Plugin::runner(Arc::clone(&state), sha256, needs, pre);
            return plugin.map_err(|error| ContractError::link(error).into());
        }
        let export = contract::export(&component)?;
        let pre = state.linker.instantiate_pre(&component).map_err(ContractError::link)?;
        Plugin::new(Arc::clone(&state), sha256, export, needs, pre)
            .map_err(|error| ContractError::link(error).into())
    }

    /// Removes compiled code of components that are not among `sha256s`.
    pub fn forget_others(&self, sha256s: &BTreeSet<String>) {
        if let Some(dir) = &self.config.cache_dir {
            CompileCache::new(dir.clone()).retain(sha256s);
        }
    }

    /// Removes all compiled code but what was compiled last: so many files of it.
    pub fn forget_oldest(&self, files_kept: usize) {
        if let Some(dir) = &self.config.cache_dir {
            CompileCache::new(dir.clone()).retain_newest(files_kept);
        }
    }

    fn code(
        &self,
        state: &EngineState,
        sha256: &[u8; 32],
        wasm: &[u8],
        stop: &CancellationToken,
    ) -> Result<Code, LoadError> {
        if let Some(cache) = &state.cache
            && let Some(code) = cache.get(&state.engine, sha256)
        {
            return Ok(code);
        }
        let code = self.config.compiler.compile(&state.engine, wasm, stop)?;
        // Before it is kept: what does not load would not load later either.
        let loaded = cache::load_own_code(&state.engine, &code);
        let loaded = loaded.map_err(|error| CompileError::refused(&error))?;
        if let Some(cache) = &state.cache {
            cache.put(&state.engine, sha256, &code);
        }
        Ok(loaded)
    }

    fn state(&self) -> Result<Arc<EngineState>, LoadError> {
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        if let Some(state) = &*state {
            return Ok(Arc::clone(state));
        }
        let made = Arc::new(self.start().map_err(|error| LoadError::Engine(format!("{error:#}")))?);
        *state = Some(Arc::clone(&made));
        Ok(made)
    }

    fn start(&self) -> wasmtime::Result<EngineState> {
        let engine = config::engine(self.config.instances_max)?;
        let mut linker = Linker::new(&engine);
        link_host(&mut linker)?;
        let mut runner = Linker::new(&engine);
        link_runner(&mut runner)?;
        let redpanda = RedpandaLinker::new(&engine)?;
        let ticker = Ticker::start(&engine, EPOCH_TICK)?;
        let cache = self.config.cache_dir.clone().map(CompileCache::new);
        let cores = Cores::new(self.config.cores_max, SystemClock::shared(), EPOCH_TICK / 2);
        let memory = MemoryBudget::new(self.config.memory_bytes_max);
        Ok(EngineState { engine, linker, runner, redpanda, cache, cores, memory, _ticker: ticker })
    }
}

#[cfg(test)]
mod tests;
