//! The sending side of a bench.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer};

use super::payload::{Key, Payload, Stamp};
use super::percentiles::Latencies;
use super::{LoadArgs, TopicArgs};
use crate::cli::clock::Stopwatch;
use crate::cli::delivery::{self, DeliveryContext};
use crate::cli::failure::{Failure, explain};
use crate::cli::interrupt::Interrupt;
use crate::cli::produce::Acks;
use crate::cli::progress::RECORDS_PER_STEP;

/// Records between two looks at delivery reports while there is no time to spare.
const RECORDS_PER_POLL: u64 = 64;
/// How long to wait for room in the client's queue, or for delivery reports.
const POLL: Duration = Duration::from_millis(1);
/// A due time that is further away is slept for, a nearer one is waited for awake.
const AWAKE_NANOS: u64 = 200_000;
const NAP: Duration = Duration::from_micros(100);
/// Records that wait in the client, however small they are.
const RECORDS_WAITING_MAX: &str = "2000000";

/// What became of the records, counted as the reports arrive.
pub(super) struct Deliveries {
    watch: Stopwatch,
    /// Latencies of records that were due before this are not counted: the warm-up.
    counted_from_nanos: u64,
    counts: Mutex<Counts>,
}

pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) first_error: Option<String>,
    pub(super) last_nanos: u64,
    pub(super) latencies: Latencies,
}

impl Deliveries {
    pub(super) fn new(watch: Stopwatch, counted_from_nanos: u64) -> Self {
        let counts =
            Counts { delivered: 0, failed: 0, first_error: None, last_nanos: 0, latencies: Latencies::new() };
        Self { watch, counted_from_nanos, counts: Mutex::new(counts) }
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl delivery::Deliveries for Deliveries {
    /// The record's due time: nanoseconds on the bench's stopwatch.
    type Sent = usize;

    fn report(&self, result: &DeliveryResult<'_>, due_nanos: usize) {
        let now = self.watch.nanos();
        let due_nanos = due_nanos as u64;
        let mut counts = self.counts();
        counts.last_nanos = now;
        match result {
            Ok(_) => {
                counts.delivered += 1;
                if due_nanos >= self.counted_from_nanos {
                    counts.latencies.record_nanos(now.saturating_sub(due_nanos));
                }
            }
            Err((error, _)) => {
                counts.failed += 1;
                counts.first_error.get_or_insert_with(|| {
                    error.rdkafka_error_code().map_or_else(|| error.to_string(), explain)
                });
            }
        }
    }
}

/// A producer for `load`.
pub(super) fn producer(
    topic: &TopicArgs,
    load: &LoadArgs,
    deliveries: Arc<Deliveries>,
) -> Result<BaseProducer<DeliveryContext<Deliveries>>, Failure> {
    if load.idempotent && load.delivery.acks != Acks::All {
        return Err(Failure::Usage("--idempotent needs --acks all".to_owned()));
    }
    // A batch and a record both have to fit into a request.
    let message_max = load.batch_bytes.max(load.size as u64 + 1024).clamp(1_000_000, 1_000_000_000);
    let settings = [
        ("acks", load.delivery.acks.setting()),
        ("compression.type", load.delivery.compression.setting()),
        ("linger.ms", &load.linger_ms.to_string()),
        ("batch.size", &load.batch_bytes.to_string()),
        ("batch.num.messages", "1000000"),
        ("message.max.bytes", &message_max.to_string()),
        ("queue.buffering.max.messages", RECORDS_WAITING_MAX),
        ("queue.buffering.max.kbytes", &(load.buffer_bytes / 1024).to_string()),
        ("enable.idempotence", if load.idempotent { "true" } else { "false" }),
    ];
    topic.connection.producer(&settings, DeliveryContext(deliveries))
}

/// A load that is about to be sent.
pub(super) struct Load<'a> {
    pub(super) producer: &'a BaseProducer<DeliveryContext<Deliveries>>,
    pub(super) topic: &'a str,
    pub(super) args: &'a LoadArgs,
    pub(super) payload: &'a Payload,
    /// Records per second; none sends as fast as it can.
    pub(super) rate: Option<f64>,
    /// Puts the due time and this mark into each value.
    pub(super) stamp: Option<u64>,
    pub(super) watch: Stopwatch,
    pub(super) interrupt: &'a Interrupt,
}

/// How the sending went.
pub(super) struct Sent {
    pub(super) records: u64,
    pub(super) started_nanos: u64,
    pub(super) late_nanos_max: u64,
}

impl Load<'_> {
    /// Sends everything, waits for the reports, and says how many were sent: fewer when interrupted.
    pub(super) fn send_all(&self, bar: &ProgressBar) -> Result<Sent, Failure> {
        let started_nanos = self.watch.nanos();
        let mut sent = Sent { records: 0, started_nanos, late_nanos_max: 0 };
        let mut stamped = vec![0; if self.stamp.is_some() { self.args.size } else { 0 }];
        while sent.records < self.args.records {
            let sequence = sent.records;
            if sequence.is_multiple_of(RECORDS_PER_STEP) {
                bar.set_position(sequence);
                if self.interrupt.requested() {
                    break;
                }
            }
            let due_nanos = match self.rate {
                None => self.watch.nanos(),
                Some(rate) => {
                    let due_nanos = started_nanos + nanos_until(sequence, rate);
                    let late_nanos = self.wait_until(due_nanos);
                    sent.late_nanos_max = sent.late_nanos_max.max(late_nanos);
                    due_nanos
                }
            };
            let value = match self.stamp {
                None => self.payload.value(sequence),
                Some(mark) => {
                    stamped.copy_from_slice(self.payload.value(sequence));
                    self.payload.shape().put_stamp(&mut stamped, Stamp { due_nanos, mark });
                    &stamped
                }
            };
            if !self.send(sequence, value, due_nanos)? {
                break;
            }
            sent.records += 1;
            if sequence.is_multiple_of(RECORDS_PER_POLL) {
                self.producer.poll(Duration::ZERO);
            }
        }
        while self.producer.in_flight_count() > 0 && !self.interrupt.requested() {
            self.producer.poll(POLL);
        }
        bar.finish_and_clear();
        Ok(sent)
    }

    /// Sends one record; false where the user has had enough.
    fn send(&self, sequence: u64, value: &[u8], due_nanos: u64) -> Result<bool, Failure> {
        let key = Key::new(sequence);
        let due = usize::try_from(due_nanos).unwrap_or(usize::MAX);
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(self.topic, due).payload(value);
        if !self.args.no_key {
            record = record.key(key.bytes());
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(true),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    if self.interrupt.requested() {
                        return Ok(false);
                    }
                    record = again;
                    self.producer.poll(POLL);
                }
                Err((error, _)) => return Err(Failure::kafka(format!("produce to {}", self.topic), &error)),
            }
        }
    }

    /// Serves delivery reports until `due_nanos`; how late it is then.
    fn wait_until(&self, due_nanos: u64) -> u64 {
        loop {
            let now = self.watch.nanos();
            if now >= due_nanos {
                return now - due_nanos;
            }
            self.producer.poll(Duration::ZERO);
            if due_nanos.saturating_sub(self.watch.nanos()) > AWAKE_NANOS {
                thread::sleep(NAP);
            }
        }
    }
}

/// When record number `sequence` is due, from the start.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "exact to the nanosecond for months of records"
)]
pub(super) fn nanos_until(sequence: u64, rate: f64) -> u64 {
    (sequence as f64 / rate * 1e9) as u64
}

/// Parses `--rate`.
pub(super) fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("not a number of records per second above 0"),
    }
}
