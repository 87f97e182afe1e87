//! `millstream topic delete`.

use clap::Args;
use rdkafka::admin::AdminClient;
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use super::{admin_options, wait};
use crate::cli::connection::{Connection, LogToTracing};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    connection: Connection,

    /// Do nothing where there is no such topic
    #[arg(long)]
    if_exists: bool,

    /// The topics to delete
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
}

#[derive(Serialize)]
struct Deleted<'a> {
    topic: &'a str,
    deleted: bool,
}

pub(super) fn run(args: &DeleteArgs, output: &mut Output) -> Result<(), Failure> {
    let admin = args.connection.admin()?;
    for topic in &args.topics {
        let deleted = match delete_topic(&admin, topic) {
            Ok(()) => true,
            Err(Failure::UnknownTopic { .. }) if args.if_exists => false,
            Err(failure) => return Err(failure),
        };
        if output.json() {
            output.document(&Deleted { topic, deleted })?;
        } else if deleted {
            output.line(format_args!("deleted topic {topic}"))?;
        } else {
            output.line(format_args!("topic {topic} does not exist"))?;
        }
    }
    Ok(())
}

pub(crate) fn delete_topic(admin: &AdminClient<LogToTracing>, name: &str) -> Result<(), Failure> {
    let action = || format!("delete topic {name}");
    let results = wait(admin.delete_topics(&[name], &admin_options()))
        .map_err(|error| Failure::kafka(action(), &error))?;
    match results.into_iter().find_map(Result::err) {
        Some((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {
            Err(Failure::UnknownTopic { topic: name.to_owned() })
        }
        Some((_, code)) => Err(Failure::Kafka { action: action(), code }),
        None => Ok(()),
    }
}
