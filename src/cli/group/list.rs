//! `millstream group list`.

use clap::Args;
use serde::Serialize;

use crate::cli::cluster::Cluster;
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Row {
    group: String,
    state: String,
    protocol_type: String,
    members: usize,
}

pub(super) fn run(args: &ListArgs, output: &mut Output) -> Result<(), Failure> {
    let groups = Cluster::connect(&args.connection)?.groups(None)?;
    let rows = groups.into_iter().map(|group| Row {
        members: group.members.len(),
        group: group.group_id,
        state: group.state,
        protocol_type: group.protocol_type,
    });
    if output.json() {
        return output.document(&rows.collect::<Vec<_>>());
    }
    let mut table = Table::new(["GROUP", "STATE", "TYPE", "MEMBERS"]);
    for row in rows {
        table.row([row.group, row.state, row.protocol_type, row.members.to_string()]);
    }
    output.table(&table)
}
