//! `millstream group describe`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::find;
use crate::cli::cluster::{Cluster, Group, Member, TopicPartition};
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, Table};
use crate::cli::position::Position;

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    connection: Connection,

    /// The groups to describe
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

#[derive(Serialize)]
struct Description {
    group: String,
    state: String,
    protocol_type: String,
    protocol: String,
    members: Vec<MemberRow>,
    partitions: Vec<PartitionRow>,
    /// Records that the group has not read yet, over all partitions with a committed offset.
    lag: i64,
}

#[derive(Serialize)]
struct MemberRow {
    member_id: String,
    client_id: String,
    client_host: String,
    assignment: Vec<Assigned>,
}

#[derive(Serialize)]
struct Assigned {
    topic: String,
    partition: i32,
}

#[derive(Serialize)]
struct PartitionRow {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    log_end_offset: Option<i64>,
    lag: Option<i64>,
    metadata: Option<String>,
    member_id: Option<String>,
}

pub(super) fn run(args: &DescribeArgs, output: &mut Output) -> Result<(), Failure> {
    let cluster = Cluster::connect(&args.connection)?;
    for name in &args.groups {
        let group = find(&cluster, name)?.ok_or_else(|| Failure::UnknownGroup { group: name.clone() })?;
        let of_group = Cluster::connect_for_group(&args.connection, name)?;
        let description = describe(&cluster, &of_group, group)?;
        if output.json() {
            output.document(&description)?;
        } else {
            print(&description, output)?;
        }
    }
    Ok(())
}

fn describe(cluster: &Cluster, of_group: &Cluster, group: Group) -> Result<Description, Failure> {
    let known: Vec<TopicPartition> =
        cluster.topics()?.iter().flat_map(|topic| topic.topic_partitions().collect::<Vec<_>>()).collect();
    let mut committed = of_group.committed(&known)?;
    let mut owners: BTreeMap<TopicPartition, &Member> = BTreeMap::new();
    for member in &group.members {
        for partition in member.assignment.iter().flatten() {
            owners.insert(partition.clone(), member);
        }
    }
    // An assigned partition is shown although nothing is committed for it yet; one of a topic that has been
    // deleted has no end to ask for.
    let mut shown: Vec<TopicPartition> =
        known.into_iter().filter(|key| committed.contains_key(key) || owners.contains_key(key)).collect();
    shown.sort();
    let ends = if shown.is_empty() { BTreeMap::new() } else { cluster.offsets(&shown, Position::End)? };
    let partitions: Vec<PartitionRow> = shown
        .into_iter()
        .map(|key| {
            let committed = committed.remove(&key);
            let committed_offset = committed.as_ref().map(|committed| committed.offset);
            let log_end_offset = ends.get(&key).copied();
            let lag = log_end_offset.zip(committed_offset).map(|(end, offset)| (end - offset).max(0));
            PartitionRow {
                committed_offset,
                log_end_offset,
                lag,
                metadata: committed.map(|committed| committed.metadata).filter(|text| !text.is_empty()),
                member_id: owners.get(&key).map(|member| member.member_id.clone()),
                topic: key.0,
                partition: key.1,
            }
        })
        .collect();
    Ok(Description {
        lag: partitions.iter().filter_map(|row| row.lag).sum(),
        partitions,
        members: group.members.into_iter().map(member_row).collect(),
        group: group.group_id,
        state: group.state,
        protocol_type: group.protocol_type,
        protocol: group.protocol,
    })
}

fn member_row(member: Member) -> MemberRow {
    let assigned = |(topic, partition)| Assigned { topic, partition };
    MemberRow {
        assignment: member.assignment.unwrap_or_default().into_iter().map(assigned).collect(),
        member_id: member.member_id,
        client_id: member.client_id,
        client_host: member.client_host,
    }
}

fn print(description: &Description, output: &mut Output) -> Result<(), Failure> {
    output.line(format_args!(
        "group {}: {}, {} member(s), lag {}",
        description.group,
        description.state,
        description.members.len(),
        description.lag
    ))?;
    if !description.members.is_empty() {
        let mut members = Table::new(["MEMBER", "CLIENT", "HOST", "PARTITIONS"]);
        for member in &description.members {
            let partitions: Vec<String> =
                member.assignment.iter().map(|at| format!("{}-{}", at.topic, at.partition)).collect();
            members.row([
                member.member_id.clone(),
                member.client_id.clone(),
                member.client_host.clone(),
                partitions.join(" "),
            ]);
        }
        output.table(&members)?;
    }
    if description.partitions.is_empty() {
        return Ok(());
    }
    let mut partitions = Table::new(["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for row in &description.partitions {
        partitions.row([
            row.topic.clone(),
            row.partition.to_string(),
            number(row.committed_offset),
            number(row.log_end_offset),
            number(row.lag),
            row.member_id.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    output.table(&partitions)
}
