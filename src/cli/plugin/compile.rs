//! Compiling for the command line, as a node would. What was compiled once is kept for the user, so that `plugin build` and
//! each `plugin test` after it don't take the 13 seconds that a plugin in Python takes.

use std::env;
use std::path::{Path, PathBuf};

use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::limits::INSTANCES_MAX;
use millstream_runtime::plugin::Plugin;

use crate::cli::failure::Failure;
use crate::cli::up::chain;
use crate::compile_plugin;

/// Compiled plugins that are kept, of a few megabytes each, up to 100.
const KEPT_MAX: usize = 8;

/// Compiles what is, or will be, in `file`. The error says why a node would refuse it.
pub(super) fn load(file: &Path, bytes: &[u8]) -> Result<Plugin, Failure> {
    let compiler = Box::new(compile_plugin::compiler());
    let cache_dir = user_cache().map(|cache| cache.join("millstream/compiled"));
    let engine = PluginEngine::new(EngineConfig {
        compiler,
        cache_dir,
        instances_max: INSTANCES_MAX,
        ..EngineConfig::default()
    });
    let plugin = engine.load(bytes);
    engine.forget_oldest(KEPT_MAX);
    plugin.map_err(|error| Failure::Plugin { path: file.to_owned(), reason: chain(&error) })
}

/// Where this user's programs keep what they can make again; none for a user who has no home.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}
