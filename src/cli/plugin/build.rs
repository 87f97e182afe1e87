//! `millstream plugin build`: runs a project's commands, makes a component of what they made, and looks at it as a node
//! will.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millstream_runtime::limits::COMPONENT_BYTES_MAX;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::inspect::Findings;
use super::project::Project;
use crate::cli::failure::Failure;
use crate::cli::node_args::PluginBuildArgs;
use crate::cli::output::{self, Output};

pub(super) fn run(args: &PluginBuildArgs, output: &mut Output) -> Result<(), Failure> {
    let project = match &args.dir {
        Some(dir) => Project::read(dir)?,
        None => Project::here()?,
    };
    output.flush()?;
    for command in project.commands() {
        run_command(&project, command)?;
    }
    let component = component(&project)?;
    let findings = Findings::of(&project.component(), &component)?;
    write(&project.component(), &component)?;
    findings.show(project.name(), output)
}

/// Runs one of the project's commands in its directory, without a shell. What it says goes to standard error, since
/// standard output is for the answer.
fn run_command(project: &Project, command: &[String]) -> Result<(), Failure> {
    let [program, arguments @ ..] = command else {
        unreachable!("a project's command has a program");
    };
    output::remark(format_args!("> {}", command.join(" ")));
    let status = Command::new(located(project.dir(), program)?)
        .args(arguments)
        .current_dir(project.dir())
        .envs(project.env())
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Failure::Incomplete(format!("`{}` failed ({status}): see above", command.join(" "))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::Incomplete(format!("`{program}` is not here: {}", project.remedy(program))))
        }
        Err(error) => Err(Failure::Incomplete(format!("can't run `{program}`: {error}"))),
    }
}

/// A program that is named by a path is the project's; others are looked up as the system does.
fn located(dir: &Path, program: &str) -> Result<PathBuf, Failure> {
    if !program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = dir.join(program);
    std::path::absolute(&path).map_err(|source| Failure::Input { path, source })
}

/// What the commands made, as a component: compilers of C and Go write a module with WASI preview 1, for a world that it
/// names itself or plugin.toml does. What has none is taken as it is.
fn component(project: &Project) -> Result<Vec<u8>, Failure> {
    let path = project.module();
    let mut module = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Failure::Plugin {
            path: path.clone(),
            reason: "the build did not make it: does `module` of plugin.toml name what `build` makes?"
                .to_owned(),
        },
        _ => Failure::Input { path: path.clone(), source },
    })?;
    if module.len() > COMPONENT_BYTES_MAX {
        return Ok(module);
    }
    let reason = |error| format!("it can't be made a component: {error:#}");
    let unfit = |error| Failure::Plugin { path: path.clone(), reason: reason(error) };
    if let Some((contract, world)) = project.world() {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(&contract).map_err(unfit)?;
        let world = resolve.select_world(&[package], Some(world)).map_err(unfit)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(unfit)?;
    }
    if !says_what_it_becomes(&module) {
        return Ok(module);
    }
    let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.validate(true).module(&module).map_err(unfit)?;
    let encoder = encoder.adapter(adapter.0, adapter.1).map_err(unfit)?;
    encoder.encode().map_err(unfit)
}

/// Whether bindings of the contract were compiled in. Of damaged modules the engine says what is wrong.
fn says_what_it_becomes(module: &[u8]) -> bool {
    wit_component::metadata::decode(module).is_ok_and(|(without_metadata, _)| without_metadata.is_some())
}

/// Whole or not at all: a directory that is watched for plugins may be where it goes.
fn write(path: &Path, component: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::File { path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(component).map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}
