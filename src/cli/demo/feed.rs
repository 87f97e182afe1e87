//! Lines in, errors out: the two Kafka clients of the demo.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde::Deserialize;

use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

/// Longest line that is read; the broker takes no larger record anyway.
const LINE_BYTES_MAX: u64 = 1_000_000;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Results that wait to be shown.
const ERRORS_AHEAD_MAX: usize = 10_000;

/// What went into the input topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// What the second plugin writes of an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct ErrorRecord {
    pub(super) status: u16,
    pub(super) path: Option<String>,
    pub(super) count: u64,
}

/// Counts what was not acknowledged.
#[derive(Clone, Default)]
struct Lost(Arc<AtomicU64>);

impl ClientContext for Lost {}

impl ProducerContext for Lost {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if delivery.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Produces each line of the input, and returns when the last one is acknowledged.
pub(super) fn send_lines(
    bootstrap: &str,
    topic: &str,
    input: Option<&Path>,
    sample: &[u8],
    interrupt: &Interrupt,
) -> Result<Sent, Failure> {
    let reader: Box<dyn Read + '_> = match input {
        Some(path) => {
            let opened = File::open(path);
            Box::new(opened.map_err(|source| Failure::Input { path: path.to_owned(), source })?)
        }
        None => Box::new(sample),
    };
    let mut lines = BufReader::with_capacity(1 << 20, reader);
    let lost = Lost::default();
    let producer: BaseProducer<Lost> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create_with_context(lost.clone())
        .map_err(|error| Failure::kafka("make a producer", &error))?;
    let (mut sent, mut line) = (Sent::default(), Vec::new());
    while !interrupt.requested() {
        line.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let unreadable =
            |source| Failure::Input { path: input.unwrap_or(Path::new("sample")).to_owned(), source };
        if read.map_err(unreadable)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() {
            send(&producer, topic, text)?;
            sent.lines += 1;
            sent.bytes += text.len() as u64;
        }
    }
    producer.flush(FLUSH_TIMEOUT).map_err(|error| Failure::kafka("produce the input", &error))?;
    match lost.0.load(Ordering::Relaxed) {
        0 => Ok(sent),
        lost => Err(Failure::Incomplete(format!("{lost} of {} lines were not acknowledged", sent.lines))),
    }
}

fn send(producer: &BaseProducer<Lost>, topic: &str, line: &[u8]) -> Result<(), Failure> {
    loop {
        match producer.send(BaseRecord::<(), [u8]>::to(topic).payload(line)) {
            Ok(()) => break,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(POLL_INTERVAL);
            }
            Err((error, _)) => return Err(Failure::kafka("produce the input", &error)),
        }
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

/// Reads a topic of one partition from where it ends now, on a thread of its own.
pub(super) struct Follower {
    errors: mpsc::Receiver<Result<ErrorRecord, Failure>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn start(bootstrap: &str, topic: &str) -> Result<Self, Failure> {
        let action = || format!("consume {topic}");
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "millstream-demo")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .map_err(|error| Failure::kafka(action(), &error))?;
        let (_, end) = consumer
            .fetch_watermarks(topic, 0, Duration::from_secs(10))
            .map_err(|error| Failure::kafka(action(), &error))?;
        let mut assignment = TopicPartitionList::new();
        let added = assignment.add_partition_offset(topic, 0, Offset::Offset(end));
        added
            .and_then(|()| consumer.assign(&assignment))
            .map_err(|error| Failure::kafka(action(), &error))?;
        let (sender, errors) = mpsc::sync_channel(ERRORS_AHEAD_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let follow = move || {
            while !stopped.load(Ordering::Relaxed) {
                let taken = match consumer.poll(POLL_INTERVAL) {
                    None => continue,
                    Some(Ok(message)) => decoded(message.payload().unwrap_or_default()),
                    Some(Err(error)) => Err(Failure::kafka("consume the results", &error)),
                };
                if sender.send(taken).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("demo-results".to_owned()).spawn(follow);
        let thread = thread.map_err(|error| Failure::Node(format!("can't start a thread: {error}")))?;
        Ok(Self { errors, stop, thread: Some(thread) })
    }

    /// Hands out what has come since.
    pub(super) fn take(
        &mut self,
        mut show: impl FnMut(ErrorRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.errors.try_iter().try_for_each(|error| show(error?))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It may wait for room to hand over a result that nobody takes any more.
        self.errors.try_iter().for_each(drop);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread only moves results");
        }
    }
}

fn decoded(value: &[u8]) -> Result<ErrorRecord, Failure> {
    serde_json::from_slice(value)
        .map_err(|error| Failure::Incomplete(format!("a result is not as expected: {error}")))
}
