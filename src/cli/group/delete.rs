//! `millstream group delete`.

use clap::Args;
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use crate::cli::connection::{Connection, REQUEST_TIMEOUT};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::topic::wait;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    connection: Connection,

    /// The groups to delete
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

#[derive(Serialize)]
struct Deleted<'a> {
    group: &'a str,
    deleted: bool,
}

pub(super) fn run(args: &DeleteArgs, output: &mut Output) -> Result<(), Failure> {
    let admin = args.connection.admin()?;
    let options = rdkafka::admin::AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    for group in &args.groups {
        let action = || format!("delete group {group}");
        let results = wait(admin.delete_groups(&[group], &options))
            .map_err(|error| Failure::kafka(action(), &error))?;
        match results.into_iter().find_map(Result::err) {
            Some((_, RDKafkaErrorCode::GroupIdNotFound)) => {
                return Err(Failure::UnknownGroup { group: group.clone() });
            }
            Some((_, code)) => return Err(Failure::Kafka { action: action(), code }),
            None if output.json() => output.document(&Deleted { group, deleted: true })?,
            None => output.line(format_args!("deleted group {group}"))?,
        }
    }
    Ok(())
}
