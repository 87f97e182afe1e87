//! A plugin's project: a directory with a `plugin.toml`, which says how the plugin is built and where it ends up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::failure::Failure;

const FILE: &str = "plugin.toml";
/// Where a project has the contract.
const CONTRACT: &str = "wit";

/// `plugin.toml`. Its paths are relative to the project's directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    /// Commands, each a program and its arguments.
    build: Vec<Vec<String>>,
    /// Variables of their environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What the commands make: a component, or a module that is one but for its wrapping.
    module: PathBuf,
    /// Of the contract in [`CONTRACT`], what the module is to become, where it does not say so itself.
    world: Option<String>,
    component: PathBuf,
    /// What `millstream plugin deploy` applies.
    pipeline: Option<PathBuf>,
    /// Where the programs come from, for whoever has not got them.
    #[serde(default)]
    tools: BTreeMap<String, String>,
}

/// A project, as it was read.
#[derive(Debug)]
pub(super) struct Project {
    dir: PathBuf,
    manifest: Manifest,
}

impl Project {
    /// The project in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::Usage(format!(
                    "{} does not exist: go to a plugin's directory, or make one with `millstream plugin new`",
                    path.display()
                )));
            }
            Err(source) => return Err(Failure::Input { path, source }),
        };
        let manifest = toml::from_str::<Manifest>(&text).map_err(|error| error.to_string());
        let manifest = manifest.and_then(|manifest| match manifest.build.iter().any(Vec::is_empty) {
            true => Err("a command in `build` is empty: write [\"PROGRAM\", \"ARGUMENT\", ...]".to_owned()),
            false => Ok(manifest),
        });
        let manifest = manifest.map_err(|reason| Failure::Plugin { path, reason })?;
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// The project of the directory that a command is run in.
    pub(super) fn here() -> Result<Self, Failure> {
        Self::read(Path::new(""))
    }

    pub(super) fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The directory that commands are run in.
    pub(super) fn dir(&self) -> &Path {
        if self.dir.as_os_str().is_empty() { Path::new(".") } else { &self.dir }
    }

    /// The commands, each with at least a program.
    pub(super) fn commands(&self) -> &[Vec<String>] {
        &self.manifest.build
    }

    /// What the commands find in their environment, beside what is there.
    pub(super) fn env(&self) -> &BTreeMap<String, String> {
        &self.manifest.env
    }

    pub(super) fn module(&self) -> PathBuf {
        self.dir.join(&self.manifest.module)
    }

    /// Where the contract is, and the world of it that the module is to become.
    pub(super) fn world(&self) -> Option<(PathBuf, &str)> {
        self.manifest.world.as_deref().map(|world| (self.dir.join(CONTRACT), world))
    }

    pub(super) fn component(&self) -> PathBuf {
        self.dir.join(&self.manifest.component)
    }

    pub(super) fn pipeline(&self) -> Result<PathBuf, Failure> {
        let pipeline = self.manifest.pipeline.as_ref().map(|pipeline| self.dir.join(pipeline));
        pipeline.ok_or_else(|| {
            let reason = "it names no `pipeline`: name a pipeline file, or say which plugin this is, as PIPELINE/PLUGIN";
            Failure::Plugin { path: self.dir.join(FILE), reason: reason.to_owned() }
        })
    }

    /// How to get `program`.
    pub(super) fn remedy(&self, program: &str) -> &str {
        let remedy = self.manifest.tools.get(program);
        remedy.map_or("install it, or name another one in `build` of plugin.toml", String::as_str)
    }
}
