//! `millstream plugin list|versions|deploy|promote|rollback`, through the admin listener.

use std::fs;

use serde_json::{Value, json};

use super::project::Project;
use crate::admin::{ListedPlugin, ListedPlugins};
use crate::cli::admin_client::{AdminClient, path_segment, problem_text};
use crate::cli::failure::Failure;
use crate::cli::node_args::{
    AdminConnection, ApplyArgs, PluginDeployArgs, PluginName, PluginRollbackArgs, PluginVersionsArgs,
    StatusArgs,
};
use crate::cli::output::{self, Output, Table};
use crate::cli::pipeline;
use crate::cli::timestamp;
use crate::node::{DeployRequest, RollbackRequest, Version, plugin_hash};

/// Of a hash, enough for people.
const HASH_SHOWN: usize = 12;

pub(super) fn list(args: &StatusArgs, output: &mut Output) -> Result<(), Failure> {
    let all: ListedPlugins = AdminClient::new(&args.connection).get("/v1/versions")?;
    if output.json() {
        return output.document(&all);
    }
    let mut table = Table::new(["PLUGIN", "VERSION", "SHA-256", "SINCE", "PREVIOUS", "TRIED", "WAITS"]);
    for (pipeline, plugins) in &all {
        for (plugin, ListedPlugin { versions, .. }) in plugins {
            let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let tried = versions.canary.as_ref().map_or_else(
                || "-".to_owned(),
                |canary| format!("{} on {}", canary.version, partitions(&canary.partitions)),
            );
            table.row([
                format!("{pipeline}/{plugin}"),
                versions.active.to_string(),
                short(&versions.active().sha256),
                timestamp::format(versions.active_since_ms),
                number(versions.previous),
                tried,
                number(versions.waiting.as_ref().map(|waiting| waiting.version.number)),
            ]);
        }
    }
    output.table(&table)
}

pub(super) fn versions(args: &PluginVersionsArgs, output: &mut Output) -> Result<(), Failure> {
    let listed = find(&args.connection, &args.name)?;
    if output.json() {
        return output.document(&listed);
    }
    let versions = listed.versions;
    let mut table = Table::new(["VERSION", "SHA-256", "DEPLOYED", "CONFIG", "GRANTS", "STATE"]);
    let mut row = |version: &Version, state: String| {
        let grants = version.grants.texts().join(", ");
        table.row([
            version.number.to_string(),
            short(&version.sha256),
            timestamp::format(version.deployed_ms),
            version.config.to_string(),
            if grants.is_empty() { "-".to_owned() } else { grants },
            state,
        ]);
    };
    for version in &versions.versions {
        let state = if version.number == versions.active {
            "runs".to_owned()
        } else if let Some(canary) = versions.canary.as_ref().filter(|c| c.version == version.number) {
            format!("is tried on {}", partitions(&canary.partitions))
        } else if let Some(taken_back) = &version.taken_back {
            format!("taken back at {}: {}", timestamp::format(taken_back.at_ms), taken_back.reason)
        } else if versions.previous == Some(version.number) {
            "previous".to_owned()
        } else {
            String::new()
        };
        row(version, state);
    }
    if let Some(waiting) = &versions.waiting {
        row(&waiting.version, format!("waits for approval: it needs {}", waiting.needs_text()));
    }
    output.table(&table)
}

/// What is listed of a plugin.
pub(super) fn find(connection: &AdminConnection, name: &PluginName) -> Result<ListedPlugin, Failure> {
    let mut all: ListedPlugins = AdminClient::new(connection).get("/v1/versions")?;
    let PluginName { pipeline, plugin } = name;
    let listed = all.get_mut(pipeline).and_then(|plugins| plugins.remove(plugin));
    listed.ok_or_else(|| Failure::Admin {
        address: connection.admin.clone(),
        reason: format!("no plugin is called {pipeline}/{plugin}: `millstream plugin list` lists them"),
    })
}

pub(super) fn deploy(args: &PluginDeployArgs, output: &mut Output) -> Result<(), Failure> {
    let Some(name) = &args.name else {
        let file = Project::here()?.pipeline()?;
        return pipeline::apply(&ApplyArgs { connection: args.connection.clone(), file }, output);
    };
    let path = args.file.clone().map_or_else(|| Project::here().map(|project| project.component()), Ok)?;
    let bytes = fs::read(&path).map_err(|source| Failure::Input { path: path.clone(), source })?;
    let client = AdminClient::new(&args.connection);
    let sha256 = plugin_hash(&bytes);
    client.put_plugin(&sha256, &bytes, &path)?;
    let partitions = args.partitions.as_ref().map(|partitions| partitions.iter().copied().collect());
    let config = args.config.clone();
    let request = DeployRequest { sha256: Some(sha256), config, partitions, ..DeployRequest::default() };
    let outcome = client.post(&path_of(name, "deploy"), &request)?;
    let done = if args.partitions.is_some() { "is tried" } else { "runs" };
    report(name, &outcome, done, output)
}

pub(super) fn promote(args: &PluginVersionsArgs, output: &mut Output) -> Result<(), Failure> {
    let outcome = AdminClient::new(&args.connection).post(&path_of(&args.name, "promote"), &json!({}))?;
    report(&args.name, &outcome, "runs", output)
}

pub(super) fn roll_back(args: &PluginRollbackArgs, output: &mut Output) -> Result<(), Failure> {
    let request = RollbackRequest { to: args.to };
    let outcome = AdminClient::new(&args.connection).post(&path_of(&args.name, "rollback"), &request)?;
    report(&args.name, &outcome, "runs", output)
}

pub(super) fn report(
    name: &PluginName,
    outcome: &Value,
    done: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    for warning in outcome["warnings"].as_array().into_iter().flatten() {
        output::remark(problem_text(warning));
    }
    let PluginName { pipeline, plugin } = name;
    if output.json() {
        output.document(outcome)?;
    }
    if let Value::Object(waiting) = &outcome["waiting"] {
        let text = |key: &str| waiting.get(key).and_then(Value::as_str).unwrap_or_default();
        let (needs, approve, version) = (text("needs"), text("approve"), &outcome["version"]);
        return Err(Failure::Waiting(format!(
            "{pipeline}/{plugin}: version {version} waits for approval: it imports {needs}, which the plugin is not \
             granted; what ran before goes on. To run it: `{approve}`; to drop it: `millstream plugin reject \
             {pipeline}/{plugin}`"
        )));
    }
    if output.json() {
        return Ok(());
    }
    output.line(format_args!("{pipeline}/{plugin}: version {} {done}", outcome["version"]))?;
    for (key, text) in [("swapped", "swapped in"), ("restarted", "restarted"), ("started", "started")] {
        let stages = outcome[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        let stages = stages.collect::<Vec<_>>().join(", ");
        if !stages.is_empty() {
            output.line(format_args!("  {text}: {stages}"))?;
        }
    }
    Ok(())
}

pub(super) fn path_of(name: &PluginName, action: &str) -> String {
    let PluginName { pipeline, plugin } = name;
    format!("/v1/pipelines/{}/plugins/{}/{action}", path_segment(pipeline), path_segment(plugin))
}

fn short(sha256: &str) -> String {
    sha256.chars().take(HASH_SHOWN).collect()
}

fn partitions<'a>(partitions: impl IntoIterator<Item = &'a i32>) -> String {
    let partitions: Vec<String> = partitions.into_iter().map(i32::to_string).collect();
    format!("partitions {}", partitions.join(","))
}
