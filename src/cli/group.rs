//! `millstream group`: list, describe, delete and reset consumer groups of any Kafka-compatible cluster.

mod delete;
mod describe;
mod list;
mod reset;

use clap::Subcommand;

use super::cluster::{Cluster, Group};
use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the consumer groups
    List(list::ListArgs),
    /// Show members, assignments, committed offsets and lag
    Describe(describe::DescribeArgs),
    /// Delete groups and their committed offsets
    Delete(delete::DeleteArgs),
    /// Move the committed offsets of a group; shows what would change unless --execute is given
    Reset(reset::ResetArgs),
}

pub(crate) fn run(command: GroupCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        GroupCommand::List(args) => list::run(&args, output),
        GroupCommand::Describe(args) => describe::run(&args, output),
        GroupCommand::Delete(args) => delete::run(&args, output),
        GroupCommand::Reset(args) => reset::run(&args, output),
    }
}

/// None where there is no such group: some brokers leave it out, others call it dead.
fn find(cluster: &Cluster, group: &str) -> Result<Option<Group>, Failure> {
    let groups = cluster.groups(Some(group))?;
    Ok(groups.into_iter().find(|found| found.group_id == group && found.state != "Dead"))
}
