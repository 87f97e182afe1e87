//! `millstream plugin inspect`: what a WebAssembly file is, and whether a stage could run it.

use std::fs;

use millstream_runtime::engine::{EngineConfig, PluginEngine, PluginForm};
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::node_args::PluginInspectArgs;
use crate::cli::output::Output;
use crate::cli::up::chain;
use crate::compile_plugin;

/// The interface that the component exports; of a module, whose ABI it is.
fn form_name(form: PluginForm) -> &'static str {
    match form {
        PluginForm::TransformBatch => "transform-batch",
        PluginForm::Transform => "transform",
        PluginForm::Run => "run",
        PluginForm::RedpandaTransform => "redpanda-transform",
    }
}

pub(super) fn run(args: &PluginInspectArgs, output: &mut Output) -> Result<(), Failure> {
    // The address of a node is taken, as everywhere, and not needed.
    let PluginInspectArgs { connection: _, file } = args;
    let bytes = fs::read(file).map_err(|source| Failure::Input { path: file.clone(), source })?;
    // With the node's limits, so that the answer is the node's.
    let compiler = Box::new(compile_plugin::compiler());
    let engine = PluginEngine::new(EngineConfig { compiler, ..EngineConfig::default() });
    let plugin =
        engine.load(&bytes).map_err(|error| Failure::Plugin { path: file.clone(), reason: chain(&error) })?;
    let (form, sha256) = (plugin.form(), crate::node::plugin_hash(&bytes));
    if output.json() {
        return output.document(&json!({
            "file": file, "bytes": bytes.len(), "sha256": sha256, "form": form,
        }));
    }
    output.line(format_args!("{}: a transform, in the form {}", file.display(), form_name(form)))?;
    output.line(format_args!("  {} bytes, sha-256 {sha256}", bytes.len()))?;
    output.line("  every import is one that stages provide")
}
