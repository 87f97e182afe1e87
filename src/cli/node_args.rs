//! Arguments of the commands that run a node, or ask one over its admin listener.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::plugin::{
    Language, NewName, PluginApproveArgs, PluginKeygenArgs, PluginLimitsArgs, PluginRejectArgs,
    PluginSignArgs, Role,
};

pub(crate) const DEFAULT_ADMIN: &str = "127.0.0.1:9644";

/// `millstream up`. Defaults stay out of the definitions: a configuration file comes between them and the flags.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where records and metadata are kept [default: ./millstream-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Where Kafka clients connect [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,

    /// Where the admin interface (HTTP) listens [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,

    /// A configuration file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `millstream demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// A web server's access log to read instead of the sample
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Leave the node running afterwards, until Ctrl-C
    #[arg(long)]
    pub(crate) keep_running: bool,

    /// Keep the data in this directory, rather than in one that is thrown away
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Where Kafka clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub(crate) listen: String,

    /// Where the admin interface (HTTP) listens; port 0 takes a free one
    #[arg(long, default_value = DEFAULT_ADMIN, value_name = "HOST:PORT")]
    pub(crate) admin: String,
}

/// The running node that a command asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminConnection {
    /// The node's admin listener
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADMIN, env = "MILLSTREAM_ADMIN")]
    pub(crate) admin: String,
}

/// `millstream validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// A pipeline file
    pub(crate) file: PathBuf,
}

/// `millstream apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// A pipeline file
    pub(crate) file: PathBuf,
}

/// `millstream status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,
}

/// `millstream plugin`.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Make a directory to write a plugin in
    New(PluginNewArgs),
    /// Build the plugin of a directory that `new` made
    Build(PluginBuildArgs),
    /// Show what a plugin exports and which capabilities it wants
    Inspect(PluginInspectArgs),
    /// Run cases from files against a plugin, without a node: records in, expected records out
    Test(PluginTestArgs),
    /// List the plugins of all pipelines, and which version of each runs
    List(StatusArgs),
    /// List what was deployed of a plugin
    Versions(PluginVersionsArgs),
    /// Show lines that plugins have logged
    Logs(PluginLogsArgs),
    /// Run another version of a plugin: swapped between two batches, and taken back if it crashes. One that needs more
    /// than the plugin is granted waits for approval (exit code 3). In a plugin's directory, without arguments: run its
    /// pipeline
    Deploy(PluginDeployArgs),
    /// Run the version that is tried on some partitions on all of them
    Promote(PluginVersionsArgs),
    /// Go back to the version before, or end a trial
    Rollback(PluginRollbackArgs),
    /// Grant what the version that waits needs, and run it
    // Its --version is a plugin's.
    #[command(disable_version_flag = true)]
    Approve(PluginApproveArgs),
    /// Drop the version that waits for approval
    #[command(disable_version_flag = true)]
    Reject(PluginRejectArgs),
    /// Show a plugin's limits, or change them while it runs
    Limits(PluginLimitsArgs),
    /// Make a key to sign plugins with
    Keygen(PluginKeygenArgs),
    /// Sign a plugin: the signature goes wherever the file goes, for nodes that ask for one
    Sign(PluginSignArgs),
}

/// A plugin of an applied pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginName {
    pub(crate) pipeline: String,
    pub(crate) plugin: String,
}

impl std::str::FromStr for PluginName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((pipeline, plugin)) if !pipeline.is_empty() && !plugin.is_empty() => {
                Ok(Self { pipeline: pipeline.to_owned(), plugin: plugin.to_owned() })
            }
            _ => Err("write PIPELINE/PLUGIN, as `millstream plugin list` shows it"),
        }
    }
}

/// Clap would take any text for a JSON string.
fn json(text: &str) -> Result<serde_json::Value, String> {
    let Some(file) = text.strip_prefix('@') else {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("read {file}: {error}"))?;
    // JSON is YAML, too.
    serde_saphyr::from_str(&text).map_err(|error| format!("{file}: {error}"))
}

#[derive(Debug, Args)]
pub(crate) struct PluginVersionsArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// The plugin
    #[arg(value_name = "PIPELINE/PLUGIN")]
    pub(crate) name: PluginName,
}

/// Whose lines are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogsOf {
    pub(crate) pipeline: String,
    pub(crate) stage: Option<String>,
    pub(crate) plugin: Option<String>,
}

impl std::str::FromStr for LogsOf {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<&str> = text.split('/').collect();
        if names.len() > 3 || names.iter().any(|name| name.is_empty()) {
            return Err(
                "write PIPELINE, PIPELINE/STAGE or PIPELINE/STAGE/PLUGIN, as `millstream top` shows them",
            );
        }
        let name = |at: usize| names.get(at).map(|name| (*name).to_owned());
        Ok(Self { pipeline: name(0).unwrap_or_default(), stage: name(1), plugin: name(2) })
    }
}

#[derive(Debug, Args)]
pub(crate) struct PluginLogsArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// Whose lines: of a pipeline, of a stage, ingest or view of it, or of one plugin there
    #[arg(value_name = "PIPELINE[/STAGE[/PLUGIN]]")]
    pub(crate) of: LogsOf,

    /// How many of the last lines
    #[arg(short = 'n', long = "lines", value_name = "N", default_value = "100",
          value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) lines: u32,

    /// Go on with those that come, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PluginDeployArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// The plugin
    #[arg(value_name = "PIPELINE/PLUGIN")]
    pub(crate) name: Option<PluginName>,

    /// A WebAssembly component; by default that of the directory's plugin.toml
    pub(crate) file: Option<PathBuf>,

    /// Another configuration for it, instead of that of the active version: JSON, or a file of JSON or YAML
    #[arg(long, value_name = "JSON|@FILE", value_parser = json, requires = "name")]
    pub(crate) config: Option<serde_json::Value>,

    /// Try it on these partitions of the stages' input first, like 0,3
    #[arg(long, value_name = "PARTITIONS", value_delimiter = ',', requires = "name")]
    pub(crate) partitions: Option<Vec<i32>>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginRollbackArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// The plugin
    #[arg(value_name = "PIPELINE/PLUGIN")]
    pub(crate) name: PluginName,

    /// The number of the version to go back to
    #[arg(long, value_name = "NUMBER")]
    pub(crate) to: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginInspectArgs {
    /// As with the other commands, though no node is asked: the file is inspected here
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// A WebAssembly component; its signature is in FILE.sig, if it has one
    pub(crate) file: PathBuf,

    /// Check the signature against a list of trusted keys, as a node has it in plugin.signature.keys
    #[arg(long, value_name = "KEYS")]
    pub(crate) keys: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginTestArgs {
    /// A WebAssembly component, by default that of the directory's plugin.toml; and files of cases (YAML or JSON), by
    /// default those in the directory `cases`
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginNewArgs {
    /// What the plugin and its directory are called, like my-filter
    pub(crate) name: NewName,

    /// The language to write it in
    #[arg(long, value_enum)]
    pub(crate) lang: Language,

    /// What it is to be
    #[arg(long, value_enum, default_value_t = Role::Transform)]
    pub(crate) role: Role,
}

#[derive(Debug, Args)]
pub(crate) struct PluginBuildArgs {
    /// The plugin's directory [default: this one]
    pub(crate) dir: Option<PathBuf>,
}

/// `millstream pipeline`.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand {
    /// List the pipelines that were applied
    List(StatusArgs),
    /// Stop a pipeline's stages and forget it; its topics and offsets stay
    Delete(PipelineDeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PipelineDeleteArgs {
    #[command(flatten)]
    pub(crate) connection: AdminConnection,

    /// The pipeline's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
}

/// `millstream storage`: reads the log dirs of a stopped node.
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Print what the log dirs hold
    Dump(StorageArgs),
    /// Check everything that the log dirs hold; exit code 1 where something is damaged
    Verify(StorageArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StorageArgs {
    /// The data directory, or one log dir in it
    pub(crate) dir: PathBuf,
}
