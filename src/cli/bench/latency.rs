//! `millstream bench latency`: from the moment a record is due until a consumer has it.
//!
//! Sender and consumers are one process and read one clock. A record carries its due time, and a mark by which
//! the consumers know it among others in the topic.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;

use super::consume::{assigned_consumer, deal};
use super::load::{Deliveries, Load, nanos_until, producer, rate};
use super::payload::{Payload, Shape};
use super::percentiles::Latencies;
use super::produce::{millis, seconds_between};
use super::report::{LoadSettings, Report};
use super::topic::{BenchTopic, with_topic};
use super::{LoadArgs, TopicArgs};
use crate::cli::clock::Stopwatch;
use crate::cli::cluster::Cluster;
use crate::cli::connection::LogToTracing;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Output;
use crate::cli::position::Position;
use crate::cli::progress;

/// The part of the run that is warm-up, and left out of the percentiles.
const WARM_UP: f64 = 0.3;
/// How long the consumers may get nothing, after the last record was sent, before the rest counts as lost.
const LOST_AFTER_SECONDS: f64 = 10.0;
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    load: LoadArgs,

    /// Records per second
    #[arg(long, default_value_t = 10_000.0, value_name = "N", value_parser = rate)]
    rate: f64,

    /// Where the consumers read, such as a view of the topic or the output of a stage that reads it; without it, the topic
    #[arg(long, value_name = "TOPIC")]
    read_from: Option<String>,

    /// Consumers, each with its share of the partitions
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    consumers: u16,
}

/// What the consumers share with the sender.
struct Shared<'a> {
    watch: Stopwatch,
    mark: u64,
    shape: Shape,
    counted_from_nanos: u64,
    received: AtomicU64,
    /// How many there are to receive: known when the last one was sent.
    expected: AtomicU64,
    stop: AtomicBool,
    interrupt: &'a Interrupt,
}

struct Received {
    latencies: Latencies,
    last_nanos: u64,
}

pub(super) fn run(args: &LatencyArgs, output: &mut Output) -> Result<(), Failure> {
    let bytes_min = args.load.shape().stamped_bytes_min();
    if args.load.size < bytes_min {
        return Err(Failure::Usage(format!(
            "--size must be at least {bytes_min}: a record carries its time"
        )));
    }
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    with_topic(&args.topic, |cluster, topic| measure(args, cluster, topic, &interrupt, output))
}

fn measure(
    args: &LatencyArgs,
    cluster: &Cluster,
    topic: &BenchTopic,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let ends = match &args.read_from {
        Some(other) => {
            let partitions: Vec<_> = cluster.topic(other)?.topic_partitions().collect();
            cluster.offsets(&partitions, Position::End)?
        }
        None => cluster.offsets(&topic.partitions, Position::End)?,
    };
    let mut consumers = Vec::new();
    for share in deal(&ends, args.consumers) {
        consumers.push(assigned_consumer(&args.topic, &share, "false")?);
    }
    let payload = Payload::new(args.load.size, args.load.shape());
    let watch = Stopwatch::start();
    // A share of the records at a rate takes as long as all of them at the rate divided by the share.
    let counted_from_nanos = nanos_until(args.load.records, args.rate / WARM_UP);
    let deliveries = Arc::new(Deliveries::new(watch, counted_from_nanos));
    let producer = producer(&args.topic, &args.load, Arc::clone(&deliveries))?;
    let shared = Shared {
        watch,
        mark: RandomState::new().build_hasher().finish(),
        shape: payload.shape(),
        counted_from_nanos,
        received: AtomicU64::new(0),
        expected: AtomicU64::new(u64::MAX),
        stop: AtomicBool::new(false),
        interrupt,
    };
    let load = Load {
        producer: &producer,
        topic: &topic.name,
        args: &args.load,
        payload: &payload,
        rate: Some(args.rate),
        stamp: Some(shared.mark),
        watch,
        interrupt,
    };
    let mut latencies = Latencies::new();
    let mut last_nanos = 0;
    let sent = thread::scope(|scope| {
        let receivers: Vec<_> =
            consumers.iter().map(|consumer| scope.spawn(|| receive(consumer, &shared))).collect();
        let sent = load.send_all(&progress::bar("measuring", args.load.records));
        match &sent {
            Ok(_) => shared.expected.store(deliveries.counts().delivered, Ordering::Relaxed),
            Err(_) => shared.stop.store(true, Ordering::Relaxed),
        }
        for receiver in receivers {
            let received = receiver.join().expect("a receiver does not panic");
            latencies.merge(&received.latencies);
            last_nanos = last_nanos.max(received.last_nanos);
        }
        sent
    })?;

    let counts = deliveries.counts();
    let received = shared.received.load(Ordering::Relaxed);
    let seconds = seconds_between(sent.started_nanos, last_nanos);
    let bytes = received * args.load.size as u64;
    let mut report = Report::new("latency", &args.topic, topic, (received, bytes, seconds));
    report.load = Some(LoadSettings::new(&args.load, Some(args.rate)));
    report.consumers = Some(consumers.len());
    report.failed = counts.failed;
    report.delivery_ms = counts.latencies.percentiles();
    report.end_to_end_ms = latencies.percentiles();
    report.sender_late_ms_max = Some(millis(sent.late_nanos_max));
    if let Some(error) = &counts.first_error {
        report.error = Some(format!("{} record(s) were not delivered: {error}", counts.failed));
    } else if received != sent.records && !interrupt.requested() {
        report.error = Some(format!("{} records were sent and {received} received", sent.records));
    }
    report.print(output)
}

fn receive(consumer: &BaseConsumer<LogToTracing>, shared: &Shared<'_>) -> Received {
    let mut received = Received { latencies: Latencies::new(), last_nanos: 0 };
    let mut quiet = Stopwatch::start();
    loop {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let now = shared.watch.nanos();
                if let Some(due_nanos) = message.payload().and_then(|value| shared.due_time(value)) {
                    quiet = Stopwatch::start();
                    received.last_nanos = now;
                    shared.received.fetch_add(1, Ordering::Relaxed);
                    if due_nanos >= shared.counted_from_nanos {
                        received.latencies.record_nanos(now.saturating_sub(due_nanos));
                    }
                }
            }
            // The client reconnects by itself; records that never come are counted at the end.
            Some(Err(error)) => tracing::warn!(%error, "consuming"),
            None => {}
        }
        let expected = shared.expected.load(Ordering::Relaxed);
        let all_sent = expected != u64::MAX;
        let stopped = shared.stop.load(Ordering::Relaxed) || shared.interrupt.requested();
        let lost = all_sent && quiet.seconds() > LOST_AFTER_SECONDS;
        if stopped || lost || shared.received.load(Ordering::Relaxed) >= expected {
            return received;
        }
    }
}

impl Shared<'_> {
    /// When the record was due, where it is one of this run.
    fn due_time(&self, value: &[u8]) -> Option<u64> {
        let stamp = self.shape.stamp_of(value)?;
        (stamp.mark == self.mark).then_some(stamp.due_nanos)
    }
}
