//! A request that succeeds, for every API in every version.

use std::borrow::Cow;
use std::fmt::Debug;

use millstream_wire::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
use millstream_wire::api_versions_request::ApiVersionsRequest;
use millstream_wire::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use millstream_wire::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millstream_wire::delete_groups_request::DeleteGroupsRequest;
use millstream_wire::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millstream_wire::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millstream_wire::describe_cluster_request::DescribeClusterRequest;
use millstream_wire::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use millstream_wire::describe_groups_request::DescribeGroupsRequest;
use millstream_wire::describe_topic_partitions_request::{DescribeTopicPartitionsRequest, TopicRequest};
use millstream_wire::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millstream_wire::find_coordinator_request::FindCoordinatorRequest;
use millstream_wire::heartbeat_request::HeartbeatRequest;
use millstream_wire::incremental_alter_configs_request as incremental;
use millstream_wire::init_producer_id_request::InitProducerIdRequest;
use millstream_wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use millstream_wire::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use millstream_wire::list_groups_request::ListGroupsRequest;
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millstream_wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream_wire::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millstream_wire::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millstream_wire::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use millstream_wire::{ErrorCode, Request};
use uuid::Uuid;

use crate::wire_client::{ACKS_ALL, WireClient, batch_of, produce_request};

const TOPIC: &str = "sampled";
const TOPIC_RESOURCE: i8 = 2;
const NEWEST_METADATA: i16 = 12;

/// Asks the APIs one after the other and returns their keys.
pub(crate) fn every_api_in_every_version(client: &mut WireClient) -> Vec<i16> {
    client.create_topic(TOPIC, &[]);
    for value in ["one", "two", "three"] {
        assert_eq!(client.produce(TOPIC, batch_of(value.as_bytes())).error_code, ErrorCode::NONE);
    }
    let mut asked = Vec::new();
    asked.extend(about_the_cluster(client));
    asked.extend(about_topics(client));
    asked.extend(about_configs(client));
    asked.extend(about_records(client));
    asked.extend(about_members(client));
    asked.extend(about_offsets(client));
    asked.extend(about_groups(client));
    asked
}

/// Asks in each version and wants an answer without any error in it.
fn ask<R: Request<'static>>(client: &mut WireClient, request: impl Fn(&mut WireClient, i16) -> R) -> i16 {
    for version in R::API_KEY.versions() {
        let request = request(client, version);
        let response = client.call(&request, version);
        assert_no_error(&response, &format!("{} v{version}", R::NAME));
    }
    R::API_KEY.into()
}

/// Wherever in the response the code is.
fn assert_no_error(response: &impl Debug, context: &str) {
    let text = format!("{response:?}");
    for (at, field) in text.match_indices("error_code: ") {
        let code = &text[at + field.len()..];
        assert!(code.starts_with("NONE(0)"), "{context}: {text}");
    }
}

fn topic_id(client: &mut WireClient) -> Uuid {
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    client.call(&request, NEWEST_METADATA).topics[0].topic_id
}

fn about_the_cluster(client: &mut WireClient) -> Vec<i16> {
    vec![
        ask(client, |_, _| ApiVersionsRequest {
            client_software_name: "wire-test".into(),
            client_software_version: "1".into(),
        }),
        ask(client, |_, version| MetadataRequest {
            topics: (version != 1)
                .then(|| vec![MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() }]),
            ..Default::default()
        }),
        ask(client, |_, _| DescribeClusterRequest::default()),
        ask(client, |_, version| match version {
            ..4 => FindCoordinatorRequest { key: "anyone".into(), ..Default::default() },
            _ => FindCoordinatorRequest {
                coordinator_keys: vec!["anyone".into(), "else".into()],
                ..Default::default()
            },
        }),
        ask(client, |_, _| InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        }),
    ]
}

fn about_topics(client: &mut WireClient) -> Vec<i16> {
    let new = |name: String| CreatableTopic {
        name: name.into(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    vec![
        ask(client, |_, version| CreateTopicsRequest {
            topics: vec![new(format!("created-{version}"))],
            ..Default::default()
        }),
        ask(client, |_, version| CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: "created-7".into(),
                count: 3 + i32::from(version),
                assignments: None,
            }],
            timeout_ms: 10_000,
            validate_only: false,
        }),
        ask(client, |_, _| DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "created-7".into() }],
            ..Default::default()
        }),
        ask(client, |client, version| {
            let name = format!("deleted-{version}");
            client.create_topic(&name, &[]);
            let mut request = DeleteTopicsRequest { timeout_ms: 10_000, ..Default::default() };
            match version {
                ..6 => request.topic_names = vec![name.into()],
                _ => {
                    request.topics = vec![DeleteTopicState { name: Some(name.into()), ..Default::default() }];
                }
            }
            request
        }),
    ]
}

fn about_configs(client: &mut WireClient) -> Vec<i16> {
    vec![
        ask(client, |_, _| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                configuration_keys: None,
            }],
            ..Default::default()
        }),
        ask(client, |_, _| AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                configs: vec![AlterableConfig { name: "retention.ms".into(), value: Some("-1".into()) }],
            }],
            validate_only: false,
        }),
        ask(client, |_, _| incremental::IncrementalAlterConfigsRequest {
            resources: vec![incremental::AlterConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: TOPIC.into(),
                configs: vec![incremental::AlterableConfig {
                    name: "max.message.bytes".into(),
                    config_operation: 0,
                    value: Some("2000000".into()),
                }],
            }],
            validate_only: false,
        }),
    ]
}

fn about_records(client: &mut WireClient) -> Vec<i16> {
    let id = topic_id(client);
    vec![
        ask(client, |_, _| {
            let mut request = produce_request(TOPIC, 0, ACKS_ALL, batch_of(b"again"));
            request.topic_data[0].topic_id = id;
            request
        }),
        ask(client, |_, _| {
            let partition = FetchPartition { partition_max_bytes: 1_000_000, ..Default::default() };
            let topic = FetchTopic { topic: TOPIC.into(), topic_id: id, partitions: vec![partition] };
            FetchRequest { max_wait_ms: 1_000, min_bytes: 1, topics: vec![topic], ..Default::default() }
        }),
        ask(client, |_, _| {
            let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions }];
            ListOffsetsRequest { replica_id: -1, topics, timeout_ms: 10_000, ..Default::default() }
        }),
        ask(client, |_, _| {
            let partitions = vec![OffsetForLeaderPartition::default()];
            let topics = vec![OffsetForLeaderTopic { topic: TOPIC.into(), partitions }];
            OffsetForLeaderEpochRequest { replica_id: -1, topics }
        }),
        ask(client, |_, version| {
            let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: i64::from(version) }];
            let topics = vec![DeleteRecordsTopic { name: TOPIC.into(), partitions }];
            DeleteRecordsRequest { topics, timeout_ms: 10_000 }
        }),
    ]
}

/// A member of a group: alone in it, so its leader.
struct Member {
    group: Cow<'static, str>,
    id: Cow<'static, str>,
    generation_id: i32,
}

fn join_request(group: Cow<'static, str>, member_id: Cow<'static, str>) -> JoinGroupRequest<'static> {
    JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Cow::Borrowed(b"") }],
        ..Default::default()
    }
}

/// A member that has joined in `version` of JoinGroup; it has no assignment yet.
fn join(client: &mut WireClient, group: String, version: i16) -> Member {
    let group: Cow<'static, str> = group.into();
    let mut response = client.call(&join_request(group.clone(), "".into()), version);
    if version >= 4 {
        // Nobody is admitted who didn't get to see their id.
        assert_eq!(response.error_code, ErrorCode::MEMBER_ID_REQUIRED, "{response:?}");
        response = client.call(&join_request(group.clone(), response.member_id), version);
    }
    assert_no_error(&response, &format!("JoinGroup v{version}"));
    assert_eq!(response.leader, response.member_id, "{response:?}");
    Member { group, id: response.member_id, generation_id: response.generation_id }
}

fn sync_request(member: &Member) -> SyncGroupRequest<'static> {
    SyncGroupRequest {
        group_id: member.group.clone(),
        generation_id: member.generation_id,
        member_id: member.id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: member.id.clone(),
            assignment: Cow::Borrowed(b""),
        }],
        ..Default::default()
    }
}

fn joined(client: &mut WireClient, group: String) -> Member {
    let member = join(client, group, 9);
    let response = client.call(&sync_request(&member), 5);
    assert_no_error(&response, "SyncGroup");
    member
}

fn about_members(client: &mut WireClient) -> Vec<i16> {
    for version in JoinGroupRequest::API_KEY.versions() {
        join(client, format!("joined-{version}"), version);
    }
    let alive = joined(client, "alive".to_owned());
    vec![
        JoinGroupRequest::API_KEY.into(),
        ask(client, |client, version| {
            let member = join(client, format!("synced-{version}"), 9);
            sync_request(&member)
        }),
        ask(client, |_, _| HeartbeatRequest {
            group_id: alive.group.clone(),
            generation_id: alive.generation_id,
            member_id: alive.id.clone(),
            group_instance_id: None,
        }),
        ask(client, |client, version| {
            let member = joined(client, format!("left-{version}"));
            let mut request = LeaveGroupRequest { group_id: member.group, ..Default::default() };
            match version {
                ..3 => request.member_id = member.id,
                _ => request.members = vec![MemberIdentity { member_id: member.id, ..Default::default() }],
            }
            request
        }),
    ]
}

fn about_offsets(client: &mut WireClient) -> Vec<i16> {
    let id = topic_id(client);
    let member = joined(client, "committed".to_owned());
    vec![
        ask(client, |_, version| {
            let partition = OffsetCommitRequestPartition {
                committed_offset: i64::from(version),
                committed_metadata: Some("note".into()),
                ..Default::default()
            };
            OffsetCommitRequest {
                group_id: member.group.clone(),
                generation_id_or_member_epoch: member.generation_id,
                member_id: member.id.clone(),
                topics: vec![OffsetCommitRequestTopic {
                    name: TOPIC.into(),
                    topic_id: id,
                    partitions: vec![partition],
                }],
                ..Default::default()
            }
        }),
        ask(client, |_, version| match version {
            ..8 => OffsetFetchRequest {
                group_id: member.group.clone(),
                topics: Some(vec![OffsetFetchRequestTopic {
                    name: TOPIC.into(),
                    partition_indexes: vec![0],
                }]),
                ..Default::default()
            },
            _ => OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: member.group.clone(),
                    topics: Some(vec![OffsetFetchRequestTopics {
                        name: TOPIC.into(),
                        topic_id: id,
                        partition_indexes: vec![0],
                    }]),
                    ..Default::default()
                }],
                ..Default::default()
            },
        }),
        ask(client, |client, _| {
            let leave = LeaveGroupRequest {
                group_id: member.group.clone(),
                members: vec![MemberIdentity { member_id: member.id.clone(), ..Default::default() }],
                ..Default::default()
            };
            assert_no_error(&client.call(&leave, 5), "LeaveGroup");
            OffsetDeleteRequest {
                group_id: member.group.clone(),
                topics: vec![OffsetDeleteRequestTopic {
                    name: TOPIC.into(),
                    partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
                }],
            }
        }),
    ]
}

fn about_groups(client: &mut WireClient) -> Vec<i16> {
    let member = joined(client, "described".to_owned());
    vec![
        ask(client, |_, _| ListGroupsRequest::default()),
        ask(client, |_, _| DescribeGroupsRequest {
            groups: vec![member.group.clone()],
            ..Default::default()
        }),
        ask(client, |client, version| {
            let group: Cow<'static, str> = format!("deleted-{version}").into();
            let partition = OffsetCommitRequestPartition::default();
            let topic = OffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![partition],
                ..Default::default()
            };
            let commit =
                OffsetCommitRequest { group_id: group.clone(), topics: vec![topic], ..Default::default() };
            assert_no_error(&client.call(&commit, 9), "OffsetCommit");
            DeleteGroupsRequest { groups_names: vec![group] }
        }),
    ]
}
