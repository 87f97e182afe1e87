//! Requests to answers: one file per Kafka API, each decodes, makes one domain call, and encodes.

mod alter_configs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_topic_partitions;
mod error_code;
mod fetch;
mod fetch_marker;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
#[cfg(test)]
mod reference;
mod sync_group;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use millstream_wire::{
    ApiKey, DecodeError, EncodeError, Message, Reader, Response, decode_request_header, encode_response,
};

use crate::broker::Broker;
use crate::connection::{Outcome, Peer};

/// Why a request can't be answered; the connection is closed, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("request has {0} bytes, too few for a header")]
    Header(usize),
    #[error("unknown API key {0}")]
    UnknownApi(i16),
    #[error("{} v{version} is not served, only {:?}", api.name(), api.versions())]
    UnsupportedVersion { api: ApiKey, version: i16 },
    #[error("malformed {} v{version}", api.name())]
    Malformed { api: ApiKey, version: i16, source: DecodeError },
    #[error("answer to {} v{version} can't be encoded", api.name())]
    Answer { api: ApiKey, version: i16, source: EncodeError },
    #[error("produce with acks=0 failed; closing the connection is the only way to say so")]
    UnacknowledgedProduce,
}

/// A request that has been read: begun already, or to begin when its turn comes.
pub(crate) struct Begun {
    pub(crate) outcome: BoxFuture<'static, Outcome>,
    pub(crate) deferred: bool,
}

/// Who asks, and in which version.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Arc<str>,
    pub(crate) peer: Peer,
    /// On the broker's monotonic clock.
    pub(crate) received: Duration,
}

/// Takes a request frame. `may_begin` is true if all requests before it on this connection have begun.
pub(crate) fn begin(
    broker: &Arc<Broker>,
    peer: &Peer,
    frame: Bytes,
    may_begin: bool,
) -> Result<Begun, RequestError> {
    let [k0, k1, v0, v1, c0, c1, c2, c3, ..] = frame[..] else {
        return Err(RequestError::Header(frame.len()));
    };
    let version = i16::from_be_bytes([v0, v1]);
    let key = i16::from_be_bytes([k0, k1]);
    let api = ApiKey::try_from(key).map_err(|_| RequestError::UnknownApi(key))?;
    let mut context = RequestContext {
        api,
        version,
        correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        client_id: Arc::from(""),
        peer: peer.clone(),
        received: broker.clock.monotonic(),
    };
    if !api.versions().contains(&version) {
        if api != ApiKey::ApiVersions {
            return Err(RequestError::UnsupportedVersion { api, version });
        }
        // The one request whose version a client can't know: it is told in version 0 (KIP-511).
        context.version = 0;
        let outcome = context.answer(broker, &api_versions::unsupported());
        return Ok(Begun { outcome: Box::pin(async { outcome }), deferred: false });
    }
    let malformed = |source| RequestError::Malformed { api, version, source };
    let mut reader = Reader::new(&frame);
    let (_, header) = decode_request_header(&mut reader).map_err(malformed)?;
    context.client_id = header.client_id.as_deref().unwrap_or_default().into();
    let body = frame.slice_ref(reader.rest());
    let broker = Arc::clone(broker);
    if api == ApiKey::Produce && may_begin {
        let pending = produce::start(&broker, &context, &body)?;
        let outcome = Box::pin(async move { produce::finish(&broker, &context, pending).await });
        return Ok(Begun { outcome, deferred: false });
    }
    Ok(Begun { outcome: dispatch(broker, context, body), deferred: true })
}

impl RequestContext {
    fn decode<'a, M: Message<'a>>(&self, body: &'a [u8]) -> Result<M, RequestError> {
        let malformed = |source| RequestError::Malformed { api: self.api, version: self.version, source };
        M::decode(&mut Reader::new(body), self.version).map_err(malformed)
    }

    /// Encodes a response and counts the request as answered.
    fn answer<'a, M: Response<'a>>(&self, broker: &Broker, response: &M) -> Outcome {
        let unanswerable = |source| RequestError::Answer { api: self.api, version: self.version, source };
        let frame = encode_response(response, self.version, self.correlation_id).map_err(unanswerable)?;
        broker.metrics.bytes_out(frame.len());
        self.answered(broker);
        Ok(Some(frame.into_chunks()))
    }

    fn answered(&self, broker: &Broker) {
        broker.metrics.request(self.api, broker.clock.monotonic().saturating_sub(self.received));
    }
}

/// Decodes `body`, hands it to the API's `handle` and encodes what that returns.
macro_rules! answer {
    ($module:ident, $api:ident, $broker:ident, $context:ident, $body:ident) => {
        Box::pin(async move {
            let request: <millstream_wire::api::$api as millstream_wire::Api>::Request<'_> =
                $context.decode(&$body)?;
            let response = $module::handle(&$broker, &$context, request).await;
            $context.answer(&$broker, &response)
        })
    };
}

fn dispatch(broker: Arc<Broker>, context: RequestContext, body: Bytes) -> BoxFuture<'static, Outcome> {
    match context.api {
        ApiKey::Produce => Box::pin(async move {
            let pending = produce::start(&broker, &context, &body)?;
            produce::finish(&broker, &context, pending).await
        }),
        ApiKey::Fetch => answer!(fetch, Fetch, broker, context, body),
        ApiKey::ListOffsets => answer!(list_offsets, ListOffsets, broker, context, body),
        ApiKey::Metadata => answer!(metadata, Metadata, broker, context, body),
        ApiKey::OffsetCommit => answer!(offset_commit, OffsetCommit, broker, context, body),
        ApiKey::OffsetFetch => answer!(offset_fetch, OffsetFetch, broker, context, body),
        ApiKey::FindCoordinator => answer!(find_coordinator, FindCoordinator, broker, context, body),
        ApiKey::JoinGroup => answer!(join_group, JoinGroup, broker, context, body),
        ApiKey::Heartbeat => answer!(heartbeat, Heartbeat, broker, context, body),
        ApiKey::LeaveGroup => answer!(leave_group, LeaveGroup, broker, context, body),
        ApiKey::SyncGroup => answer!(sync_group, SyncGroup, broker, context, body),
        ApiKey::DescribeGroups => answer!(describe_groups, DescribeGroups, broker, context, body),
        ApiKey::ListGroups => answer!(list_groups, ListGroups, broker, context, body),
        ApiKey::ApiVersions => answer!(api_versions, ApiVersions, broker, context, body),
        ApiKey::CreateTopics => answer!(create_topics, CreateTopics, broker, context, body),
        ApiKey::DeleteTopics => answer!(delete_topics, DeleteTopics, broker, context, body),
        ApiKey::DeleteRecords => answer!(delete_records, DeleteRecords, broker, context, body),
        ApiKey::InitProducerId => answer!(init_producer_id, InitProducerId, broker, context, body),
        ApiKey::OffsetForLeaderEpoch => {
            answer!(offset_for_leader_epoch, OffsetForLeaderEpoch, broker, context, body)
        }
        ApiKey::DescribeConfigs => answer!(describe_configs, DescribeConfigs, broker, context, body),
        ApiKey::AlterConfigs => answer!(alter_configs, AlterConfigs, broker, context, body),
        ApiKey::CreatePartitions => answer!(create_partitions, CreatePartitions, broker, context, body),
        ApiKey::DeleteGroups => answer!(delete_groups, DeleteGroups, broker, context, body),
        ApiKey::IncrementalAlterConfigs => {
            answer!(incremental_alter_configs, IncrementalAlterConfigs, broker, context, body)
        }
        ApiKey::OffsetDelete => answer!(offset_delete, OffsetDelete, broker, context, body),
        ApiKey::DescribeCluster => answer!(describe_cluster, DescribeCluster, broker, context, body),
        ApiKey::DescribeTopicPartitions => {
            answer!(describe_topic_partitions, DescribeTopicPartitions, broker, context, body)
        }
    }
}
