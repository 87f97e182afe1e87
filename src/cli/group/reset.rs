//! `millstream group reset`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::find;
use crate::cli::cluster::{Cluster, Committed, TopicPartition};
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, Table, remark};
use crate::cli::position::Position;

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    #[command(flatten)]
    connection: Connection,

    /// The group; one that does not exist yet is created with the new offsets
    group: String,

    /// The topic whose offsets are moved; may be repeated
    #[arg(long = "topic", short, required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Move this partition only; may be repeated
    #[arg(long = "partition", short, value_name = "N")]
    partitions: Vec<i32>,

    /// Where to: earliest, latest, an offset, or @TIME (ms since 1970, or RFC 3339)
    #[arg(long, value_name = "POSITION")]
    to: Position,

    /// Do it, rather than show it
    #[arg(long)]
    execute: bool,
}

#[derive(Serialize)]
struct Plan {
    group: String,
    executed: bool,
    partitions: Vec<Move>,
}

#[derive(Serialize)]
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
}

pub(super) fn run(args: &ResetArgs, output: &mut Output) -> Result<(), Failure> {
    let cluster = Cluster::connect(&args.connection)?;
    if let Some(group) = find(&cluster, &args.group)?
        && !group.members.is_empty()
    {
        return Err(Failure::GroupInUse { group: group.group_id, members: group.members.len() });
    }
    let partitions = partitions(args, &cluster)?;
    let of_group = Cluster::connect_for_group(&args.connection, &args.group)?;
    let committed = of_group.committed(&partitions)?;
    let targets = targets(&cluster, &partitions, args.to)?;
    if args.execute {
        of_group.commit(&targets)?;
    }
    print(&plan(args, &committed, targets), output)
}

fn partitions(args: &ResetArgs, cluster: &Cluster) -> Result<Vec<TopicPartition>, Failure> {
    let mut partitions = Vec::new();
    for name in &args.topics {
        let all: Vec<TopicPartition> = cluster.topic(name)?.topic_partitions().collect();
        if let Some(unknown) =
            args.partitions.iter().find(|&&wanted| all.iter().all(|&(_, known)| known != wanted))
        {
            return Err(Failure::Client {
                action: format!("reset the offsets of {name}"),
                reason: format!("there is no partition {unknown}: it has {}, counted from 0", all.len()),
            });
        }
        let wanted = |key: &TopicPartition| args.partitions.is_empty() || args.partitions.contains(&key.1);
        partitions.extend(all.into_iter().filter(wanted));
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

/// The new offsets, inside what the partitions hold: an offset beyond it would be reset again by the consumer.
fn targets(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    to: Position,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let mut targets = cluster.offsets(partitions, to)?;
    if matches!(to, Position::Offset(_)) {
        let starts = cluster.offsets(partitions, Position::Beginning)?;
        let ends = cluster.offsets(partitions, Position::End)?;
        for (key, offset) in &mut targets {
            let bounds = starts.get(key).zip(ends.get(key));
            if let Some((&start, &end)) = bounds {
                *offset = (*offset).clamp(start, end.max(start));
            }
        }
    }
    Ok(targets)
}

fn plan(
    args: &ResetArgs,
    committed: &BTreeMap<TopicPartition, Committed>,
    targets: BTreeMap<TopicPartition, i64>,
) -> Plan {
    let partitions = targets
        .into_iter()
        .map(|(key, to)| Move {
            from: committed.get(&key).map(|committed| committed.offset),
            to,
            topic: key.0,
            partition: key.1,
        })
        .collect();
    Plan { group: args.group.clone(), executed: args.execute, partitions }
}

fn print(plan: &Plan, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return output.document(plan);
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO"]);
    for row in &plan.partitions {
        let from = row.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        table.row([row.topic.clone(), row.partition.to_string(), from, row.to.to_string()]);
    }
    output.table(&table)?;
    if !plan.executed {
        output.flush()?;
        remark("nothing was changed: pass --execute to do it");
    }
    Ok(())
}
