//! `millstream produce`: each line becomes a record.
//!
//! One thread reads, in pieces of whatever is there, so that a line typed at a terminal is sent at once and a
//! file goes at the speed of the disk; this one sends, and stops in order when it is interrupted.

mod lines;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use self::lines::{Line, LineSource};
use self::summary::{Deliveries, Summary};
use super::clock::Stopwatch;
use super::cluster::Cluster;
use super::connection::{Connection, name_and_value};
use super::delivery::DeliveryContext;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::Output;

/// How long to wait for input, or for room in the client's queue, before delivery reports are looked at again.
const POLL: Duration = Duration::from_millis(10);

/// How long a record is tried before it counts as not delivered.
const MESSAGE_TIMEOUT_MS: &str = "60000";
/// How long an unknown topic is waited for: the cluster may create it on first use, and then takes a moment.
const TOPIC_CREATION_MS: &str = "10000";

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    #[command(flatten)]
    connection: Connection,

    /// The topic that receives the records
    #[arg(long, short)]
    topic: String,

    /// Read lines from this file instead of stdin
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    /// What separates the key from the value in a line; lines without it have no key
    #[arg(long, short, value_name = "TEXT")]
    key_separator: Option<String>,

    /// Send to this partition; without it the key decides
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// A header for each record; may be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = name_and_value)]
    header: Vec<(String, String)>,

    #[command(flatten)]
    delivery: Delivery,
}

/// How records are sent.
#[derive(Clone, Debug, Args)]
pub(crate) struct Delivery {
    /// Which replicas must have a record before it counts as delivered
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub(crate) acks: Acks,

    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub(crate) compression: Codec,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Acks {
    /// None: nothing is known about the delivery
    #[value(name = "0")]
    None,
    /// The partition's leader
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas
    All,
}

impl Acks {
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

pub(crate) fn run(args: &ProduceArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let lines = LineSource::open(args.file.as_deref(), args.key_separator.as_deref())?;
    let deliveries = Arc::new(Deliveries::default());
    let producer = connect(args, Arc::clone(&deliveries))?;
    check_partition(args)?;

    let watch = Stopwatch::start();
    let sending = Sending { args, producer: &producer, headers: headers(args), interrupt: &interrupt };
    let read = sending.send_all(lines);
    deliver_rest(&producer, &args.topic)?;
    let mut summary = Summary::new(&args.topic, &deliveries, watch.seconds());
    // With acks=0 nobody confirms a record, so what was handed over is all that is known.
    if args.delivery.acks == Acks::None {
        summary.confirmed = false;
    }
    summary.print(output)?;
    read?;
    match summary.first_error {
        None => Ok(()),
        Some(error) => {
            Err(Failure::Incomplete(format!("{} record(s) were not delivered: {error}", summary.failed)))
        }
    }
}

fn connect(
    args: &ProduceArgs,
    deliveries: Arc<Deliveries>,
) -> Result<BaseProducer<DeliveryContext<Deliveries>>, Failure> {
    // With acks=all the producer is idempotent: retries neither duplicate nor reorder.
    let idempotent = if args.delivery.acks == Acks::All { "true" } else { "false" };
    let settings = [
        ("acks", args.delivery.acks.setting()),
        ("compression.type", args.delivery.compression.setting()),
        ("enable.idempotence", idempotent),
    ];
    producer(&args.connection, &settings, DeliveryContext(deliveries))
}

/// A producer with `settings`, beside those of all commands that send records.
pub(super) fn producer<C: ProducerContext>(
    connection: &Connection,
    settings: &[(&str, &str)],
    context: C,
) -> Result<BaseProducer<C>, Failure> {
    let common = [
        ("linger.ms", "5"),
        ("message.timeout.ms", MESSAGE_TIMEOUT_MS),
        ("topic.metadata.propagation.max.ms", TOPIC_CREATION_MS),
        // The partition that Java clients choose for the same key.
        ("partitioner", "murmur2_random"),
    ];
    connection.producer(&[settings, &common].concat(), context)
}

/// A partition that does not exist would be waited for until the record times out.
fn check_partition(args: &ProduceArgs) -> Result<(), Failure> {
    let Some(partition) = args.partition else { return Ok(()) };
    // A topic that does not exist yet may be created by the cluster on the first record.
    let Some(topic) = Cluster::connect(&args.connection)?.find_topic(&args.topic)? else { return Ok(()) };
    if topic.partitions.iter().any(|known| known.index == partition) {
        return Ok(());
    }
    let count = topic.partitions.len();
    Err(Failure::Client {
        action: format!("produce to {}", args.topic),
        reason: format!("there is no partition {partition}: it has {count}, counted from 0"),
    })
}

fn headers(args: &ProduceArgs) -> Option<OwnedHeaders> {
    if args.header.is_empty() {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(args.header.len());
    for (key, value) in &args.header {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    Some(headers)
}

struct Sending<'a> {
    args: &'a ProduceArgs,
    producer: &'a BaseProducer<DeliveryContext<Deliveries>>,
    headers: Option<OwnedHeaders>,
    interrupt: &'a Interrupt,
}

impl Sending<'_> {
    fn send_all(&self, lines: LineSource) -> Result<(), Failure> {
        while !self.interrupt.requested() {
            self.producer.poll(Duration::ZERO);
            match lines.next_chunk(POLL) {
                Ok(chunk) => {
                    for line in chunk?.lines() {
                        self.send(&line)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn send(&self, line: &Line<'_>) -> Result<(), Failure> {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.args.topic, line.bytes());
        record.partition = self.args.partition;
        record.key = line.key;
        record.payload = Some(line.value);
        record.headers.clone_from(&self.headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    if self.interrupt.requested() {
                        return Ok(());
                    }
                    record = again;
                    self.producer.poll(POLL);
                }
                Err((error, _)) => {
                    return Err(Failure::kafka(format!("produce to {}", self.args.topic), &error));
                }
            }
        }
    }
}

/// Waits for what was sent; the client gives a record up by itself after `message.timeout.ms`.
pub(super) fn deliver_rest<C: ProducerContext>(
    producer: &BaseProducer<C>,
    topic: &str,
) -> Result<(), Failure> {
    while producer.in_flight_count() > 0 {
        match producer.flush(POLL) {
            Ok(()) | Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
            Err(error) => return Err(Failure::kafka(format!("produce to {topic}"), &error)),
        }
    }
    Ok(())
}
