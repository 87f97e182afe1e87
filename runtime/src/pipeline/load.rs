//! The plugins of a pipeline, compiled: from the files that it names, or in the versions that were deployed since.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::problem::Problems;
use super::spec::{PipelineSpec, PluginSpec};
use crate::engine::{CompileError, LoadError, PluginEngine};
use crate::grants::Grants;
use crate::limits::{COMPONENT_BYTES_MAX, PluginLimits};
use crate::plugin::Plugin;
use crate::stage::StagePlugin;

/// Where a plugin's bytes come from.
pub trait PluginSource {
    /// The bytes of the file that a pipeline names.
    fn read(&self, file: &str) -> io::Result<Vec<u8>>;

    /// The versions of the plugin of that name, where it has some: they then count, and not what the file says.
    fn versions(&self, _plugin: &str) -> Option<Versions> {
        None
    }

    /// The bytes of a version.
    fn read_version(&self, sha256: &str) -> io::Result<Vec<u8>> {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no plugin with the hash {sha256}")))
    }
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

/// A version of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginVersion {
    pub number: u32,
    pub sha256: String,
    /// Where a stage states none.
    pub config: serde_json::Value,
    pub limits: PluginLimits,
    pub grants: Grants,
}

/// Which of a plugin's versions run.
#[derive(Debug, Clone, PartialEq)]
pub struct Versions {
    pub active: PluginVersion,
    /// What is gone back to if the active one crashes before that time, in milliseconds since the Unix epoch.
    pub previous: Option<(PluginVersion, i64)>,
    /// A version that is tried on some partitions of the stage's input.
    pub canary: Option<(PluginVersion, BTreeSet<i32>)>,
}

/// A plugin, ready to be started.
pub(super) struct Loaded {
    pub(super) active: LoadedVersion,
    pub(super) previous: Option<(LoadedVersion, i64)>,
    pub(super) canary: Option<(LoadedVersion, BTreeSet<i32>)>,
}

pub(super) struct LoadedVersion {
    plugin: Arc<Plugin>,
    number: u32,
    config: serde_json::Value,
    limits: PluginLimits,
    grants: Grants,
}

impl Loaded {
    /// Those that may run.
    pub(super) fn versions(&self) -> impl Iterator<Item = &LoadedVersion> {
        [&self.active].into_iter().chain(self.canary.iter().map(|(version, _)| version))
    }
}

impl LoadedVersion {
    pub(super) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// For people, behind the plugin's name.
    pub(super) fn label(&self) -> String {
        if self.number == 0 { String::new() } else { format!(" (version {})", self.number) }
    }

    fn new(plugin: Arc<Plugin>, version: PluginVersion) -> Self {
        let PluginVersion { number, sha256: _, config, limits, grants } = version;
        Self { plugin, number, config, limits, grants }
    }

    /// As a link of a stage's chain, which may have a configuration of its own for it.
    pub(super) fn for_stage(&self, name: &str, config: Option<&serde_json::Value>) -> StagePlugin {
        StagePlugin {
            name: name.to_owned(),
            plugin: Arc::clone(&self.plugin),
            version: self.number,
            config: config.unwrap_or(&self.config).to_string(),
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            previous: None,
        }
    }
}

/// What loading takes.
pub(super) struct Loader<'a> {
    pub(super) engine: &'a PluginEngine,
    pub(super) source: &'a dyn PluginSource,
    pub(super) stop: &'a CancellationToken,
}

/// Each plugin that a stage uses, by name; one file is compiled once.
pub(super) fn load_plugins<'a>(
    spec: &'a PipelineSpec,
    loader: &Loader<'_>,
    problems: &mut Problems,
) -> BTreeMap<&'a str, Loaded> {
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
        let found = match loader.source.versions(&plugin.name) {
            Some(versions) => loader.load_versions(plugin, versions, problems),
            None => {
                let entry = by_file.entry(&plugin.file);
                let compiled = entry.or_insert_with(|| loader.load_file(plugin, problems)).clone();
                compiled.map(|compiled| unversioned(plugin, compiled))
            }
        };
        if let Some(found) = found {
            loaded.insert(plugin.name.as_str(), found);
        }
    }
    loaded
}

fn unversioned(plugin: &PluginSpec, compiled: Arc<Plugin>) -> Loaded {
    let (config, limits, grants) = (plugin.config.clone(), plugin.limits.clone(), plugin.grants.clone());
    let active = LoadedVersion { plugin: compiled, number: 0, config, limits, grants };
    Loaded { active, previous: None, canary: None }
}

impl Loader<'_> {
    fn load_file(&self, plugin: &PluginSpec, problems: &mut Problems) -> Option<Arc<Plugin>> {
        let what = format!("{:?} of plugin {:?}", plugin.file, plugin.name);
        let remedy = "build the plugin, or correct the path: it is relative to the pipeline's file";
        self.load(plugin, &what, self.source.read(&plugin.file), remedy, problems)
    }

    fn load_versions(
        &self,
        plugin: &PluginSpec,
        versions: Versions,
        problems: &mut Problems,
    ) -> Option<Loaded> {
        let load = |version: PluginVersion, problems: &mut Problems| {
            let what = format!("version {} of plugin {:?}", version.number, plugin.name);
            let bytes = self.source.read_version(&version.sha256);
            let loaded = self.load(plugin, &what, bytes, "deploy it again", problems)?;
            Some(LoadedVersion::new(loaded, version))
        };
        let active = load(versions.active, problems)?;
        let canary = match versions.canary {
            Some((version, partitions)) => Some((load(version, problems)?, partitions)),
            None => None,
        };
        // Nothing runs it: without it there is no way back, which is no reason not to go on.
        let mut ignored = Problems::new("");
        let previous =
            versions.previous.and_then(|(version, until_ms)| Some((load(version, &mut ignored)?, until_ms)));
        Some(Loaded { active, previous, canary })
    }

    fn load(
        &self,
        plugin: &PluginSpec,
        what: &str,
        bytes: io::Result<Vec<u8>>,
        missing_remedy: &str,
        problems: &mut Problems,
    ) -> Option<Arc<Plugin>> {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("cannot read {what}: {error}");
                problems.error(plugin.file_place, message, Some(missing_remedy.to_owned()));
                return None;
            }
        };
        match self.engine.load_until(self.stop, &bytes) {
            Ok(loaded) => Some(Arc::new(loaded)),
            Err(error) => {
                let message = format!("{what}: {error}");
                problems.error(plugin.file_place, message, load_remedy(&error, &bytes).map(str::to_owned));
                None
            }
        }
    }
}

pub(super) const GIVEN_UP: &str = "the check took too long, or the node is stopping: try again";

fn load_remedy(error: &LoadError, wasm: &[u8]) -> Option<&'static str> {
    const MODULE: &str = "build the module with redpanda-transform-sdk, for wasm32-wasip1";
    match error {
        LoadError::Artifact(_) => {
            Some("name the .wasm file that building the plugin for wasm32-wasip2 makes")
        }
        LoadError::Outline(_) | LoadError::Compile(CompileError::Refused { .. })
            if PluginEngine::is_module(wasm) =>
        {
            Some(MODULE)
        }
        LoadError::Outline(_) | LoadError::Compile(CompileError::Refused { .. }) | LoadError::Contract(_) => {
            Some("build the plugin with the SDK, for wasm32-wasip2")
        }
        LoadError::Redpanda(_) => Some(MODULE),
        LoadError::Compile(CompileError::GivenUp) => Some(GIVEN_UP),
        LoadError::Compile(CompileError::Process { .. }) => Some("see the node's log, and try again"),
        LoadError::Compile(_) => Some("make the plugin smaller: build it with --release"),
        // Nothing is wrong with the file.
        LoadError::Engine(_) => None,
    }
}
