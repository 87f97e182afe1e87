//! `millstream topic create`.

use clap::Args;
use rdkafka::admin::{AdminClient, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use super::{admin_options, wait};
use crate::cli::connection::{Connection, LogToTracing, name_and_value};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    connection: Connection,

    #[command(flatten)]
    shape: NewTopic,

    /// Do nothing where the topic exists already
    #[arg(long)]
    if_not_exists: bool,

    /// The topics to create
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
}

/// What a new topic is like.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewTopic {
    /// Partitions of a new topic; without it the cluster's default
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,

    /// Copies of each partition; without it the cluster's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) replication_factor: Option<i32>,

    /// A setting of a new topic, such as retention.ms=3600000; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) config: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Created<'a> {
    topic: &'a str,
    created: bool,
}

pub(super) fn run(args: &CreateArgs, output: &mut Output) -> Result<(), Failure> {
    let admin = args.connection.admin()?;
    for topic in &args.topics {
        let created = match create_topic(&admin, topic, &args.shape) {
            Ok(()) => true,
            Err(Failure::Kafka { code: RDKafkaErrorCode::TopicAlreadyExists, .. }) if args.if_not_exists => {
                false
            }
            Err(failure) => return Err(failure),
        };
        if output.json() {
            output.document(&Created { topic, created })?;
        } else if created {
            output.line(format_args!("created topic {topic}"))?;
        } else {
            output.line(format_args!("topic {topic} exists already"))?;
        }
    }
    Ok(())
}

pub(crate) fn create_topic(
    admin: &AdminClient<LogToTracing>,
    name: &str,
    shape: &NewTopic,
) -> Result<(), Failure> {
    // -1 asks the cluster for its default.
    let replication = TopicReplication::Fixed(shape.replication_factor.unwrap_or(-1));
    let mut topic = rdkafka::admin::NewTopic::new(name, shape.partitions.unwrap_or(-1), replication);
    for (name, value) in &shape.config {
        topic = topic.set(name, value);
    }
    let action = || format!("create topic {name}");
    let results = wait(admin.create_topics([&topic], &admin_options()))
        .map_err(|error| Failure::kafka(action(), &error))?;
    match results.into_iter().find_map(Result::err) {
        Some((_, code)) => Err(Failure::Kafka { action: action(), code }),
        None => Ok(()),
    }
}
