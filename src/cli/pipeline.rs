//! `millstream apply`, `validate`, `status` and `pipeline`: pipelines, through the admin listener.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_runtime::engine::{LoadError, PluginEngine};
use millstream_runtime::pipeline::{DirPlugins, PipelineSpec, PluginSource as _, PluginSpec, parse};
use serde_json::{Value, json};

use super::admin_client::{AdminClient, path_segment, problem_text};
use super::failure::Failure;
use super::node_args::{ApplyArgs, PipelineCommand, StatusArgs, ValidateArgs};
use super::output::{self, Output, Table};
use crate::node::{ApplyRequest, plugin_hash};

pub(super) fn apply(args: &ApplyArgs, output: &mut Output) -> Result<(), Failure> {
    let client = AdminClient::new(&args.connection);
    let Upload { request, refused } = upload(&client, &args.file)?;
    if !refused.is_empty() {
        // It can't be applied. The node knows what else is wrong.
        return Err(errors(&problems(&client, &request, refused)?));
    }
    let outcome: Value = client.post("/v1/pipelines", &request)?;
    for warning in outcome["warnings"].as_array().into_iter().flatten() {
        output::remark(problem_text(warning));
    }
    if output.json() {
        return output.document(&outcome);
    }
    let names = |key: &str| {
        let names = outcome[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    output.line(format_args!("applied {}", outcome["pipeline"].as_str().unwrap_or_default()))?;
    let done = [
        ("created_topics", "created topics"),
        ("started", "started"),
        ("restarted", "restarted"),
        ("swapped", "swapped"),
        ("unchanged", "unchanged"),
        ("removed", "removed"),
    ];
    for (key, text) in done {
        let names = names(key);
        if !names.is_empty() {
            output.line(format_args!("  {text}: {names}"))?;
        }
    }
    Ok(())
}

pub(super) fn validate(args: &ValidateArgs, output: &mut Output) -> Result<(), Failure> {
    let client = AdminClient::new(&args.connection);
    let Upload { request, refused } = upload(&client, &args.file)?;
    let problems = problems(&client, &request, refused)?;
    if output.json() {
        output.document(&problems)?;
    } else {
        let warnings = problems.iter().filter(|problem| !is_error(problem));
        warnings.for_each(|warning| output::remark(problem_text(warning)));
    }
    match problems.iter().any(is_error) {
        true => Err(errors(&problems)),
        false if output.json() => Ok(()),
        false => output.line(format_args!("{}: no errors", args.file.display())),
    }
}

fn is_error(problem: &Value) -> bool {
    problem["severity"] == "error"
}

fn errors(problems: &[Value]) -> Failure {
    Failure::Problems(problems.iter().filter(|problem| is_error(problem)).map(problem_text).collect())
}

/// What is wrong with a pipeline, in the order of its file: in the eyes of the node, and with the plugins that it did
/// not get, which it can only call missing.
fn problems(
    client: &AdminClient,
    request: &ApplyRequest,
    refused: Vec<Value>,
) -> Result<Vec<Value>, Failure> {
    let place = |problem: &Value| (problem["line"].as_u64(), problem["column"].as_u64());
    let mut problems: Vec<Value> = client.post("/v1/pipelines/validate", request)?;
    problems.retain(|problem| !refused.iter().any(|refused| place(refused) == place(problem)));
    problems.extend(refused);
    problems.sort_by_key(place);
    Ok(problems)
}

pub(super) fn status(args: &StatusArgs, output: &mut Output) -> Result<(), Failure> {
    let status: Value = AdminClient::new(&args.connection).get("/v1/status")?;
    if output.json() {
        return output.document(&status);
    }
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    output.line(format_args!(
        "node {} of cluster {}, version {}, Kafka clients on {}, {} topics, {} partitions",
        status["node_id"],
        text("cluster_id"),
        text("version"),
        text("kafka"),
        status["topics"],
        status["partitions"],
    ))?;
    let list = |key: &str| status[key].as_array().into_iter().flatten().collect::<Vec<_>>();
    if list("pipelines").is_empty() {
        return output.line("no pipeline is applied: `millstream apply FILE` does it");
    }
    let stages = list("stages");
    if !stages.is_empty() {
        stage_table(&stages, output)?;
    }
    for stage in stages {
        stage_remarks(stage, output)?;
    }
    for pipeline in list("not_running") {
        let name = pipeline["pipeline"].as_str().unwrap_or_default();
        for problem in pipeline["problems"].as_array().into_iter().flatten() {
            let problem = problem_text(problem);
            output.line(format_args!("{name}: not running, and tried again: {problem}"))?;
        }
    }
    for version in list("waiting") {
        let text = |key: &str| version[key].as_str().unwrap_or_default();
        output.line(format_args!(
            "{}/{}: version {} waits for approval: it imports {}, which the plugin is not granted; to run it: {}",
            text("pipeline"),
            text("plugin"),
            version["version"],
            text("needs"),
            text("approve"),
        ))?;
    }
    for file in list("not_deployed") {
        let text = |key: &str| file[key].as_str().unwrap_or_default();
        output.line(format_args!("{}: not deployed: {}", text("file"), text("error")))?;
    }
    Ok(())
}

fn stage_table(stages: &[&Value], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(["PIPELINE", "STAGE", "POSITION", "STATE", "IN", "OUT", "REJECTED", "LAG"]);
    for stage in stages {
        let text = |key: &str| stage[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| stage[key].to_string();
        table.row([
            text("pipeline"),
            text("stage"),
            text(if stage["runner"].is_string() { "runner" } else { "position" }),
            text("state"),
            number("records_in"),
            number("records_out"),
            number("records_rejected"),
            number("lag"),
        ]);
    }
    output.table(&table)
}

/// Why a stage does not run, and what it rejected.
fn stage_remarks(stage: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |key: &str| stage[key].as_str();
    let name = text("stage").unwrap_or_default();
    if let Some(reason) = text("reason") {
        let plugin = text("plugin").map(|plugin| format!(" in plugin {plugin}")).unwrap_or_default();
        let batch = match text("topic") {
            Some(topic) => format!(" at {topic}-{} offset {}", stage["partition"], stage["offset"]),
            None => String::new(),
        };
        let state = text("state").unwrap_or_default();
        output.line(format_args!("{name}: {state}{plugin}{batch}: {reason}"))?;
    }
    for plugin in stage["plugins"].as_array().into_iter().flatten() {
        let canary = &plugin["canary"];
        if canary.is_object() {
            let partitions: Vec<String> =
                canary["partitions"].as_array().into_iter().flatten().map(ToString::to_string).collect();
            output.line(format_args!(
                "{name}: plugin {}: version {} is tried on partitions {}",
                plugin["name"].as_str().unwrap_or_default(),
                canary["number"],
                partitions.join(", ")
            ))?;
        }
    }
    if let Some(told) = text("last_rollback") {
        output.line(format_args!("{name}: {told}"))?;
    }
    if let Some(reason) = text("last_failure") {
        output.line(format_args!("{name}: last batch that was not mapped: {reason}"))?;
    }
    match text("last_rejection") {
        Some(reason) => output.line(format_args!("{name}: last rejected record: {reason}")),
        None => Ok(()),
    }
}

pub(super) fn run(command: PipelineCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        PipelineCommand::List(args) => {
            let names: Vec<String> = AdminClient::new(&args.connection).get("/v1/pipelines")?;
            match output.json() {
                true => output.document(&names),
                false => names.iter().try_for_each(|name| output.line(name)),
            }
        }
        PipelineCommand::Delete(args) => {
            let client = AdminClient::new(&args.connection);
            let removed: Value = client.delete(&format!("/v1/pipelines/{}", path_segment(&args.name)))?;
            match output.json() {
                true => output.document(&removed),
                false => output.line(format_args!("deleted {}", args.name)),
            }
        }
    }
}

/// A pipeline's file and plugins, as a node takes them.
struct Upload {
    request: ApplyRequest,
    /// Problems, as JSON, with plugins that the node did not get.
    refused: Vec<Value>,
}

/// Sends the plugins that the file names.
fn upload(client: &AdminClient, file: &Path) -> Result<Upload, Failure> {
    let unreadable = |source| Failure::Input { path: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let name = file.display().to_string();
    let spec = parse(&name, &text)
        .map_err(|problems| Failure::Problems(problems.iter().map(ToString::to_string).collect()))?;
    let dir = file.parent().unwrap_or(Path::new("")).to_owned();
    let source = DirPlugins { dir };
    let mut plugins = BTreeMap::new();
    let mut refused = Vec::new();
    for plugin in &spec.plugins {
        if plugins.contains_key(&plugin.file) {
            continue;
        }
        match read_plugin(&source, plugin) {
            Ok(bytes) => {
                let sha256 = plugin_hash(&bytes);
                client.put_plugin(&sha256, &bytes, &source.dir.join(&plugin.file))?;
                plugins.insert(plugin.file.clone(), sha256);
            }
            Err((message, remedy)) => refused.push(problem(&spec, plugin, &message, remedy)),
        }
    }
    Ok(Upload { request: ApplyRequest { file: name, text, plugins }, refused })
}

/// The plugin's bytes, or what is wrong with them and what to do. A node would refuse them, too, but does not know which
/// line of which file named them.
fn read_plugin(source: &DirPlugins, plugin: &PluginSpec) -> Result<Vec<u8>, (String, &'static str)> {
    let PluginSpec { name, file, .. } = plugin;
    let bytes = source.read(file).map_err(|error| {
        let remedy = "build the plugin, or correct the path: it is relative to the pipeline's file";
        (format!("cannot read {file:?} of plugin {name:?}: {error}"), remedy)
    })?;
    match PluginEngine::check(&bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            let remedy = match error {
                LoadError::Redpanda(_) => "build the module with redpanda-transform-sdk, for wasm32-wasip1",
                _ => "name the .wasm file that building the plugin for wasm32-wasip2 makes",
            };
            Err((format!("{file:?} of plugin {name:?}: {error}"), remedy))
        }
    }
}

fn problem(spec: &PipelineSpec, plugin: &PluginSpec, message: &str, remedy: &str) -> Value {
    json!({
        "severity": "error",
        "file": spec.file,
        "line": plugin.file_place.line,
        "column": plugin.file_place.column,
        "message": message,
        "remedy": remedy,
    })
}
