//! What real clients and hurried ones run into: each of these once went wrong.

use std::io::{Read, Write};
use std::net::Shutdown;

use millstream_record::{BatchBuilder, RecordBatch};
use millstream_wire::ErrorCode;
use millstream_wire::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millstream_wire::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millstream_wire::find_coordinator_request::FindCoordinatorRequest;
use millstream_wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};

use super::wire_client::{ACKS_ALL, PRODUCE_BY_NAME, TIMESTAMP, WireClient, batch_of, produce_request};
use super::{FETCH_BY_NAME, Node, Settings, client, fetch_request, start};

const MAX_TIMESTAMP: i64 = -3;
const NO_TIMESTAMP: i64 = -1;

fn batch_at(timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1000);
    builder.append(timestamp, None, Some(b"value"), []).expect("the limit leaves room");
    builder.finish().expect("it has a record")
}

fn list_offset(client: &mut WireClient, topic: &str, timestamp: i64) -> (ErrorCode, i64) {
    let partition = ListOffsetsPartition { timestamp, ..Default::default() };
    let topic = ListOffsetsTopic { name: topic.to_owned().into(), partitions: vec![partition] };
    let response = client.call(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7);
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.offset)
}

fn delete_records(client: &mut WireClient, topic: &str, offset: i64) {
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let topic = DeleteRecordsTopic { name: topic.to_owned().into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
    assert_eq!(client.call(&request, 2).topics[0].partitions[0].error_code, ErrorCode::NONE);
}

/// Nothing said how much of a stream without acknowledgements was on its way to the disk: the queue filled, and
/// the connection was closed.
#[test]
fn a_flood_without_acknowledgements_is_written_whole() {
    const BATCHES: i64 = 600;
    let node = start();
    let mut client = client(&node);
    client.create_topic("flood", &[]);
    for _ in 0..BATCHES {
        client.send(&produce_request("flood", 0, 0, batch_of(&vec![7; 900_000])), PRODUCE_BY_NAME);
    }
    // The answer to what comes behind them on the same connection says that they are written.
    let acknowledged = client.produce("flood", batch_of(b"last"));
    assert_eq!((acknowledged.error_code, acknowledged.base_offset), (ErrorCode::NONE, BATCHES));
    assert!(node.rss_bytes_peak() < 300 << 20, "{} MiB", node.rss_bytes_peak() >> 20);
}

/// Records without a timestamp were older than any retention time.
#[test]
fn records_without_a_timestamp_are_as_old_as_they_are() {
    let settings = Settings::default().with("log.retention.check.interval.ms", "20");
    let node = Node::start_with(settings);
    let mut client = client(&node);
    client.create_topic("undated", &[("retention.ms", "3600000")]);
    client.create_topic("dated", &[("retention.ms", "3600000")]);
    assert_eq!(client.produce("undated", batch_at(NO_TIMESTAMP)).base_offset, 0);
    assert_eq!(client.produce("dated", batch_at(TIMESTAMP)).base_offset, 0);
    // Retention has passed once the old record of the other topic is gone.
    while list_offset(&mut client, "dated", -2) != (ErrorCode::NONE, 1) {}
    assert_eq!(list_offset(&mut client, "undated", -2), (ErrorCode::NONE, 0));
    assert_eq!(list_offset(&mut client, "undated", TIMESTAMP), (ErrorCode::NONE, 0));
    assert_eq!(list_offset(&mut client, "undated", MAX_TIMESTAMP), (ErrorCode::NONE, 0));
}

#[test]
fn the_latest_timestamp_may_have_been_deleted() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("latest", &[]);
    for timestamp in [TIMESTAMP, TIMESTAMP - 1000, TIMESTAMP - 500] {
        client.produce("latest", batch_at(timestamp));
    }
    assert_eq!(list_offset(&mut client, "latest", MAX_TIMESTAMP), (ErrorCode::NONE, 0));
    delete_records(&mut client, "latest", 1);
    assert_eq!(list_offset(&mut client, "latest", MAX_TIMESTAMP), (ErrorCode::NONE, 2));
}

/// A fetch whose limits end in the middle of a batch can't collect the least that it asks for, and used to wait
/// for it all the same.
#[test]
fn a_fetch_that_is_full_does_not_wait_for_more() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("full", &[]);
    for _ in 0..5 {
        client.produce("full", batch_of(&[7; 1000]));
    }
    let mut request = fetch_request("full", 0, 0, 600_000);
    request.topics[0].partitions[0].partition_max_bytes = 2500;
    request.min_bytes = 2500;
    let response = client.call(&request, FETCH_BY_NAME);
    let records = response.responses[0].partitions[0].records.as_ref().expect("there are records");
    assert!(records.len() < 2500);
    // Nor for more than it may get at all.
    let mut request = fetch_request("full", 0, 0, 600_000);
    (request.min_bytes, request.max_bytes) = (i32::MAX, 3000);
    assert!(client.call(&request, FETCH_BY_NAME).responses[0].partitions[0].records.is_some());
}

/// An answer that was ready went down with the connection when the request behind it failed.
#[test]
fn what_is_acknowledged_is_answered_before_a_failure_closes_the_connection() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("failing", &[]);
    let acknowledged = produce_request("failing", 0, ACKS_ALL, batch_of(b"stored"));
    let correlation_id = client.send(&acknowledged, PRODUCE_BY_NAME);
    client.send(&produce_request("nowhere", 0, 0, batch_of(b"lost")), PRODUCE_BY_NAME);
    let response = client
        .receive::<millstream_wire::produce_request::ProduceRequest<'_>>(correlation_id, PRODUCE_BY_NAME);
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    assert!(client.receive_frame().is_none());
}

/// An explicit `__consumer_offsets` with another number of partitions than the configuration's took the groups
/// down, and every API with them that creates topics.
#[test]
fn groups_live_in_the_offsets_topic_that_there_is() {
    for partitions in [1, 100] {
        let node = start();
        let mut client = client(&node);
        let topic = CreatableTopic {
            name: "__consumer_offsets".into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let created = client.call(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 7);
        assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
        for group in ["a", "b", "c", "d"] {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![group.into()],
                ..FindCoordinatorRequest::default()
            };
            let found = client.call(&request, 4);
            assert_eq!(found.coordinators[0].error_code, ErrorCode::NONE, "{group} of {partitions}");
        }
        client.create_topic("another", &[]);
    }
}

/// A consumer of a compacted topic gets the last record of each key, once what is written is sealed.
#[test]
fn a_compacted_topic_keeps_the_last_record_of_a_key() {
    const RECORDS: i64 = 50;
    let settings = Settings::default().with("log.cleaner.backoff.ms", "10");
    let node = Node::start_with(settings);
    let mut client = client(&node);
    let settings =
        [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0.01")];
    client.create_topic("compacted", &settings);
    for offset in 0..RECORDS {
        assert_eq!(client.produce("compacted", batch_of(b"of one key")).base_offset, offset);
    }
    loop {
        let response = client.call(&fetch_request("compacted", 0, 0, 0), FETCH_BY_NAME);
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (ErrorCode::NONE, RECORDS));
        let records = partition.records.as_ref().expect("the last record stays").contiguous();
        let (first, rest) = RecordBatch::split_first(&records).expect("batches come whole");
        if first.base_offset() == RECORDS - 1 {
            assert_eq!((first.records_count(), rest.len()), (1, 0));
            break;
        }
    }
    assert_eq!(list_offset(&mut client, "compacted", -2), (ErrorCode::NONE, 0));
    assert_eq!(client.produce("compacted", batch_of(b"next")).base_offset, RECORDS);
}

/// What is named twice is looked at once: an answer may be ten thousand times as large as the name.
#[test]
fn a_topic_that_is_named_often_is_described_once() {
    let node = start();
    let mut client = client(&node);
    client.create_topic("named", &[]);
    let named = || MetadataRequestTopic { name: Some("named".into()), ..Default::default() };
    let topics = Some((0..1000).map(|_| named()).collect());
    let response = client.call(&MetadataRequest { topics, ..Default::default() }, 9);
    assert_eq!(response.topics.len(), 1);

    let partition = |timestamp| ListOffsetsPartition { timestamp, ..Default::default() };
    let topic = ListOffsetsTopic { name: "named".into(), partitions: vec![partition(-1), partition(-2)] };
    let response = client.call(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7);
    let codes: Vec<_> = response.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [ErrorCode::INVALID_REQUEST; 2]);
}

/// A client that hung up kept its connection, and its place among `max.connections`, for as long as its request
/// waited: minutes, for a group that is being formed.
#[test]
fn a_client_that_hung_up_is_let_go() {
    let settings = Settings::default().with("group.initial.rebalance.delay.ms", "600000");
    let node = Node::start_with(settings);
    let protocol = JoinGroupRequestProtocol { name: "range".into(), ..Default::default() };
    let join = JoinGroupRequest {
        group_id: "forming".into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    let find = FindCoordinatorRequest { key: "forming".into(), ..FindCoordinatorRequest::default() };
    let mut first = client(&node);
    while first.call(&find, 1).error_code != ErrorCode::NONE {}
    let mut waiting = client(&node);
    // Before version 4 a member needs no id to join with.
    waiting.send(&join, 3);
    waiting.stream.shutdown(Shutdown::Write).expect("it is open");
    let mut rest = Vec::new();
    waiting.stream.read_to_end(&mut rest).expect("the node closes, and within the time that a read may take");
}

/// One connection's requests, or a few halves of requests, took all the memory that requests may take, and
/// everybody else waited.
#[test]
fn nobody_waits_for_a_greedy_connection() {
    let node = start();
    let mut bystander = client(&node);
    bystander.create_topic("bystander", &[]);
    let mut greedy = client(&node);
    greedy.send(&fetch_request("bystander", 0, 0, 60_000), FETCH_BY_NAME);
    greedy.stream.set_nonblocking(true).expect("it is open");
    // Behind a fetch that waits: as many produces as the node is willing to read.
    let behind = batch_of(&vec![1; 900_000]);
    let frame = millstream_wire::encode_request(
        &produce_request("bystander", 0, ACKS_ALL, behind),
        PRODUCE_BY_NAME,
        9,
        None,
    );
    let frame = frame.expect("it can be encoded").into_bytes();
    let mut sent = 0;
    for _ in 0..100 {
        match greedy.stream.write(&frame) {
            Ok(bytes) => sent += bytes,
            Err(_) => break,
        }
    }
    assert!(sent > 0);
    let halves: Vec<_> = [15_000_000_i32, 1_000_000, 1_000_000, 90_000_000]
        .into_iter()
        .map(|length| {
            let mut stream = node.connect();
            stream.write_all(&length.to_be_bytes()).expect("the node reads");
            stream.set_nonblocking(true).expect("it is open");
            // A Produce, most of which comes.
            let body = vec![0; usize::try_from(length).expect("it is positive") * 9 / 10];
            let _ = stream.write(&body);
            stream
        })
        .collect();
    for value in 0..10_u8 {
        assert_eq!(bystander.call(&MetadataRequest::default(), 9).brokers.len(), 1);
        assert_eq!(bystander.produce("bystander", batch_of(&[value])).error_code, ErrorCode::NONE);
    }
    drop((greedy, halves));
}
