//! What librdkafka makes of a broker whose hooks turn records away, drop them, and answer late and in any order.
#![expect(clippy::unwrap_used, reason = "a test may panic, also outside its #[test] function")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use millstream_broker::broker::RunningBroker;
use millstream_broker::clock::SystemClock;
use millstream_broker::config::BrokerConfig;
use millstream_broker::hooks::{
    Hooks, Ingest, IngestBinding, IngestOutcome, IngestRequest, RecordRefusal, View, ViewError, ViewRequest,
    Viewed,
};
use millstream_broker::metadata::{TopicImage, ViewImage};
use millstream_record::{RecordBatch, RecordIter};
use prometheus_client::registry::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const TIMEOUT: Duration = Duration::from_secs(60);
const TOPIC: &str = "orders";
const VIEW: &str = "orders.shown";

/// A broker in this process: hooks are code.
struct Node {
    broker: RunningBroker,
    runtime: Runtime,
    _dir: TempDir,
}

impl Node {
    fn start(hooks: impl Hooks) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let flags = [("data.dir", dir.path().to_str().unwrap()), ("listeners", "PLAINTEXT://127.0.0.1:0")];
        let config = BrokerConfig::from_flags(&flags).unwrap();
        let broker = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (clock, mut registry) = (SystemClock::shared(), Registry::default());
            let started = RunningBroker::start(config, clock, Arc::new(hooks), &mut registry, listener).await;
            let broker = started.unwrap();
            broker.ensure_topic(TOPIC, Some(1), [].into()).await.unwrap();
            broker.put_view(VIEW, TOPIC).await.unwrap();
            broker
        });
        Self { broker, runtime, _dir: dir }
    }

    fn client(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.address().to_string());
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    }

    fn producer(&self, settings: &[(&str, &str)]) -> FutureProducer {
        self.client(settings).create().unwrap()
    }

    fn reader(&self, topic: &str, settings: &[(&str, &str)]) -> BaseConsumer {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        let consumer: BaseConsumer = self.client(settings).set("group.id", "readers").create().unwrap();
        consumer.assign(&assignment).unwrap();
        consumer
    }

    fn send(&self, producer: &FutureProducer, value: &str) -> Result<i64, KafkaError> {
        let record = FutureRecord::<str, str>::to(TOPIC).payload(value);
        let sent = self.runtime.block_on(producer.send(record, Timeout::After(TIMEOUT)));
        sent.map(|delivery| delivery.offset).map_err(|(error, _)| error)
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.stop());
    }
}

/// Turns away every third batch, is not ready every tenth time it is looked for, and takes its time.
#[derive(Default)]
struct Moody {
    looked_for: AtomicU64,
    asked: Arc<AtomicU64>,
}

impl Hooks for Moody {
    fn ingest(&self, _topic: &TopicImage) -> IngestBinding {
        match self.looked_for.fetch_add(1, Ordering::Relaxed) % 10 {
            9 => IngestBinding::Pending,
            _ => IngestBinding::Active(Arc::new(TurnsAway(Arc::clone(&self.asked)))),
        }
    }

    fn view(&self, _view: &ViewImage) -> Option<Arc<dyn View>> {
        None
    }
}

struct TurnsAway(Arc<AtomicU64>);

impl Ingest for TurnsAway {
    fn transform(&self, request: IngestRequest) -> BoxFuture<'static, IngestOutcome> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        async move {
            // So that answers come in another order than questions.
            for _ in 0..number.wrapping_mul(0x9E37_79B9) % 100 {
                tokio::task::yield_now().await;
            }
            match number % 3 {
                0 => IngestOutcome::TryLater { message: "not now".to_owned() },
                1 => IngestOutcome::Unchanged,
                _ => {
                    let mut rewrite = request.rewrite;
                    each_record(&request.batch, |index, timestamp, record| {
                        rewrite.keep(index, timestamp, record.body).unwrap();
                    });
                    IngestOutcome::Rewritten(rewrite)
                }
            }
        }
        .boxed()
    }
}

fn each_record(batch: &[u8], mut each: impl FnMut(i32, i64, &millstream_record::Record<'_>)) {
    let batch = RecordBatch::new(batch).unwrap();
    let section = batch.uncompressed_records(1 << 20).unwrap();
    for record in RecordIter::new(&section).map(Result::unwrap) {
        each(record.offset_delta, batch.timestamp_of(&record), &record);
    }
}

/// Symptom to guard against: records lost, twice, or out of order, because what was sent behind a batch that was
/// turned away took its place.
#[test]
fn an_idempotent_producer_loses_nothing_and_repeats_nothing() {
    const RECORDS: usize = 3_000;
    let node = Node::start(Moody::default());
    for codec in ["none", "lz4"] {
        let producer = node.producer(&[
            ("enable.idempotence", "true"),
            ("batch.num.messages", "7"),
            ("linger.ms", "0"),
            ("retry.backoff.ms", "1"),
            ("retry.backoff.max.ms", "5"),
            ("compression.type", codec),
        ]);
        let values: Vec<String> = (0..RECORDS).map(|n| format!("{codec}-{n}")).collect();
        let sent = values.iter().map(|value| {
            let record = FutureRecord::<str, str>::to(TOPIC).payload(value);
            producer.send(record, Timeout::After(TIMEOUT))
        });
        let sent = node.runtime.block_on(join_all(sent));
        assert!(sent.iter().all(Result::is_ok), "{:?}", sent.iter().find(|sent| sent.is_err()));
    }
    let reader = node.reader(TOPIC, &[]);
    for codec in ["none", "lz4"] {
        for n in 0..RECORDS {
            let message = reader.poll(TIMEOUT).expect("all of them come").unwrap();
            assert_eq!(message.payload_view::<str>(), Some(Ok(format!("{codec}-{n}").as_str())));
        }
    }
    assert!(reader.poll(Duration::from_millis(500)).is_none());
    drop(reader);
    node.stop();
}

/// Takes what is no secret, and shows what is no noise.
struct Selective;

impl Hooks for Selective {
    fn ingest(&self, _topic: &TopicImage) -> IngestBinding {
        IngestBinding::Active(Arc::new(Self))
    }

    fn view(&self, _view: &ViewImage) -> Option<Arc<dyn View>> {
        Some(Arc::new(Self))
    }
}

impl Ingest for Selective {
    fn transform(&self, request: IngestRequest) -> BoxFuture<'static, IngestOutcome> {
        let mut records = Vec::new();
        each_record(&request.batch, |index, _, record| {
            if record.value == Some(b"secret") {
                records.push(RecordRefusal { index, message: "a secret".to_owned() });
            }
        });
        let outcome = match records.is_empty() {
            true => IngestOutcome::Unchanged,
            false => IngestOutcome::Refused { message: "secrets are not taken".to_owned(), records },
        };
        std::future::ready(outcome).boxed()
    }
}

impl View for Selective {
    fn version(&self) -> u64 {
        1
    }

    fn map(&self, request: ViewRequest) -> BoxFuture<'static, Result<Viewed, ViewError>> {
        let mut rewrite = request.rewrite;
        each_record(&request.batch, |index, timestamp, record| {
            if record.value != Some(b"noise") {
                rewrite.keep(index, timestamp, record.body).unwrap();
            }
        });
        std::future::ready(Ok(Viewed::Rewritten(rewrite))).boxed()
    }
}

#[test]
fn a_refusal_is_final_and_the_producer_goes_on() {
    let node = Node::start(Selective);
    let producer = node.producer(&[("enable.idempotence", "true")]);
    assert_eq!(node.send(&producer, "a").unwrap(), 0);
    let refused = node.send(&producer, "secret").unwrap_err();
    assert_eq!(refused, KafkaError::MessageProduction(RDKafkaErrorCode::InvalidRecord));
    assert_eq!(node.send(&producer, "b").unwrap(), 1);
    node.stop();
}

/// Symptom: a consumer of a topic from which nearly all records are dropped was told, after some ten answers, that a
/// message is too large. Cause: librdkafka takes an answer with batches and no record for one that was cut off.
#[test]
fn a_consumer_passes_over_what_is_not_shown() {
    let node = Node::start(Selective);
    let producer = node.producer(&[]);
    let reader = node.reader(VIEW, &[("enable.partition.eof", "true"), ("fetch.wait.max.ms", "10")]);
    // A turn of a consumer may end with nothing.
    let next = || (0..600).find_map(|_| reader.poll(Duration::from_millis(100)));
    // Until it is at the end again.
    let wait = || match next() {
        Some(Err(KafkaError::PartitionEOF(0))) => {}
        other => panic!("{other:?}"),
    };
    wait();
    for _ in 0..30 {
        node.send(&producer, "noise").unwrap();
        wait();
    }
    let offset = node.send(&producer, "signal").unwrap();
    let shown = next().unwrap().unwrap();
    assert_eq!((shown.offset(), shown.payload(), shown.topic()), (offset, Some(&b"signal"[..]), VIEW));
    drop(shown);
    drop(reader);
    node.stop();
}
