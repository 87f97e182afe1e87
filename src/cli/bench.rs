//! `millstream bench`: measure a cluster, ours or another.
//!
//! Each bench makes a topic of its own and deletes it afterwards, unless it is told otherwise. Payloads exist
//! before the clock starts, and a record costs the sender no allocation. With a rate, the load is an open loop:
//! a record is due at its time whether or not the cluster keeps up, and its latency counts from then, so that a
//! stall is not hidden by the sender's waiting for it.

mod consume;
mod latency;
mod load;
mod payload;
mod percentiles;
mod produce;
mod report;
mod topic;

use clap::{Args, Subcommand};

use super::connection::Connection;
use super::failure::Failure;
use super::output::Output;
use super::produce::Delivery;
use crate::cli::connection::name_and_value;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Records per second into a topic; with --rate, delivery latency
    Produce(produce::ProduceArgs),
    /// Records per second out of a topic
    Consume(consume::ConsumeArgs),
    /// From a record's due time until a consumer has it
    Latency(latency::LatencyArgs),
}

/// Where the records go.
#[derive(Clone, Debug, Args)]
struct TopicArgs {
    #[command(flatten)]
    connection: Connection,

    /// The topic; without it, one for this bench. One that had to be created is deleted afterwards
    #[arg(long, short)]
    topic: Option<String>,

    /// Partitions of a new topic
    #[arg(long, short, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,

    /// Copies of each partition of a new topic; without it the cluster's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: Option<i32>,

    /// A setting of a new topic, such as flush.messages=1; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    config: Vec<(String, String)>,

    /// Keep a topic that had to be created
    #[arg(long)]
    keep: bool,
}

/// What is sent, and how.
#[derive(Clone, Debug, Args)]
struct LoadArgs {
    /// Records in all
    #[arg(long, short = 'n', default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,

    /// Bytes of a record's value
    #[arg(long, short, default_value_t = 1024, value_name = "BYTES", value_parser = size)]
    size: usize,

    #[command(flatten)]
    delivery: Delivery,

    /// How long the client waits for a batch to fill
    #[arg(long, default_value_t = 5.0, value_name = "MS")]
    linger_ms: f64,

    /// A batch's size, at most
    #[arg(long, default_value_t = 262_144, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=2_147_483_647))]
    batch_bytes: u64,

    /// Memory of the client for records that wait to be delivered
    #[arg(long, default_value_t = 268_435_456, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1_048_576..=2_147_483_647))]
    buffer_bytes: u64,

    /// Send no keys: the client fills the batch of one partition after another
    #[arg(long)]
    no_key: bool,

    /// Send JSON objects, with a number in `status`, instead of text
    #[arg(long)]
    json_values: bool,

    /// Have the client number its batches, so that retries leave no duplicates (needs --acks all)
    #[arg(long)]
    idempotent: bool,
}

impl LoadArgs {
    fn shape(&self) -> payload::Shape {
        payload::Shape::of(self.json_values)
    }

    /// An object has members that it can't do without.
    fn check_size(&self) -> Result<(), Failure> {
        let bytes_min = self.shape().bytes_min();
        if self.size < bytes_min {
            return Err(Failure::Usage(format!("--size must be at least {bytes_min} with --json-values")));
        }
        Ok(())
    }
}

/// Payloads come from a buffer that is made before the clock starts.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= RECORD_BYTES_MAX => Ok(size),
        Ok(_) => Err(format!("at most {RECORD_BYTES_MAX}")),
        Err(error) => Err(format!("{error}")),
    }
}

pub(crate) fn run(command: BenchCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(args) => produce::run(&args, output),
        BenchCommand::Consume(args) => consume::run(&args, output),
        BenchCommand::Latency(args) => latency::run(&args, output),
    }
}
