//! Checks a pipeline against the world: its topics, its plugins' files, and the plugins themselves, which are compiled
//! and asked whether they accept their configuration.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Pipeline;
use super::problem::{Place, Problem, Problems, did_you_mean};
use super::relations::{check_cycles, check_groups};
use super::spec::{OnErrorSpec, PipelineSpec, PluginSpec, StageDefinition};
use super::topics::{TopicCatalogue, check_topics};
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::engine::{CompileError, LoadError, PluginEngine};
use crate::limits::COMPONENT_BYTES_MAX;
use crate::plugin::{Instance, InstanceConfig, Plugin, StartError, TracingLog};
use crate::stage::{OnError, StagePlugin, StageSpec};

/// Where a plugin's bytes come from.
pub trait PluginSource {
    /// The bytes of the file that a pipeline names.
    fn read(&self, file: &str) -> io::Result<Vec<u8>>;
}

/// Files relative to a directory: that of the pipeline's file.
pub struct DirPlugins {
    pub dir: PathBuf,
}

impl PluginSource for DirPlugins {
    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        let path = self.dir.join(file);
        // Checked again when it is loaded; here so that a huge file is not read first.
        if std::fs::metadata(&path)?.len() > COMPONENT_BYTES_MAX as u64 {
            return Err(io::Error::other(format!("more than {COMPONENT_BYTES_MAX} bytes")));
        }
        std::fs::read(&path)
    }
}

/// What a validation found.
#[derive(Debug)]
pub struct Validated {
    /// In the order of the file.
    pub problems: Vec<Problem>,
    /// None if one of the problems is an error.
    pub pipeline: Option<Pipeline>,
}

/// Checks `spec`, which is to run beside `others`. Compiles plugins and runs their `init`: call it on a thread that
/// may block, outside of any tokio runtime's workers. When `stop` fires, what is left to compile and to start is
/// given up, which is a problem.
pub fn validate(
    spec: &PipelineSpec,
    engine: &PluginEngine,
    plugins: &dyn PluginSource,
    topics: &dyn TopicCatalogue,
    others: &[PipelineSpec],
    clock: &SharedClock,
    stop: &CancellationToken,
) -> Validated {
    let mut problems = Problems::new(&spec.file);
    check_topics(spec, topics, &mut problems);
    check_groups(spec, others, &mut problems);
    check_cycles(spec, others, &mut problems);
    let loaded = load_plugins(spec, engine, plugins, stop, &mut problems);
    let stages =
        spec.stages.iter().filter_map(|stage| resolve(spec, stage, &loaded, &mut problems)).collect();
    let pipeline = Pipeline { name: spec.name.clone(), topics: spec.topics.clone(), stages };
    if !problems.has_errors() {
        check_configs(spec, &pipeline, clock, stop, &mut problems);
    }
    let pipeline = if problems.has_errors() { None } else { Some(pipeline) };
    Validated { problems: problems.into_sorted(), pipeline }
}

/// Each plugin that a stage uses, by name; one file is compiled once.
fn load_plugins<'a>(
    spec: &'a PipelineSpec,
    engine: &PluginEngine,
    source: &dyn PluginSource,
    stop: &CancellationToken,
    problems: &mut Problems,
) -> BTreeMap<&'a str, Arc<Plugin>> {
    let used = |plugin: &PluginSpec| {
        spec.stages.iter().flat_map(|stage| &stage.plugins).any(|used| used.name == plugin.name)
    };
    let mut by_file: BTreeMap<&str, Option<Arc<Plugin>>> = BTreeMap::new();
    let mut loaded = BTreeMap::new();
    for plugin in &spec.plugins {
        if !used(plugin) {
            let remedy = Some("remove it, or name it in a stage".to_owned());
            problems.warning(plugin.place, format!("plugin {:?} is not used", plugin.name), remedy);
        }
        let entry = by_file.entry(&plugin.file);
        let compiled = entry.or_insert_with(|| load(plugin, engine, source, stop, problems)).clone();
        if let Some(compiled) = compiled {
            loaded.insert(plugin.name.as_str(), compiled);
        }
    }
    loaded
}

fn load(
    plugin: &PluginSpec,
    engine: &PluginEngine,
    source: &dyn PluginSource,
    stop: &CancellationToken,
    problems: &mut Problems,
) -> Option<Arc<Plugin>> {
    let PluginSpec { name, file, file_place, .. } = plugin;
    let bytes = match source.read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let remedy =
                "build the plugin, or correct the path: it is relative to the pipeline's file".to_owned();
            problems.error(
                *file_place,
                format!("cannot read {file:?} of plugin {name:?}: {error}"),
                Some(remedy),
            );
            return None;
        }
    };
    match engine.load_until(stop, &bytes) {
        Ok(plugin) => Some(Arc::new(plugin)),
        Err(error) => {
            let message = format!("{file:?} of plugin {name:?}: {error}");
            problems.error(*file_place, message, load_remedy(&error).map(str::to_owned));
            None
        }
    }
}

const GIVEN_UP: &str = "the check took too long, or the node is stopping: try again";

fn load_remedy(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::Artifact(_) => {
            Some("name the .wasm file that building the plugin for wasm32-wasip2 makes")
        }
        LoadError::Outline(_) | LoadError::Compile(CompileError::Refused { .. }) | LoadError::Contract(_) => {
            Some("build the plugin with the SDK, for wasm32-wasip2")
        }
        LoadError::Compile(CompileError::GivenUp) => Some(GIVEN_UP),
        LoadError::Compile(CompileError::Process { .. }) => Some("see the node's log, and try again"),
        LoadError::Compile(_) => Some("make the plugin smaller: build it with --release"),
        // Nothing is wrong with the file.
        LoadError::Engine(_) => None,
    }
}

fn resolve(
    spec: &PipelineSpec,
    stage: &StageDefinition,
    loaded: &BTreeMap<&str, Arc<Plugin>>,
    problems: &mut Problems,
) -> Option<StageSpec> {
    let mut plugins = Vec::new();
    let mut missing = false;
    for used in &stage.plugins {
        let Some(declared) = spec.plugins.iter().find(|plugin| plugin.name == used.name) else {
            let names = spec.plugins.iter().map(|plugin| plugin.name.as_str());
            let remedy = did_you_mean(&used.name, names)
                .unwrap_or_else(|| format!("add it to \"plugins\": \"{}: {{file: ...}}\"", used.name));
            problems.error(used.place, format!("plugin {:?} is not declared", used.name), Some(remedy));
            missing = true;
            continue;
        };
        let Some(plugin) = loaded.get(used.name.as_str()) else {
            missing = true;
            continue;
        };
        let config = used.config.as_ref().unwrap_or(&declared.config);
        plugins.push(StagePlugin {
            name: used.name.clone(),
            plugin: Arc::clone(plugin),
            config: config.to_string(),
            limits: declared.limits.clone(),
        });
    }
    if missing {
        return None;
    }
    let names = |topics: &[(String, Place)]| topics.iter().map(|(topic, _)| topic.as_str().into()).collect();
    Some(StageSpec {
        pipeline: spec.name.clone(),
        name: stage.name.clone(),
        from: names(&stage.from),
        plugins,
        to: names(&stage.to),
        group: stage.group.clone(),
        parallelism: stage.parallelism,
        on_error: match &stage.on_error {
            OnErrorSpec::Stop => OnError::Stop,
            OnErrorSpec::Skip => OnError::Skip,
            OnErrorSpec::DeadLetter { topic, .. } => OnError::DeadLetter(topic.as_str().into()),
        },
        compression: stage.compression,
    })
}

/// Starts every plugin with its configuration, as the stage will.
fn check_configs(
    spec: &PipelineSpec,
    pipeline: &Pipeline,
    clock: &SharedClock,
    stop: &CancellationToken,
    problems: &mut Problems,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            problems.error(Place::default(), format!("cannot start a thread's timers: {error}"), None);
            return;
        }
    };
    for (stage, definition) in pipeline.stages.iter().zip(&spec.stages) {
        for (plugin, used) in stage.plugins.iter().zip(&definition.plugins) {
            let log = TracingLog {
                pipeline: spec.name.clone(),
                stage: stage.name.clone(),
                plugin: plugin.name.clone(),
            };
            let config = InstanceConfig {
                config: plugin.config.clone(),
                limits: plugin.limits.clone(),
                log: Arc::new(log),
                clock: Arc::clone(clock),
            };
            let started = Instance::start(&plugin.plugin, config);
            let Some(started) = runtime.block_on(stop.run_until_cancelled(started)) else {
                let message = format!("plugin {:?} in stage {:?} was not started", plugin.name, stage.name);
                return problems.error(used.place, message, Some(GIVEN_UP.to_owned()));
            };
            if let Err(error) = started {
                let message = format!("plugin {:?} in stage {:?}: {error}", plugin.name, stage.name);
                let remedy = match error {
                    // Nothing is wrong with the configuration.
                    StartError::NoRoom { .. } => "try again when other stages have stopped",
                    StartError::ConfigRefused { .. } | StartError::Failed(_) => "correct its \"config\"",
                };
                problems.error(used.place, message, Some(remedy.to_owned()));
            }
        }
    }
}
