//! What applications do with librdkafka, the client that most languages' clients are made of.
#![expect(clippy::unwrap_used, reason = "a test may panic, also outside its #[test] function")]

#[path = "support/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use node::{Node, Settings, until};

const TIMEOUT: Duration = Duration::from_secs(30);
/// One turn of a consumer that has nothing yet.
const POLL: Duration = Duration::from_millis(100);

fn config(node: &Node, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", node.bootstrap()).set("message.timeout.ms", "30000");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn producer(node: &Node, settings: &[(&str, &str)]) -> FutureProducer {
    config(node, settings).create().unwrap()
}

/// A consumer of whole partitions, without a group to speak of.
fn reader(node: &Node, topic: &str, partitions: i32, offset: Offset) -> BaseConsumer {
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, offset).unwrap();
    }
    let consumer = member(node, "reader");
    consumer.assign(&assignment).unwrap();
    consumer
}

fn member(node: &Node, group: &str) -> BaseConsumer {
    let settings = [
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("session.timeout.ms", "6000"),
        ("message.max.bytes", "4000000"),
    ];
    let mut config = config(node, &settings);
    config.remove("message.timeout.ms");
    config.create().unwrap()
}

/// The next `count` messages.
fn read(consumer: &BaseConsumer, count: usize) -> Vec<OwnedMessage> {
    let mut messages = Vec::new();
    let complete = until(|| {
        if let Some(message) = consumer.poll(POLL) {
            messages.push(message.unwrap().detach());
        }
        messages.len() == count
    });
    assert!(complete, "{} of {count} messages came", messages.len());
    messages
}

fn create_topic(node: &Node, runtime: &tokio::runtime::Runtime, name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", node.bootstrap()).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let created = runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap();
    assert_eq!(created, [Ok(name.to_owned())]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends one record and waits until it is acknowledged; says where it is.
fn send(producer: &FutureProducer, record: FutureRecord<'_, str, [u8]>) -> Result<(i32, i64), KafkaError> {
    let sent = runtime().block_on(producer.send(record, Timeout::After(TIMEOUT)));
    sent.map(|delivery| (delivery.partition, delivery.offset)).map_err(|(error, _)| error)
}

#[test]
fn records_come_back_as_they_were_sent_with_every_acks_and_codec() {
    let node = Node::start();
    for acks in ["0", "1", "all"] {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            // The topic is made by the first record to it.
            let topic = format!("auto-{acks}-{codec}");
            let producer = producer(&node, &[("acks", acks), ("compression.type", codec)]);
            let value = "a value that is worth compressing ".repeat(20);
            let headers = OwnedHeaders::new()
                .insert(Header { key: "trace", value: Some(b"1234") })
                .insert(Header { key: "null", value: None::<&[u8]> });
            let keyed = FutureRecord::to(&topic).key("key").payload(value.as_bytes()).headers(headers);
            send(&producer, keyed).unwrap();
            send(&producer, FutureRecord::to(&topic).payload(value.as_bytes())).unwrap();
            let messages = read(&reader(&node, &topic, 1, Offset::Beginning), 2);
            for (offset, (message, key)) in messages.iter().zip([Some(&b"key"[..]), None]).enumerate() {
                assert_eq!(message.offset(), i64::try_from(offset).unwrap(), "{topic}");
                assert_eq!(message.payload(), Some(value.as_bytes()), "{topic}");
                assert_eq!(message.key(), key, "{topic}");
            }
            let headers = messages[0].headers().unwrap();
            assert_eq!(headers.count(), 2, "{topic}");
            assert_eq!(headers.get(0), Header { key: "trace", value: Some(&b"1234"[..]) }, "{topic}");
            assert_eq!(headers.get(1), Header { key: "null", value: None }, "{topic}");
        }
    }
}

#[test]
fn an_idempotent_producer_fills_an_explicit_topic_in_order() {
    const RECORDS: i64 = 300;
    let (node, runtime) = (Node::start(), runtime());
    create_topic(&node, &runtime, "explicit", 1);
    let producer = producer(&node, &[("enable.idempotence", "true"), ("batch.num.messages", "10")]);
    let values: Vec<_> = (0..RECORDS).map(|value| value.to_string()).collect();
    let sent = values.iter().map(|value| {
        producer.send(FutureRecord::<(), _>::to("explicit").payload(value), Timeout::After(TIMEOUT))
    });
    let sent = runtime.block_on(futures_util::future::join_all(sent));
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    let messages = read(&reader(&node, "explicit", 1, Offset::Beginning), values.len());
    let read: Vec<_> = messages.iter().map(|message| message.payload().unwrap()).collect();
    assert_eq!(read, values.iter().map(String::as_bytes).collect::<Vec<_>>());
}

#[test]
fn a_consumer_begins_at_an_offset_or_a_timestamp() {
    let node = Node::start_with(Settings::default().with("log.retention.ms", "-1"));
    let producer = producer(&node, &[]);
    for index in 0..10_i64 {
        let value = index.to_string();
        let record = FutureRecord::to("positions").payload(value.as_bytes());
        send(&producer, record.timestamp(1_700_000_000_000 + index * 1000)).unwrap();
    }
    let messages = read(&reader(&node, "positions", 1, Offset::Offset(7)), 3);
    assert_eq!(messages.iter().map(Message::offset).collect::<Vec<_>>(), [7, 8, 9]);
    let consumer = reader(&node, "positions", 1, Offset::End);
    assert_eq!(consumer.fetch_watermarks("positions", 0, TIMEOUT).unwrap(), (0, 10));
    for (timestamp, offset) in [
        (0, Offset::Offset(0)),
        (1_700_000_003_000, Offset::Offset(3)),
        (1_700_000_003_001, Offset::Offset(4)),
        (1_700_000_009_001, Offset::End),
    ] {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset("positions", 0, Offset::Offset(timestamp)).unwrap();
        let found = consumer.offsets_for_times(asked, TIMEOUT).unwrap();
        assert_eq!(found.elements()[0].offset(), offset, "{timestamp}");
    }
}

#[test]
fn two_members_share_the_partitions_of_a_topic() {
    let (node, runtime) = (Node::start(), runtime());
    create_topic(&node, &runtime, "shared", 4);
    let members = [member(&node, "sharers"), member(&node, "sharers")];
    for member in &members {
        member.subscribe(&["shared"]).unwrap();
    }
    let partitions = |member: &BaseConsumer| -> BTreeSet<i32> {
        // Polling is what makes a member take part.
        assert!(member.poll(POLL).is_none());
        member.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
    };
    let balanced = until(|| {
        let owned: Vec<_> = members.iter().map(partitions).collect();
        owned.iter().all(|owned| owned.len() == 2) && owned[0].is_disjoint(&owned[1])
    });
    assert!(balanced, "{:?}", members.map(|member| member.assignment()));
}

#[test]
fn committed_offsets_survive_a_restart() {
    let mut node = Node::start();
    let producer = producer(&node, &[]);
    for value in [b"one", b"two"] {
        send(&producer, FutureRecord::to("committed").payload(&value[..])).unwrap();
    }
    let consumer = member(&node, "survivors");
    consumer.subscribe(&["committed"]).unwrap();
    assert_eq!(read(&consumer, 1)[0].payload(), Some(&b"one"[..]));
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("committed", 0, Offset::Offset(1)).unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    drop((consumer, producer));
    // Once in order, once as if the power had gone.
    for kill in [false, true] {
        node = if kill { node.kill() } else { node.stop() }.start();
        let consumer = member(&node, "survivors");
        consumer.subscribe(&["committed"]).unwrap();
        let message = read(&consumer, 1).remove(0);
        assert_eq!((message.offset(), message.payload()), (1, Some(&b"two"[..])));
    }
}

#[test]
fn a_large_record_passes_and_a_too_large_one_is_refused() {
    let node = Node::start();
    // The client must not refuse it by itself.
    let producer = producer(&node, &[("message.max.bytes", "4000000")]);
    let large: Vec<u8> = (0..900 * 1024).map(|index: u32| index.to_le_bytes()[1]).collect();
    assert_eq!(send(&producer, FutureRecord::to("large").payload(&large[..])).unwrap(), (0, 0));
    let too_large = vec![0; 1_100_000];
    let refused = send(&producer, FutureRecord::to("large").payload(&too_large[..])).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(send(&producer, FutureRecord::to("large").payload(&b"small"[..])).unwrap(), (0, 1));
    let messages = read(&reader(&node, "large", 1, Offset::Beginning), 2);
    assert_eq!(messages[0].payload(), Some(&large[..]));
    assert_eq!(messages[1].payload(), Some(&b"small"[..]));
}
