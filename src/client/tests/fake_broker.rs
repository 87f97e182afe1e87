//! A broker in a few lines, whose faults are ordered: one member per group, topics in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{RecordBatch, RecordBatchMut};
use millstream_wire::api_versions_response::{ApiVersion, ApiVersionsResponse};
use millstream_wire::describe_configs_request::DescribeConfigsRequest;
use millstream_wire::fetch_request::FetchRequest;
use millstream_wire::find_coordinator_response::FindCoordinatorResponse;
use millstream_wire::heartbeat_response::HeartbeatResponse;
use millstream_wire::init_producer_id_response::InitProducerIdResponse;
use millstream_wire::join_group_request::JoinGroupRequest;
use millstream_wire::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use millstream_wire::leave_group_response::LeaveGroupResponse;
use millstream_wire::metadata_request::MetadataRequest;
use millstream_wire::metadata_response::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_wire::produce_request::ProduceRequest;
use millstream_wire::sync_group_request::SyncGroupRequest;
use millstream_wire::sync_group_response::SyncGroupResponse;
use millstream_wire::{
    AnyRequest, AnyResponse, ApiKey, ErrorCode, Reader, Records, decode_request_header,
    describe_configs_response as described, fetch_response as fetch, list_offsets_response as list,
    offset_commit_response as commit, offset_fetch_response as committed, produce_response as produce,
};
use tokio::sync::Notify;

use crate::client::transport::{Connector, Transport, TransportError};

const LENGTH_PREFIX_BYTES: usize = 4;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The broker does nothing, and says why.
    Code(ErrorCode),
    /// The broker does it, but its answer is lost.
    AnswerLost,
    /// The broker answers after so long.
    Slow(Duration),
}

#[derive(Clone, Default)]
pub(super) struct FakeBroker {
    state: Arc<Mutex<State>>,
    appended: Arc<Notify>,
    /// Of a connection: who is at its other end.
    principal: String,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, Vec<Log>>,
    /// Of all topics.
    configs: BTreeMap<&'static str, &'static str>,
    faults: VecDeque<(ApiKey, Fault)>,
    requests: Vec<String>,
    /// Who has asked for what.
    askers: BTreeSet<(String, String)>,
    committed: BTreeMap<(String, i32), i64>,
    generation_id: i32,
    members: i32,
    assignment: Vec<u8>,
    producers: i64,
}

#[derive(Default)]
struct Log {
    start: i64,
    end: i64,
    batches: Vec<Bytes>,
    /// Of each producer, the sequence number that comes next.
    sequences: BTreeMap<i64, i32>,
}

impl FakeBroker {
    pub(super) fn with_topics(topics: &[(&str, usize)]) -> Self {
        let broker = Self::default();
        for (topic, partitions) in topics {
            broker.grow(topic, *partitions);
        }
        broker
    }

    pub(super) fn grow(&self, topic: &str, partitions: usize) {
        self.state().topics.entry((*topic).to_owned()).or_default().resize_with(partitions, Log::default);
    }

    /// Configures all topics.
    pub(super) fn configure(&self, key: &'static str, value: &'static str) {
        self.state().configs.insert(key, value);
    }

    /// The next request of that API meets the fault; several are met one after the other.
    pub(super) fn fail(&self, key: ApiKey, fault: Fault) {
        self.state().faults.push_back((key, fault));
    }

    pub(super) fn append(&self, topic: &str, partition: usize, batch: &Bytes) {
        self.state().log(topic, partition).append(batch);
        self.appended.notify_waiters();
    }

    /// Forgets what is below an offset, and ends there.
    pub(super) fn truncate(&self, topic: &str, partition: usize, offset: i64) {
        let mut state = self.state();
        let log = state.log(topic, partition);
        (log.start, log.end) = (offset, offset);
        log.batches.clear();
    }

    pub(super) fn batches(&self, topic: &str, partition: usize) -> Vec<Bytes> {
        self.state().log(topic, partition).batches.clone()
    }

    pub(super) fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        self.state().committed.get(&(topic.to_owned(), partition)).copied()
    }

    /// The requests of an API so far, by what matters of them.
    pub(super) fn requests(&self, key: ApiKey) -> Vec<String> {
        let state = self.state();
        let name = format!("{key} ");
        state.requests.iter().filter_map(|request| request.strip_prefix(&name).map(str::to_owned)).collect()
    }

    /// Who has sent requests of an API.
    pub(super) fn askers(&self, key: ApiKey) -> Vec<String> {
        let state = self.state();
        let of_key = state.askers.iter().filter(|(asked, _)| *asked == key.to_string());
        of_key.map(|(_, principal)| principal.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, request: Bytes) -> Result<Bytes, TransportError> {
        let mut reader = Reader::new(&request);
        let (key, header) = decode_request_header(&mut reader).unwrap();
        let version = header.request_api_version;
        let body = AnyRequest::decode(&mut reader, key, version).unwrap();
        self.state().askers.insert((key.to_string(), self.principal.clone()));
        let fault = self.state().next_fault(key);
        if let Some(Fault::Slow(by)) = fault {
            tokio::time::sleep(by).await;
        }
        if let AnyRequest::Fetch(fetch) = &body {
            let arrival = self.appended.notified();
            let waits = !self.state().has_records(fetch) && !matches!(fault, Some(Fault::Code(_)));
            if waits {
                let max = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap());
                let _ = tokio::time::timeout(max, arrival).await;
            }
        }
        let code = if let Some(Fault::Code(code)) = fault { code } else { ErrorCode::NONE };
        let response = self.state().respond(body, code);
        if matches!(fault, Some(Fault::AnswerLost)) {
            return Err(TransportError::Unreachable("the connection was lost".into()));
        }
        let frame = response.encode_frame(version, header.correlation_id).unwrap();
        Ok(frame.into_bytes().slice(LENGTH_PREFIX_BYTES..))
    }
}

impl Transport for FakeBroker {
    async fn call(&self, request: Bytes) -> Result<Vec<Bytes>, TransportError> {
        let answer = self.answer(request).await?;
        // In pieces, as a broker in the process may answer.
        Ok(vec![answer.slice(..answer.len() / 2), answer.slice(answer.len() / 2..)])
    }
}

impl Connector for FakeBroker {
    type Transport = Self;

    fn connect(&self, _: &str, principal: &str) -> Self {
        Self { principal: principal.to_owned(), ..self.clone() }
    }
}

impl Log {
    fn append(&mut self, batch: &Bytes) {
        let mut bytes = batch.to_vec();
        RecordBatchMut::new(&mut bytes).unwrap().set_base_offset(self.end);
        self.end = RecordBatch::new(&bytes).unwrap().next_offset();
        self.batches.push(bytes.into());
    }

    /// As an idempotent producer's batch.
    fn produce(&mut self, bytes: &Bytes) -> ErrorCode {
        let batch = RecordBatch::new(bytes).unwrap();
        batch.verify_crc().unwrap();
        let next = self.sequences.entry(batch.producer_id()).or_insert(0);
        let base = batch.base_sequence();
        if base < *next {
            return ErrorCode::DUPLICATE_SEQUENCE_NUMBER;
        }
        if base > *next {
            return ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
        }
        *next += batch.records_count();
        self.append(bytes);
        ErrorCode::NONE
    }

    fn read(&self, from: i64) -> Vec<Bytes> {
        let kept = self.batches.iter().filter(|bytes| RecordBatch::new(bytes).unwrap().next_offset() > from);
        kept.cloned().collect()
    }
}

impl State {
    fn log(&mut self, topic: &str, partition: usize) -> &mut Log {
        &mut self.topics.get_mut(topic).unwrap()[partition]
    }

    fn next_fault(&mut self, key: ApiKey) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _)| *of == key)?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }

    fn has_records(&mut self, request: &FetchRequest<'_>) -> bool {
        let partitions =
            request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let mut partitions = partitions.map(|(topic, partition)| {
            let log = self.log(&topic.topic, usize::try_from(partition.partition).unwrap());
            log.end != partition.fetch_offset
        });
        partitions.any(|has_records| has_records)
    }

    fn respond(&mut self, request: AnyRequest<'_>, code: ErrorCode) -> AnyResponse<'static> {
        let key = request.api_key();
        match request {
            AnyRequest::ApiVersions(_) => api_versions(code).into(),
            AnyRequest::Metadata(request) => self.metadata(&request).into(),
            AnyRequest::DescribeConfigs(request) => self.describe_configs(&request, code).into(),
            AnyRequest::FindCoordinator(_) => {
                FindCoordinatorResponse { error_code: code, ..Default::default() }.into()
            }
            AnyRequest::JoinGroup(request) => self.join_group(&request, code).into(),
            AnyRequest::SyncGroup(request) => self.sync_group(&request, code).into(),
            AnyRequest::Heartbeat(request) => {
                let fenced = request.generation_id != self.generation_id && !code.is_error();
                let error_code = if fenced { ErrorCode::ILLEGAL_GENERATION } else { code };
                HeartbeatResponse { error_code, ..Default::default() }.into()
            }
            AnyRequest::LeaveGroup(request) => {
                self.requests.push(format!("{key} {}", request.members[0].member_id));
                LeaveGroupResponse { error_code: code, ..Default::default() }.into()
            }
            AnyRequest::OffsetFetch(_) => self.offset_fetch(code).into(),
            AnyRequest::OffsetCommit(request) => {
                let mut topics = Vec::new();
                for topic in &request.topics {
                    let mut partitions = Vec::new();
                    for partition in &topic.partitions {
                        let (index, offset) = (partition.partition_index, partition.committed_offset);
                        let generation = request.generation_id_or_member_epoch;
                        self.requests.push(format!("{key} {}-{index} {offset} by {generation}", topic.name));
                        if !code.is_error() {
                            self.committed.insert((topic.name.clone().into_owned(), index), offset);
                        }
                        partitions.push(commit::OffsetCommitResponsePartition {
                            partition_index: index,
                            error_code: code,
                        });
                    }
                    let name = topic.name.clone().into_owned().into();
                    topics.push(commit::OffsetCommitResponseTopic { name, partitions, ..Default::default() });
                }
                commit::OffsetCommitResponse { topics, ..Default::default() }.into()
            }
            AnyRequest::ListOffsets(request) => {
                let topics = request.topics.iter().map(|topic| list::ListOffsetsTopicResponse {
                    name: topic.name.clone().into_owned().into(),
                    partitions: topic.partitions.iter().map(|of| self.list_offset(&topic.name, of)).collect(),
                });
                let topics = topics.collect();
                list::ListOffsetsResponse { topics, ..Default::default() }.into()
            }
            AnyRequest::Fetch(request) => self.fetch(&request, code).into(),
            AnyRequest::InitProducerId(_) => {
                self.producers += 1;
                let producer_id = self.producers;
                InitProducerIdResponse { error_code: code, producer_id, ..Default::default() }.into()
            }
            AnyRequest::Produce(request) => self.produce(&request, code).into(),
            other => panic!("the client has no business with {}", other.api_key()),
        }
    }

    fn metadata(&self, request: &MetadataRequest<'_>) -> MetadataResponse<'static> {
        let asked = request.topics.as_ref().unwrap();
        let topics = asked.iter().map(|topic| {
            let name = topic.name.clone().unwrap().into_owned();
            let logs = self.topics.get(&name);
            let error_code = logs.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |_| ErrorCode::NONE);
            let partitions = vec![MetadataResponsePartition::default(); logs.map_or(0, Vec::len)];
            MetadataResponseTopic { error_code, name: Some(name.into()), partitions, ..Default::default() }
        });
        MetadataResponse { topics: topics.collect(), ..Default::default() }
    }

    fn describe_configs(
        &self,
        request: &DescribeConfigsRequest<'_>,
        code: ErrorCode,
    ) -> described::DescribeConfigsResponse<'static> {
        let results = request.resources.iter().map(|resource| {
            let keys = resource.configuration_keys.iter().flatten();
            let set = keys.filter_map(|key| Some((key.clone().into_owned(), *self.configs.get(&**key)?)));
            let configs = set.map(|(name, value)| described::DescribeConfigsResourceResult {
                name: name.into(),
                value: Some(value.into()),
                ..Default::default()
            });
            described::DescribeConfigsResult {
                error_code: code,
                resource_name: resource.resource_name.clone().into_owned().into(),
                configs: configs.collect(),
                ..Default::default()
            }
        });
        described::DescribeConfigsResponse { results: results.collect(), ..Default::default() }
    }

    fn join_group(&mut self, request: &JoinGroupRequest<'_>, code: ErrorCode) -> JoinGroupResponse<'static> {
        self.requests.push(format!("JoinGroup {:?}", request.member_id));
        if code.is_error() {
            return JoinGroupResponse { error_code: code, ..Default::default() };
        }
        if request.member_id.is_empty() {
            self.members += 1;
            let member_id = format!("member-{}", self.members).into();
            return JoinGroupResponse {
                error_code: ErrorCode::MEMBER_ID_REQUIRED,
                member_id,
                ..Default::default()
            };
        }
        self.generation_id += 1;
        let member_id = request.member_id.clone().into_owned();
        let metadata = request.protocols[0].metadata.clone().into_owned().into();
        JoinGroupResponse {
            generation_id: self.generation_id,
            protocol_name: Some("range".into()),
            leader: member_id.clone().into(),
            members: vec![JoinGroupResponseMember {
                member_id: member_id.clone().into(),
                metadata,
                group_instance_id: None,
            }],
            member_id: member_id.into(),
            ..Default::default()
        }
    }

    fn sync_group(&mut self, request: &SyncGroupRequest<'_>, code: ErrorCode) -> SyncGroupResponse<'static> {
        let own = request.assignments.iter().find(|assignment| assignment.member_id == request.member_id);
        self.assignment = own.unwrap().assignment.clone().into_owned();
        let assignment = if code.is_error() { Vec::new() } else { self.assignment.clone() };
        SyncGroupResponse { error_code: code, assignment: assignment.into(), ..Default::default() }
    }

    fn offset_fetch(&self, code: ErrorCode) -> committed::OffsetFetchResponse<'static> {
        let partitions = self.committed.iter().map(|((topic, partition_index), offset)| {
            let partition = committed::OffsetFetchResponsePartitions {
                partition_index: *partition_index,
                committed_offset: *offset,
                ..Default::default()
            };
            let (name, partitions) = (topic.clone().into(), vec![partition]);
            committed::OffsetFetchResponseTopics { name, partitions, ..Default::default() }
        });
        let topics = partitions.collect();
        let group = committed::OffsetFetchResponseGroup { topics, error_code: code, ..Default::default() };
        committed::OffsetFetchResponse { groups: vec![group], ..Default::default() }
    }

    fn list_offset(
        &self,
        topic: &str,
        of: &millstream_wire::list_offsets_request::ListOffsetsPartition,
    ) -> list::ListOffsetsPartitionResponse {
        let log = &self.topics[topic][usize::try_from(of.partition_index).unwrap()];
        let later = |batch: &&Bytes| RecordBatch::new(batch).unwrap().max_timestamp() >= of.timestamp;
        let offset = match of.timestamp {
            -2 => log.start,
            -1 => log.end,
            _ => {
                let found = log.batches.iter().find(later);
                found.map_or(-1, |batch| RecordBatch::new(batch).unwrap().base_offset())
            }
        };
        list::ListOffsetsPartitionResponse {
            partition_index: of.partition_index,
            offset,
            ..Default::default()
        }
    }

    /// The code is the first partition's.
    fn fetch(&mut self, request: &FetchRequest<'_>, code: ErrorCode) -> fetch::FetchResponse<'static> {
        let mut first_code = Some(code).filter(|code| code.is_error());
        let mut responses = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let log = self.log(&topic.topic, usize::try_from(asked.partition).unwrap());
                let in_range = (log.start..=log.end).contains(&asked.fetch_offset);
                let own = if in_range { ErrorCode::NONE } else { ErrorCode::OFFSET_OUT_OF_RANGE };
                let error_code = first_code.take().unwrap_or(own);
                let records = if error_code.is_error() { Vec::new() } else { log.read(asked.fetch_offset) };
                partitions.push(fetch::PartitionData {
                    partition_index: asked.partition,
                    error_code,
                    high_watermark: log.end,
                    records: Some(Records::from_chunks(records)),
                    ..Default::default()
                });
            }
            let name = topic.topic.clone().into_owned().into();
            responses.push(fetch::FetchableTopicResponse { topic: name, partitions, ..Default::default() });
        }
        fetch::FetchResponse { responses, ..Default::default() }
    }

    /// The code is the first partition's.
    fn produce(
        &mut self,
        request: &ProduceRequest<'_>,
        code: ErrorCode,
    ) -> produce::ProduceResponse<'static> {
        let mut first_code = Some(code).filter(|code| code.is_error());
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let mut partition_responses = Vec::new();
            for data in &topic.partition_data {
                let bytes = Bytes::from(data.records.as_ref().unwrap().contiguous().into_owned());
                let batch = RecordBatch::new(&bytes).unwrap();
                let (producer, sequence) = (batch.producer_id(), batch.base_sequence());
                self.requests.push(format!("Produce {}-{} {producer}/{sequence}", topic.name, data.index));
                let log = self.log(&topic.name, usize::try_from(data.index).unwrap());
                let error_code = first_code.take().unwrap_or_else(|| log.produce(&bytes));
                let index = data.index;
                partition_responses.push(produce::PartitionProduceResponse {
                    index,
                    error_code,
                    ..Default::default()
                });
            }
            let name = topic.name.clone().into_owned().into();
            responses.push(produce::TopicProduceResponse { name, partition_responses, ..Default::default() });
        }
        produce::ProduceResponse { responses, ..Default::default() }
    }
}

fn api_versions(error_code: ErrorCode) -> ApiVersionsResponse<'static> {
    let offers = ApiKey::ALL.iter().map(|key| ApiVersion {
        api_key: i16::from(*key),
        min_version: *key.versions().start(),
        max_version: *key.versions().end(),
    });
    ApiVersionsResponse { error_code, api_keys: offers.collect(), ..Default::default() }
}
