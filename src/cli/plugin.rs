//! `millstream plugin`: plugins as projects and files, and their versions on a node.

mod approve;
mod build;
mod compile;
mod inspect;
mod keys;
mod limits;
mod logs;
mod new;
mod project;
mod templates;
mod test;
mod versions;

use super::failure::Failure;
use super::node_args::PluginCommand;
use super::output::Output;

pub(crate) use self::approve::{PluginApproveArgs, PluginRejectArgs};
pub(crate) use self::keys::{PluginKeygenArgs, PluginSignArgs};
pub(crate) use self::limits::PluginLimitsArgs;
pub(crate) use self::templates::{Language, NewName, Role};

pub(super) fn run(command: PluginCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        PluginCommand::New(args) => new::run(&args, output),
        PluginCommand::Build(args) => build::run(&args, output),
        PluginCommand::Inspect(args) => inspect::run(&args, output),
        PluginCommand::Test(args) => test::run(&args, output),
        PluginCommand::List(args) => versions::list(&args, output),
        PluginCommand::Versions(args) => versions::versions(&args, output),
        PluginCommand::Logs(args) => logs::run(&args, output),
        PluginCommand::Deploy(args) => versions::deploy(&args, output),
        PluginCommand::Promote(args) => versions::promote(&args, output),
        PluginCommand::Rollback(args) => versions::roll_back(&args, output),
        PluginCommand::Approve(args) => approve::approve(&args, output),
        PluginCommand::Reject(args) => approve::reject(&args, output),
        PluginCommand::Limits(args) => limits::run(&args, output),
        PluginCommand::Keygen(args) => keys::keygen(&args, output),
        PluginCommand::Sign(args) => keys::sign(&args, output),
    }
}
