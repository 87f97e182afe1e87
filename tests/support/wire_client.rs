//! A connection that speaks the protocol message by message, and can say what no client would.
#![allow(dead_code, reason = "each test crate takes what it needs")]

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use millstream_record::BatchBuilder;
use millstream_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use millstream_wire::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_wire::produce_response::PartitionProduceResponse;
use millstream_wire::{Api, ErrorCode, Message, Reader, Records, Request};
use millstream_wire::{decode_response_header, encode_request};

/// The newest version of Produce that names its topics.
pub(crate) const PRODUCE_BY_NAME: i16 = 12;
pub(crate) const ACKS_ALL: i16 = -1;
/// Of every record; nodes under test are told to keep records for ever.
pub(crate) const TIMESTAMP: i64 = 1_700_000_000_000;

pub(crate) struct WireClient {
    pub(crate) stream: TcpStream,
    next_correlation_id: i32,
}

/// The answer to a request of type `R`. It borrows from a frame that a test never frees.
pub(crate) type Answer<R> = <<R as Request<'static>>::Api as Api>::Response<'static>;

impl WireClient {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, next_correlation_id: 1 }
    }

    /// Sends a request and returns its correlation id.
    pub(crate) fn send<R: Request<'static>>(&mut self, request: &R, version: i16) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let frame = encode_request(request, version, correlation_id, Some("wire-test"));
        let frame = frame.unwrap_or_else(|error| panic!("{} v{version}: {error}", R::NAME));
        self.stream.write_all(&frame.into_bytes()).expect("the node reads requests");
        correlation_id
    }

    /// A response frame without its length; `None` where the node closed the connection instead.
    pub(crate) fn receive_frame(&mut self) -> Option<&'static [u8]> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
        self.stream.read_exact(&mut frame).expect("a response comes whole");
        Some(frame.leak())
    }

    /// The answer to the request that [`Self::send`] gave this correlation id, if it is the next one and has
    /// no byte too many.
    pub(crate) fn receive<R: Request<'static>>(&mut self, correlation_id: i32, version: i16) -> Answer<R> {
        let context = format!("answer to {} v{version}", R::NAME);
        let frame = self.receive_frame().unwrap_or_else(|| panic!("{context}: the connection ended"));
        let mut reader = Reader::new(frame);
        let header = decode_response_header(&mut reader, R::API_KEY, version);
        assert_eq!(header.map(|header| header.correlation_id), Ok(correlation_id), "{context}");
        let response = Answer::<R>::decode(&mut reader, version);
        let response = response.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(reader.rest(), b"", "{context}: bytes behind {response:?}");
        response
    }

    pub(crate) fn call<R: Request<'static>>(&mut self, request: &R, version: i16) -> Answer<R> {
        let correlation_id = self.send(request, version);
        self.receive::<R>(correlation_id, version)
    }

    pub(crate) fn create_topic(&mut self, name: &str, configs: &[(&'static str, &'static str)]) {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let response = self.call(&request, 7);
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE, "{response:?}");
    }

    /// Produces to partition 0 of a topic.
    pub(crate) fn produce(&mut self, topic: &str, batch: Vec<u8>) -> PartitionProduceResponse<'static> {
        let mut response = self.call(&produce_request(topic, 0, ACKS_ALL, batch), PRODUCE_BY_NAME);
        response.responses.remove(0).partition_responses.remove(0)
    }
}

pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    acks: i16,
    batch: Vec<u8>,
) -> ProduceRequest<'static> {
    let data = PartitionProduceData { index: partition, records: Some(Records::from(Bytes::from(batch))) };
    let topic =
        TopicProduceData { name: topic.to_owned().into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

/// A batch of one record.
pub(crate) fn batch_of(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(value.len() + 1000);
    builder.append(TIMESTAMP, Some(b"key"), Some(value), []).expect("the limit leaves room");
    builder.finish().expect("it has a record")
}
