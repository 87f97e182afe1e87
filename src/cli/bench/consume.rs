//! `millstream bench consume`.
//!
//! Partitions are assigned by hand, so that fetching is measured, and not a rebalance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::load::{Deliveries, Load, producer};
use super::payload::Payload;
use super::produce::{millis, seconds_between};
use super::report::Report;
use super::topic::{BenchTopic, with_topic};
use super::{LoadArgs, TopicArgs};
use crate::cli::clock::Stopwatch;
use crate::cli::cluster::TopicPartition;
use crate::cli::connection::LogToTracing;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::cli::position::Position;
use crate::cli::progress::{self, RECORDS_PER_STEP};

/// How long a consumer may get nothing before the bench gives up.
const STALLED_SECONDS: f64 = 30.0;
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    #[command(flatten)]
    topic: TopicArgs,

    /// What a topic that had to be created is filled with first; of one that exists, --records are read at most
    #[command(flatten)]
    load: LoadArgs,

    /// Consumers, each with its share of the partitions
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    consumers: u16,
}

pub(super) fn run(args: &ConsumeArgs, output: &mut Output) -> Result<(), Failure> {
    args.load.check_size()?;
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    with_topic(&args.topic, |cluster, topic| {
        if topic.created {
            fill(args, topic, &interrupt)?;
        }
        let starts = cluster.offsets(&topic.partitions, Position::Beginning)?;
        let ends = cluster.offsets(&topic.partitions, Position::End)?;
        let there: u64 =
            starts.iter().map(|(key, start)| ends.get(key).map_or(0, |end| end.abs_diff(*start))).sum();
        let wanted = there.min(args.load.records);
        let read = read_all(args, &starts, &ends, wanted, &interrupt)?;
        let mut report =
            Report::new("consume", &args.topic, topic, (read.records, read.bytes, read.seconds()));
        report.consumers = Some(usize::from(args.consumers));
        report.first_record_ms = read.first_nanos.map(millis);
        if read.stalled {
            report.error = Some(format!(
                "got {} of {wanted} records and then nothing for {STALLED_SECONDS} s",
                read.records
            ));
        }
        report.print(output)
    })
}

fn fill(args: &ConsumeArgs, topic: &BenchTopic, interrupt: &Interrupt) -> Result<(), Failure> {
    let watch = Stopwatch::start();
    let deliveries = Arc::new(Deliveries::new(watch, 0));
    let producer = producer(&args.topic, &args.load, Arc::clone(&deliveries))?;
    let payload = Payload::new(args.load.size, args.load.shape());
    let load = Load {
        producer: &producer,
        topic: &topic.name,
        args: &args.load,
        payload: &payload,
        rate: None,
        stamp: None,
        watch,
        interrupt,
    };
    load.send_all(&progress::bar("filling", args.load.records))?;
    match &deliveries.counts().first_error {
        None => Ok(()),
        Some(error) => Err(Failure::Incomplete(format!("the topic could not be filled: {error}"))),
    }
}

/// What the consumers read.
#[derive(Default)]
struct Read {
    records: u64,
    bytes: u64,
    first_nanos: Option<u64>,
    last_nanos: u64,
    stalled: bool,
}

impl Read {
    fn seconds(&self) -> f64 {
        self.first_nanos.map_or(0.0, |first| seconds_between(first, self.last_nanos))
    }

    fn merge(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.first_nanos = [self.first_nanos, other.first_nanos].into_iter().flatten().min();
        self.last_nanos = self.last_nanos.max(other.last_nanos);
        self.stalled |= other.stalled;
    }
}

fn read_all(
    args: &ConsumeArgs,
    starts: &BTreeMap<TopicPartition, i64>,
    ends: &BTreeMap<TopicPartition, i64>,
    wanted: u64,
    interrupt: &Interrupt,
) -> Result<Read, Failure> {
    let full: BTreeMap<TopicPartition, i64> = starts
        .iter()
        .filter(|&(key, start)| ends.get(key).is_some_and(|end| start < end))
        .map(|(key, start)| (key.clone(), *start))
        .collect();
    let mut readers = Vec::new();
    for share in deal(&full, args.consumers) {
        readers.push(Reader::new(args, &share, ends)?);
    }
    let bar = progress::bar("consuming", wanted);
    let progress =
        Progress { watch: Stopwatch::start(), read: AtomicU64::new(0), wanted, interrupt, bar: &bar };
    let mut total = Read::default();
    thread::scope(|scope| {
        let running: Vec<_> =
            readers.into_iter().map(|reader| scope.spawn(|| reader.read(&progress))).collect();
        for reader in running {
            total.merge(&reader.join().expect("a reader does not panic")?);
        }
        Ok::<(), Failure>(())
    })?;
    bar.finish_and_clear();
    Ok(total)
}

/// What the consumers share.
struct Progress<'a> {
    watch: Stopwatch,
    read: AtomicU64,
    wanted: u64,
    interrupt: &'a Interrupt,
    bar: &'a indicatif::ProgressBar,
}

struct Reader {
    consumer: BaseConsumer<LogToTracing>,
    /// Partitions that are not read to the end yet, and where that is.
    unread: BTreeSet<i32>,
    ends: BTreeMap<i32, i64>,
}

impl Reader {
    fn new(
        args: &ConsumeArgs,
        share: &[(TopicPartition, i64)],
        ends: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Self, Failure> {
        let consumer = assigned_consumer(&args.topic, share, "true")?;
        let unread = share.iter().map(|((_, partition), _)| *partition).collect();
        let ends = share.iter().map(|(key, _)| (key.1, ends[key])).collect();
        Ok(Self { consumer, unread, ends })
    }

    fn read(mut self, progress: &Progress<'_>) -> Result<Read, Failure> {
        let mut read = Read::default();
        let mut unreported = 0;
        let mut last_looked = progress.watch.nanos();
        while !self.unread.is_empty() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    if read.first_nanos.is_none() {
                        read.first_nanos = Some(progress.watch.nanos());
                    }
                    read.records += 1;
                    read.bytes += message.payload_len() as u64;
                    unreported += 1;
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    drop(message);
                    if self.ends.get(&partition).is_some_and(|&end| next >= end) {
                        self.unread.remove(&partition);
                    }
                    if unreported == RECORDS_PER_STEP {
                        unreported = 0;
                        last_looked = progress.watch.nanos();
                        let so_far = progress.read.fetch_add(RECORDS_PER_STEP, Ordering::Relaxed);
                        progress.bar.set_position(so_far);
                        if so_far + RECORDS_PER_STEP >= progress.wanted || progress.interrupt.requested() {
                            break;
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.unread.remove(&partition);
                }
                // The client reconnects by itself; where it can't, the bench stalls.
                Some(Err(error)) => tracing::warn!(%error, "consuming"),
                None => {
                    let done = progress.read.load(Ordering::Relaxed) >= progress.wanted;
                    read.stalled = seconds_between(last_looked, progress.watch.nanos()) > STALLED_SECONDS;
                    if done || read.stalled || progress.interrupt.requested() {
                        break;
                    }
                }
            }
        }
        read.last_nanos = progress.watch.nanos();
        Ok(read)
    }
}

/// A consumer that reads `share` from the given offsets on.
pub(super) fn assigned_consumer(
    topic: &TopicArgs,
    share: &[(TopicPartition, i64)],
    partition_eof: &str,
) -> Result<BaseConsumer<LogToTracing>, Failure> {
    let settings = [
        // librdkafka wants a group id even where it neither joins nor commits.
        ("group.id", "millstream-bench"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", partition_eof),
        ("auto.offset.reset", "error"),
        ("queued.max.messages.kbytes", "262144"),
    ];
    let consumer = topic.connection.consumer(&settings, LogToTracing)?;
    let mut list = TopicPartitionList::with_capacity(share.len());
    for ((name, partition), offset) in share {
        list.add_partition_offset(name, *partition, Offset::Offset(*offset))
            .map_err(|error| Failure::kafka(format!("consume {name}"), &error))?;
    }
    consumer.assign(&list).map_err(|error| Failure::kafka("assign the bench's partitions", &error))?;
    Ok(consumer)
}

/// Deals partitions out to at most `consumers` shares, none of them empty.
pub(super) fn deal(
    offsets: &BTreeMap<TopicPartition, i64>,
    consumers: u16,
) -> Vec<Vec<(TopicPartition, i64)>> {
    let mut shares = vec![Vec::new(); usize::from(consumers).min(offsets.len())];
    for (index, (key, offset)) in offsets.iter().enumerate() {
        let share = index % shares.len();
        shares[share].push((key.clone(), *offset));
    }
    shares
}
