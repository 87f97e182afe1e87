//! The Kafka listener as bytes see it: every API in every version, the order of answers, and what is refused.

#[path = "wire/edges.rs"]
mod edges;
#[path = "support/node.rs"]
mod node;
#[path = "wire/samples.rs"]
mod samples;
#[path = "support/wire_client.rs"]
mod wire_client;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use millstream_record::crc32c;
use millstream_wire::api_versions_request::ApiVersionsRequest;
use millstream_wire::api_versions_response::ApiVersionsResponse;
use millstream_wire::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millstream_wire::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millstream_wire::init_producer_id_request::InitProducerIdRequest;
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millstream_wire::produce_request::ProduceRequest;
use millstream_wire::{ApiKey, ErrorCode, Message, Reader};

use node::{Node, Settings};
use samples::every_api_in_every_version;
use wire_client::{ACKS_ALL, PRODUCE_BY_NAME, TIMESTAMP, WireClient, batch_of, produce_request};

const FETCH_BY_NAME: i16 = 12;

/// Records carry an old timestamp, and must not age away.
fn start() -> Node {
    Node::start_with(Settings::default().with("log.retention.ms", "-1"))
}

fn client(node: &Node) -> WireClient {
    WireClient::new(node.connect())
}

#[test]
fn every_version_of_every_api_is_answered() {
    let node = start();
    let mut asked = every_api_in_every_version(&mut client(&node));
    asked.sort();
    let mut all: Vec<_> = ApiKey::ALL.iter().map(|&key| i16::from(key)).collect();
    all.sort_unstable();
    assert_eq!(asked, all, "each API is asked, once");
}

#[test]
fn a_future_api_versions_is_told_what_is_served() {
    let node = start();
    let mut client = client(&node);
    // Header version 2: key 18, version 99, correlation id 7, null client id, no tags; then what nobody knows.
    client.stream.write_all(b"\0\0\0\x10\0\x12\0\x63\0\0\0\x07\xff\xff\0\x01\x02\x03\x04\x05").unwrap();
    let frame = client.receive_frame().unwrap();
    let (correlation_id, body) = frame.split_at(4);
    assert_eq!(correlation_id, 7_i32.to_be_bytes());
    let mut reader = Reader::new(body);
    let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!(reader.rest(), b"");
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let [served] = &response.api_keys[..] else { panic!("{response:?}") };
    assert_eq!(served.api_key, i16::from(ApiKey::ApiVersions));
    assert_eq!(served.min_version..=served.max_version, ApiKey::ApiVersions.versions());
    // The connection stays usable: that is what the answer is for.
    let response = client.call(&ApiVersionsRequest::default(), 2);
    assert_eq!(response.error_code, ErrorCode::NONE);
}

#[test]
fn an_unknown_api_or_version_ends_the_connection() {
    let node = start();
    let header_of = |key: i16, version: i16| {
        let mut frame = 10_i32.to_be_bytes().to_vec();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0xff, 0xff]);
        frame
    };
    let mut unknown = vec![(-1, 0), (1000, 0), (i16::MAX, i16::MAX)];
    for key in ApiKey::ALL {
        let versions = key.versions();
        unknown.push((i16::from(*key), versions.end() + 1));
        unknown.push((i16::from(*key), versions.start() - 1));
    }
    // Every version of ApiVersions is answered.
    unknown.retain(|(key, _)| *key != i16::from(ApiKey::ApiVersions));
    for (key, version) in unknown {
        let mut stream = node.connect();
        stream.write_all(&header_of(key, version)).unwrap();
        let mut answer = Vec::new();
        // An end, or a reset where something was left unread.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "key {key}, version {version}");
    }
    assert_eq!(client(&node).call(&ApiVersionsRequest::default(), 0).error_code, ErrorCode::NONE);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    const PRODUCES: i64 = 50;
    let node = start();
    let mut client = client(&node);
    client.create_topic("pipelined", &[]);
    let metadata = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let mut waiting = Vec::new();
    for offset in 0..PRODUCES {
        let acks = [ACKS_ALL, 1, 0][usize::try_from(offset % 3).unwrap()];
        let request = produce_request("pipelined", 0, acks, batch_of(b"in order"));
        let correlation_id = client.send(&request, PRODUCE_BY_NAME);
        if acks != 0 {
            waiting.push((correlation_id, Some(offset)));
        }
        if offset % 7 == 6 {
            waiting.push((client.send(&metadata, 9), None));
        }
    }
    for (correlation_id, offset) in waiting {
        match offset {
            None => assert_eq!(client.receive::<MetadataRequest<'_>>(correlation_id, 9).brokers.len(), 1),
            Some(offset) => {
                let response = client.receive::<ProduceRequest<'_>>(correlation_id, PRODUCE_BY_NAME);
                let partition = &response.responses[0].partition_responses[0];
                assert_eq!((partition.error_code, partition.base_offset), (ErrorCode::NONE, offset));
            }
        }
    }
    assert_eq!(client.produce("pipelined", batch_of(b"next")).base_offset, PRODUCES);
}

fn fetch_request(
    topic: &'static str,
    partition: i32,
    offset: i64,
    max_wait_ms: i32,
) -> FetchRequest<'static> {
    let partition = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1024 * 1024,
        ..Default::default()
    };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

#[test]
fn a_waiting_fetch_is_answered_as_soon_as_there_is_a_record() {
    let node = start();
    let (mut consumer, mut producer) = (client(&node), client(&node));
    producer.create_topic("awaited", &[]);
    let fetch = consumer.send(&fetch_request("awaited", 0, 0, 5_000), FETCH_BY_NAME);
    // Nothing comes while there is nothing.
    consumer.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let early = consumer.stream.peek(&mut [0]).unwrap_err();
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
    let batch = batch_of(b"at last");
    assert_eq!(producer.produce("awaited", batch.clone()).error_code, ErrorCode::NONE);
    consumer.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let response = consumer.receive::<FetchRequest<'_>>(fetch, FETCH_BY_NAME);
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (ErrorCode::NONE, 1));
    let records = partition.records.as_ref().unwrap().contiguous().into_owned();
    // What the leader assigned (base offset, leader epoch) lies in front of the magic byte.
    assert_eq!(records[16..], batch[16..]);
}

#[test]
fn an_idempotent_producer_can_repeat_and_cannot_skip() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("idempotent", &[]);
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let producer = client.call(&request, 5);
    assert_eq!(producer.error_code, ErrorCode::NONE);
    let batch = |base_sequence: i32| {
        let mut builder = millstream_record::BatchBuilder::new(1000).producer(
            producer.producer_id,
            producer.producer_epoch,
            base_sequence,
        );
        builder.append(TIMESTAMP, None, Some(b"once"), []).unwrap();
        builder.finish().unwrap()
    };
    let sequences = [
        (0, ErrorCode::NONE, 0),
        (1, ErrorCode::NONE, 1),
        (0, ErrorCode::NONE, 0),
        (1, ErrorCode::NONE, 1),
        (3, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
        (2, ErrorCode::NONE, 2),
    ];
    for (sequence, error_code, offset) in sequences {
        let partition = client.produce("idempotent", batch(sequence));
        assert_eq!((partition.error_code, partition.base_offset), (error_code, offset), "{sequence}");
    }
    assert_eq!(client.produce("idempotent", batch_of(b"plain")).base_offset, 3);
}

/// Where a batch's header has what.
const CRC_AT: usize = 17;
const CRC_COVERS_FROM: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const RECORDS_COUNT_AT: usize = 57;

/// A batch that says something else at `at`, under a checksum that is right.
fn patched(at: usize, value: i32) -> Vec<u8> {
    let mut batch = batch_of(b"value");
    batch[at..at + 4].copy_from_slice(&value.to_be_bytes());
    let crc = crc32c(&batch[CRC_COVERS_FROM..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn a_batch_that_is_not_what_it_says_is_refused() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("refused", &[]);
    let mut damaged = batch_of(b"value");
    *damaged.last_mut().unwrap() ^= 1;
    let mut old = batch_of(b"value");
    old[16] = 1;
    let cases = [
        ("bad checksum", damaged, ErrorCode::CORRUPT_MESSAGE),
        ("cut", batch_of(b"value")[..70].to_vec(), ErrorCode::CORRUPT_MESSAGE),
        ("magic 1", old, ErrorCode::INVALID_RECORD),
        ("more records than there are", patched(RECORDS_COUNT_AT, 2), ErrorCode::INVALID_RECORD),
        ("two billion records", patched(RECORDS_COUNT_AT, i32::MAX), ErrorCode::INVALID_RECORD),
        ("a negative number of records", patched(RECORDS_COUNT_AT, -1), ErrorCode::INVALID_RECORD),
        ("more offsets than records", patched(LAST_OFFSET_DELTA_AT, 5), ErrorCode::INVALID_RECORD),
        ("two batches", [batch_of(b"one"), batch_of(b"two")].concat(), ErrorCode::INVALID_RECORD),
        ("too large", batch_of(&vec![b'x'; 1_100_000]), ErrorCode::MESSAGE_TOO_LARGE),
    ];
    for (what, batch, error_code) in cases {
        let partition = client.produce("refused", batch);
        assert_eq!((partition.error_code, partition.base_offset), (error_code, -1), "{what}");
    }
    // None of them took an offset, and the connection lived through all.
    let partition = client.produce("refused", batch_of(b"valid"));
    assert_eq!((partition.error_code, partition.base_offset), (ErrorCode::NONE, 0));
}

#[test]
fn what_does_not_exist_is_unknown() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("known", &[]);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    for (topic, partition) in [("nowhere", 0), ("known", 1), ("known", -1)] {
        let produce = produce_request(topic, partition, ACKS_ALL, batch_of(b"value"));
        let response = client.call(&produce, PRODUCE_BY_NAME);
        assert_eq!(response.responses[0].partition_responses[0].error_code, unknown, "{topic}-{partition}");
        let response = client.call(&fetch_request(topic, partition, 0, 0), FETCH_BY_NAME);
        assert_eq!(response.responses[0].partitions[0].error_code, unknown, "{topic}-{partition}");
        let asked = ListOffsetsPartition { partition_index: partition, timestamp: -1, ..Default::default() };
        let asked = ListOffsetsTopic { name: topic.into(), partitions: vec![asked] };
        let response = client.call(&ListOffsetsRequest { topics: vec![asked], ..Default::default() }, 7);
        assert_eq!(response.topics[0].partitions[0].error_code, unknown, "{topic}-{partition}");
    }
    let response = client.call(&produce_request("", 0, ACKS_ALL, batch_of(b"value")), 13);
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let response = client.call(&fetch_request("known", 0, 7, 0), FETCH_BY_NAME);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(metadata_error(&mut client, "nowhere", false), unknown);
    // Asking created nothing; asking with permission to create does.
    assert_eq!(metadata_error(&mut client, "nowhere", false), unknown);
    metadata_error(&mut client, "nowhere", true);
    assert_eq!(metadata_error(&mut client, "nowhere", false), ErrorCode::NONE);
}

fn metadata_error(client: &mut WireClient, name: &str, allow_auto_topic_creation: bool) -> ErrorCode {
    let topic = MetadataRequestTopic { name: Some(name.to_owned().into()), ..Default::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation, ..Default::default() };
    client.call(&request, 9).topics[0].error_code
}

#[test]
fn a_topic_needs_a_valid_name() {
    let node = start();
    let mut client = client(&node);
    let (longest, too_long) = ("n".repeat(249), "n".repeat(250));
    for name in ["", ".", "..", "a/b", "a b", "a\0", "ü", "a:b", &too_long] {
        assert_eq!(
            metadata_error(&mut client, name, true),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "Metadata of {name:?}"
        );
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let response = client.call(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 7);
        assert_eq!(
            response.topics[0].error_code,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "CreateTopics of {name:?}"
        );
    }
    client.create_topic(&longest, &[]);
    client.create_topic("A.valid_name-0", &[]);
    let existing = CreatableTopic {
        name: longest.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let response = client.call(&CreateTopicsRequest { topics: vec![existing], ..Default::default() }, 7);
    assert_eq!(response.topics[0].error_code, ErrorCode::TOPIC_ALREADY_EXISTS);
}
