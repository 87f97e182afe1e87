//! `millstream apply`, `validate`, `status` and `pipeline`: pipelines, through the admin listener.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_runtime::pipeline::{DirPlugins, PluginSource as _, parse};
use serde_json::Value;

use super::admin_client::{AdminClient, problem_text};
use super::failure::Failure;
use super::node_args::{ApplyArgs, PipelineCommand, StatusArgs, ValidateArgs};
use super::output::{self, Output, Table};
use crate::node::{ApplyRequest, plugin_hash};

pub(super) fn apply(args: &ApplyArgs, output: &mut Output) -> Result<(), Failure> {
    let client = AdminClient::new(&args.connection);
    let request = upload(&client, &args.file)?;
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
    let request = upload(&client, &args.file)?;
    let problems: Vec<Value> = client.post("/v1/pipelines/validate", &request)?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.iter().partition(|problem| problem["severity"] == "error");
    if output.json() {
        output.document(&problems)?;
    } else {
        warnings.iter().for_each(|warning| output::remark(problem_text(warning)));
    }
    match errors.is_empty() {
        true if output.json() => Ok(()),
        true => output.line(format_args!("{}: no errors", args.file.display())),
        false => Err(Failure::Problems(errors.into_iter().map(problem_text).collect())),
    }
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
    let stages: Vec<&Value> = status["stages"].as_array().into_iter().flatten().collect();
    if stages.is_empty() {
        return output.line("no pipeline is applied: `millstream apply FILE` does it");
    }
    let mut table = Table::new(["PIPELINE", "STAGE", "STATE", "IN", "OUT", "REJECTED", "LAG"]);
    for stage in &stages {
        let text = |key: &str| stage[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| stage[key].to_string();
        table.row([
            text("pipeline"),
            text("stage"),
            text("state"),
            number("records_in"),
            number("records_out"),
            number("records_rejected"),
            number("lag"),
        ]);
    }
    output.table(&table)?;
    for stage in stages {
        let name = stage["stage"].as_str().unwrap_or_default();
        if let Some(reason) = stage["reason"].as_str() {
            let plugin =
                stage["plugin"].as_str().map(|plugin| format!(" in plugin {plugin}")).unwrap_or_default();
            let batch = match stage["topic"].as_str() {
                Some(topic) => format!(" at {topic}-{} offset {}", stage["partition"], stage["offset"]),
                None => String::new(),
            };
            output.line(format_args!(
                "{name}: {}{plugin}{batch}: {reason}",
                stage["state"].as_str().unwrap_or_default()
            ))?;
        }
        if let Some(reason) = stage["last_rejection"].as_str() {
            output.line(format_args!("{name}: last rejected record: {reason}"))?;
        }
    }
    Ok(())
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
            let removed: Value = client.delete(&format!("/v1/pipelines/{}", args.name))?;
            match output.json() {
                true => output.document(&removed),
                false => output.line(format_args!("deleted {}", args.name)),
            }
        }
    }
}

/// Sends the plugins that the file names, and says what the file says of them.
fn upload(client: &AdminClient, file: &Path) -> Result<ApplyRequest, Failure> {
    let unreadable = |source| Failure::Input { path: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let name = file.display().to_string();
    let spec = parse(&name, &text)
        .map_err(|problems| Failure::Problems(problems.iter().map(ToString::to_string).collect()))?;
    let dir = file.parent().unwrap_or(Path::new("")).to_owned();
    let source = DirPlugins { dir };
    let mut plugins = BTreeMap::new();
    for plugin in &spec.plugins {
        // A file that can't be read is a problem of the pipeline, and reported with the others.
        let Ok(bytes) = source.read(&plugin.file) else { continue };
        let sha256 = plugin_hash(&bytes);
        client.put_plugin(&sha256, &bytes)?;
        plugins.insert(plugin.file.clone(), sha256);
    }
    Ok(ApplyRequest { file: name, text, plugins })
}
