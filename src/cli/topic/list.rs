//! `millstream topic list`.

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

    /// Show the cluster's internal topics too
    #[arg(long)]
    internal: bool,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

pub(super) fn run(args: &ListArgs, output: &mut Output) -> Result<(), Failure> {
    let topics = Cluster::connect(&args.connection)?.topics()?;
    let rows: Vec<Row> = topics
        .into_iter()
        .filter(|topic| args.internal || !topic.is_internal())
        .map(|topic| Row {
            partitions: topic.partitions.len(),
            replication_factor: topic.partitions.first().map_or(0, |partition| partition.replicas.len()),
            internal: topic.is_internal(),
            topic: topic.name,
        })
        .collect();
    if output.json() {
        return output.document(&rows);
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "REPLICATION"]);
    for row in rows {
        table.row([row.topic, row.partitions.to_string(), row.replication_factor.to_string()]);
    }
    output.table(&table)
}
