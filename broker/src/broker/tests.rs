//! A whole broker in the process, and hooks that a test holds in its hands.

mod fakes;
mod ingest;
mod ingest_order;
mod view_fetch;
mod views;

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, RecordBatch, RecordIter};
use millstream_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use millstream_wire::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millstream_wire::fetch_response::PartitionData;
use millstream_wire::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_wire::produce_response::PartitionProduceResponse;
use millstream_wire::{
    Api, ErrorCode, Message, Reader, Records, Request, decode_response_header, encode_request,
};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{LocalConnection, LocalError, RunningBroker};
use crate::clock::SystemClock;
use crate::config::BrokerConfig;
use crate::ids::Principal;
use crate::log::batch::OPENED_BYTES_MAX;

use self::fakes::Fakes;

/// The newest versions that name their topics.
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;
const ACKS_ALL: i16 = -1;
const TIMESTAMP: i64 = 1_700_000_000_000;

/// The answer to a request of type `R`. It borrows from a frame that a test never frees.
type Answer<R> = <<R as Request<'static>>::Api as Api>::Response<'static>;

struct Node {
    running: RunningBroker,
    client: LocalConnection,
    fakes: Arc<Fakes>,
    registry: Registry,
    _dir: TempDir,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap().to_owned();
        let flags = [
            ("data.dir", path.as_str()),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("log.retention.ms", "-1"),
            ("offsets.topic.num.partitions", "1"),
        ];
        let config = BrokerConfig::from_flags(&flags).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (fakes, mut registry) = (Arc::new(Fakes::default()), Registry::default());
        let hooks = Arc::clone(&fakes);
        let running =
            RunningBroker::start(config, SystemClock::shared(), hooks, &mut registry, listener).await;
        let running = running.unwrap();
        let client = running.connect("test-client", Principal::new("User:test"));
        Self { running, client, fakes, registry, _dir: dir }
    }

    /// A node with one topic of one partition.
    async fn with_topic(name: &str, configs: &[(&'static str, &'static str)]) -> Self {
        let node = Self::start().await;
        node.create_topic(name, 1, configs).await;
        node
    }

    async fn stop(self) {
        self.running.stop().await;
    }

    async fn call<R: Request<'static>>(&self, request: &R, version: i16) -> Answer<R> {
        self.try_call(request, version).await.unwrap().expect("there is an answer")
    }

    async fn try_call<R: Request<'static>>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Option<Answer<R>>, LocalError> {
        let frame = encode_request(request, version, 7, Some("test-client")).unwrap().into_bytes();
        let Some(chunks) = self.client.call(frame.slice(4..)).await? else { return Ok(None) };
        let frame: &'static [u8] = chunks.concat().leak();
        let mut reader = Reader::new(&frame[4..]);
        assert_eq!(decode_response_header(&mut reader, R::API_KEY, version).unwrap().correlation_id, 7);
        let answer = Answer::<R>::decode(&mut reader, version).unwrap();
        assert_eq!(reader.rest(), b"");
        Ok(Some(answer))
    }

    async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&'static str, &'static str)]) {
        let config = |&(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        };
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        assert_eq!(self.call(&request, 7).await.topics[0].error_code, ErrorCode::NONE);
    }

    /// Produces to partition 0.
    async fn produce(&self, topic: &str, batch: Vec<u8>) -> PartitionProduceResponse<'static> {
        let request = produce_request(topic, 0, ACKS_ALL, batch);
        self.call(&request, PRODUCE).await.responses.remove(0).partition_responses.remove(0)
    }

    /// Fetches what there is of partition 0.
    async fn fetch(&self, topic: &str, offset: i64) -> PartitionData<'static> {
        self.call(&fetch_request(topic, offset, 0), FETCH).await.responses.remove(0).partitions.remove(0)
    }

    /// Offset and value of each record of partition 0.
    async fn records(&self, topic: &str) -> Vec<(i64, String)> {
        records_of(&self.fetch(topic, 0).await)
    }

    /// A counter's value; 0 before it counts for the first time.
    fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }
}

fn produce_request(topic: &str, partition: i32, acks: i16, batch: Vec<u8>) -> ProduceRequest<'static> {
    let data = PartitionProduceData { index: partition, records: Some(Records::from(Bytes::from(batch))) };
    let topic =
        TopicProduceData { name: topic.to_owned().into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

fn fetch_request(topic: &str, offset: i64, max_wait_ms: i32) -> FetchRequest<'static> {
    let partition = FetchPartition {
        fetch_offset: offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic =
        FetchTopic { topic: topic.to_owned().into(), partitions: vec![partition], ..Default::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

/// A batch of records with these values.
fn batch(values: &[&str]) -> Vec<u8> {
    compressed_batch(Compression::None, values)
}

fn compressed_batch(compression: Compression, values: &[&str]) -> Vec<u8> {
    finished(BatchBuilder::new(1 << 20).compression(compression), values)
}

/// A batch of an idempotent producer.
fn sequenced_batch(epoch: i16, base_sequence: i32, values: &[&str]) -> Vec<u8> {
    finished(BatchBuilder::new(1 << 20).producer(7, epoch, base_sequence), values)
}

fn finished(mut builder: BatchBuilder, values: &[&str]) -> Vec<u8> {
    for value in values {
        builder.append(TIMESTAMP, Some(b"key"), Some(value.as_bytes()), []).unwrap();
    }
    builder.finish().unwrap()
}

fn batches_of(data: &PartitionData<'static>) -> Vec<RecordBatch<'static>> {
    let bytes: &'static [u8] = data.records.as_ref().unwrap().contiguous().into_owned().leak();
    let batches: Vec<_> = RecordBatch::batches(bytes).map(Result::unwrap).collect();
    for batch in &batches {
        batch.verify_crc().unwrap();
    }
    batches
}

fn records_of(data: &PartitionData<'static>) -> Vec<(i64, String)> {
    assert_eq!(data.error_code, ErrorCode::NONE);
    let mut found = Vec::new();
    for batch in batches_of(data).iter().filter(|batch| !batch.is_control()) {
        let section = batch.uncompressed_records(OPENED_BYTES_MAX).unwrap();
        for record in RecordIter::new(&section).map(Result::unwrap) {
            let value = String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap();
            found.push((batch.offset_of(&record), value));
        }
    }
    found
}

fn at(offset: i64, value: &str) -> (i64, String) {
    (offset, value.to_owned())
}
