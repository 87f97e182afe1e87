//! `millstream plugin limits`: what a plugin may use, shown and changed while it runs.

use clap::Args;
use millstream_runtime::limits::PluginLimits;
use serde_json::{Map, Value};

use super::versions::{find, path_of, report};
use crate::cli::admin_client::AdminClient;
use crate::cli::failure::Failure;
use crate::cli::node_args::{AdminConnection, PluginName};
use crate::cli::output::{Output, Table};
use crate::node::DeployRequest;

/// `millstream plugin limits`.
#[derive(Debug, Args)]
pub(crate) struct PluginLimitsArgs {
    #[command(flatten)]
    connection: AdminConnection,

    /// The plugin
    #[arg(value_name = "PIPELINE/PLUGIN")]
    name: PluginName,

    /// Change a limit, like memory_bytes_max=128MiB or call_timeout_ms=500. The plugin goes on with the new limits
    /// between two batches, as another version; applying the pipeline's file sets those of the file again
    #[arg(long = "set", value_name = "LIMIT=VALUE", value_parser = change)]
    changes: Vec<(String, Value)>,
}

/// `NAME=VALUE`, where a value may have a unit of bytes.
fn change(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write LIMIT=VALUE")?;
    Ok((name.trim().to_owned(), limit_value(value.trim()).ok_or("the value is too large")?))
}

fn limit_value(text: &str) -> Option<Value> {
    const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    for (unit, bytes) in UNITS {
        if let Some(number) = text.strip_suffix(unit).and_then(|number| number.trim_end().parse::<u64>().ok())
        {
            return Some(number.checked_mul(bytes)?.into());
        }
    }
    // The node says which kind of value the limit takes.
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.into()))
}

pub(super) fn run(args: &PluginLimitsArgs, output: &mut Output) -> Result<(), Failure> {
    if !args.changes.is_empty() {
        let limits = Some(args.changes.iter().cloned().collect());
        let request = DeployRequest { limits, ..DeployRequest::default() };
        let outcome = AdminClient::new(&args.connection).post(&path_of(&args.name, "deploy"), &request)?;
        return report(&args.name, &outcome, "runs", output);
    }
    let versions = find(&args.connection, &args.name)?.versions;
    let limits = &versions.active().limits;
    if output.json() {
        return output.document(limits);
    }
    let mut table = Table::new(["LIMIT", "VALUE", "DEFAULT"]);
    let defaults = by_name(&PluginLimits::default());
    for (name, value) in by_name(limits) {
        let default = defaults.get(&name).map(Value::to_string).unwrap_or_default();
        table.row([name, value.to_string(), default]);
    }
    output.table(&table)
}

fn by_name(limits: &PluginLimits) -> Map<String, Value> {
    match serde_json::to_value(limits) {
        Ok(Value::Object(limits)) => limits,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_is_a_number_or_a_number_of_bytes() {
        let change = |text: &str| change(text).map(|(_, value)| value);
        assert_eq!(change("a=128MiB"), Ok(json!(134_217_728)));
        assert_eq!(change("a = 2 KiB"), Ok(json!(2048)));
        assert_eq!(change("a=500"), Ok(json!(500)));
        assert_eq!(change("a=0.5"), Ok(json!(0.5)));
        assert_eq!(change("a=fast"), Ok(json!("fast")));
        assert!(change("a=99999999999999GiB").is_err());
        assert!(change("a").is_err());
    }
}
