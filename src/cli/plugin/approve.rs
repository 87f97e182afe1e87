//! `millstream plugin approve|reject`: what becomes of a version that needs more than its plugin is granted.

use clap::Args;
use millstream_runtime::grants::{Grants, HostGrant};

use super::versions::{path_of, report};
use crate::cli::admin_client::AdminClient;
use crate::cli::failure::Failure;
use crate::cli::node_args::{AdminConnection, PluginName};
use crate::cli::output::Output;
use crate::node::{ApproveRequest, RejectRequest};

/// `millstream plugin reject`; and the version that `approve` is about.
#[derive(Debug, Args)]
pub(crate) struct PluginRejectArgs {
    #[command(flatten)]
    connection: AdminConnection,

    /// The plugin
    #[arg(value_name = "PIPELINE/PLUGIN")]
    name: PluginName,

    /// The number of the version that you have looked at; refused if meanwhile another one waits
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
}

/// `millstream plugin approve`.
#[derive(Debug, Args)]
pub(crate) struct PluginApproveArgs {
    #[command(flatten)]
    waiting: PluginRejectArgs,

    /// Grant a secret: a file of the node's plugin.secrets.dir
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,

    /// Grant a file, below a directory of the node's plugin.files.dirs, under the name that the plugin knows it by
    #[arg(long = "file", value_name = "NAME=PATH", value_parser = file)]
    files: Vec<(String, String)>,

    /// Grant a host that it may call, such as `https://api.example.com` or `https://*.example.org`
    #[arg(long, value_name = "ORIGIN")]
    http: Vec<HostGrant>,
}

fn file(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.to_owned())),
        _ => Err("write NAME=PATH"),
    }
}

pub(super) fn approve(args: &PluginApproveArgs, output: &mut Output) -> Result<(), Failure> {
    let grants = Grants {
        secrets: args.secrets.iter().cloned().collect(),
        files: args.files.iter().cloned().collect(),
        http: args.http.iter().cloned().collect(),
    };
    let PluginRejectArgs { connection, name, version } = &args.waiting;
    let request = ApproveRequest { version: *version, grants };
    let outcome = AdminClient::new(connection).post(&path_of(name, "approve"), &request)?;
    report(name, &outcome, "is approved", output)
}

pub(super) fn reject(args: &PluginRejectArgs, output: &mut Output) -> Result<(), Failure> {
    let request = RejectRequest { version: args.version };
    let outcome = AdminClient::new(&args.connection).post(&path_of(&args.name, "reject"), &request)?;
    report(&args.name, &outcome, "is rejected", output)
}
