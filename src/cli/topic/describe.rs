//! `millstream topic describe`.

use std::collections::BTreeMap;

use clap::Args;
use rdkafka::admin::{AdminClient, ConfigEntry, ConfigSource, ResourceSpecifier};
use serde::Serialize;

use super::{admin_options, wait};
use crate::cli::cluster::{Cluster, Partition, TopicPartition};
use crate::cli::connection::{Connection, LogToTracing};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, Table};
use crate::cli::position::Position;

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    connection: Connection,

    /// Show the settings that have their default value too
    #[arg(long)]
    all_configs: bool,

    /// The topics to describe
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
}

#[derive(Serialize)]
struct Description {
    topic: String,
    partitions: Vec<PartitionRow>,
    configs: Vec<ConfigRow>,
}

#[derive(Serialize)]
struct PartitionRow {
    #[serde(flatten)]
    partition: Partition,
    log_start_offset: i64,
    log_end_offset: i64,
}

#[derive(Serialize)]
struct ConfigRow {
    name: String,
    value: Option<String>,
    source: &'static str,
}

pub(super) fn run(args: &DescribeArgs, output: &mut Output) -> Result<(), Failure> {
    let cluster = Cluster::connect(&args.connection)?;
    let admin = args.connection.admin()?;
    for name in &args.topics {
        let description = describe(&cluster, &admin, name, args.all_configs)?;
        if output.json() {
            output.document(&description)?;
        } else {
            print(&description, output)?;
        }
    }
    Ok(())
}

fn describe(
    cluster: &Cluster,
    admin: &AdminClient<LogToTracing>,
    name: &str,
    all_configs: bool,
) -> Result<Description, Failure> {
    let topic = cluster.topic(name)?;
    let partitions: Vec<TopicPartition> = topic.topic_partitions().collect();
    let starts = cluster.offsets(&partitions, Position::Beginning)?;
    let ends = cluster.offsets(&partitions, Position::End)?;
    let offset = |offsets: &BTreeMap<TopicPartition, i64>, index| {
        offsets.get(&(name.to_owned(), index)).copied().unwrap_or(-1)
    };
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionRow {
            log_start_offset: offset(&starts, partition.index),
            log_end_offset: offset(&ends, partition.index),
            partition,
        })
        .collect();
    let mut configs = configs(admin, name)?;
    configs.retain(|entry| all_configs || !matches!(entry.source, ConfigSource::Default));
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    let configs = configs
        .into_iter()
        .map(|entry| ConfigRow { name: entry.name, value: entry.value, source: source_name(&entry.source) })
        .collect();
    Ok(Description { topic: topic.name, partitions, configs })
}

fn configs(admin: &AdminClient<LogToTracing>, topic: &str) -> Result<Vec<ConfigEntry>, Failure> {
    let action = || format!("read the settings of topic {topic}");
    let results = wait(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &admin_options()))
        .map_err(|error| Failure::kafka(action(), &error))?;
    let mut entries = Vec::new();
    for result in results {
        entries.extend(result.map_err(|code| Failure::Kafka { action: action(), code })?.entries);
    }
    Ok(entries)
}

fn source_name(source: &ConfigSource) -> &'static str {
    match source {
        ConfigSource::Unknown => "unknown",
        ConfigSource::DynamicTopic => "topic",
        ConfigSource::DynamicBroker | ConfigSource::DynamicDefaultBroker => "cluster",
        ConfigSource::StaticBroker => "broker",
        ConfigSource::Default => "default",
    }
}

fn print(description: &Description, output: &mut Output) -> Result<(), Failure> {
    let records: i64 =
        description.partitions.iter().map(|row| row.log_end_offset - row.log_start_offset).sum();
    output.line(format_args!(
        "topic {}: {} partition(s), {records} record(s)",
        description.topic,
        description.partitions.len()
    ))?;
    let mut partitions = Table::new(["PARTITION", "LEADER", "REPLICAS", "ISR", "START", "END"]);
    for row in &description.partitions {
        partitions.row([
            row.partition.index.to_string(),
            row.partition.leader.to_string(),
            ids(&row.partition.replicas),
            ids(&row.partition.isr),
            row.log_start_offset.to_string(),
            row.log_end_offset.to_string(),
        ]);
    }
    output.table(&partitions)?;
    if description.configs.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut configs = Table::new(["CONFIG", "VALUE", "SET BY"]);
    for row in &description.configs {
        configs.row([row.name.clone(), row.value.clone().unwrap_or_default(), row.source.to_owned()]);
    }
    output.table(&configs)
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
