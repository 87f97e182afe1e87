//! `millstream plugin`: plugins as files, and their versions on a node.

mod inspect;
mod logs;
mod test;
mod versions;

use super::failure::Failure;
use super::node_args::PluginCommand;
use super::output::Output;

pub(super) fn run(command: PluginCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        PluginCommand::Inspect(args) => inspect::run(&args, output),
        PluginCommand::Test(args) => test::run(&args, output),
        PluginCommand::List(args) => versions::list(&args, output),
        PluginCommand::Versions(args) => versions::versions(&args, output),
        PluginCommand::Logs(args) => logs::run(&args, output),
        PluginCommand::Deploy(args) => versions::deploy(&args, output),
        PluginCommand::Promote(args) => versions::promote(&args, output),
        PluginCommand::Rollback(args) => versions::roll_back(&args, output),
    }
}
