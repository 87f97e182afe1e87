//! Views as clients and administrators see them: listed like topics, and changed by nobody but who defines them.

use millstream_wire::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
use millstream_wire::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use millstream_wire::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millstream_wire::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millstream_wire::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use millstream_wire::describe_topic_partitions_request::{DescribeTopicPartitionsRequest, TopicRequest};
use millstream_wire::find_coordinator_request::FindCoordinatorRequest;
use millstream_wire::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millstream_wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};

use super::*;
use crate::broker::TopicError;
use crate::config::TopicConfigs;

const VIEW: &str = "orders.masked";

async fn with_view() -> Node {
    let node = Node::start().await;
    node.create_topic("orders", 3, &[("retention.ms", "7777")]).await;
    assert!(node.running.put_view(VIEW, "orders").await.unwrap());
    node
}

#[tokio::test]
async fn a_view_is_listed_like_a_topic() {
    let node = with_view().await;
    let all = node.call(&MetadataRequest { topics: None, ..Default::default() }, 12).await;
    let find = |name: &str| all.topics.iter().find(|topic| topic.name.as_deref() == Some(name)).unwrap();
    let (source, view) = (find("orders"), find(VIEW));
    assert_eq!((view.error_code, view.partitions.len()), (ErrorCode::NONE, 3));
    assert_eq!(view.partitions, source.partitions, "leaders and epochs are its source's");
    assert!(view.topic_id != source.topic_id && !view.topic_id.is_nil());
    for topic in [
        MetadataRequestTopic { name: Some(VIEW.into()), ..Default::default() },
        MetadataRequestTopic { name: None, topic_id: view.topic_id },
    ] {
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let answer = node.call(&request, 12).await;
        assert_eq!(answer.topics, std::slice::from_ref(view));
    }
    for topics in [vec![], vec![TopicRequest { name: VIEW.into() }]] {
        let request =
            DescribeTopicPartitionsRequest { topics, response_partition_limit: 100, ..Default::default() };
        let answer = node.call(&request, 0).await;
        let described = answer.topics.iter().find(|topic| topic.name.as_deref() == Some(VIEW)).unwrap();
        assert_eq!((described.error_code, described.partitions.len()), (ErrorCode::NONE, 3));
        assert_eq!(described.topic_id, view.topic_id);
    }
    let resource =
        DescribeConfigsResource { resource_type: 2, resource_name: VIEW.into(), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let described = node.call(&request, 4).await.results.remove(0);
    assert_eq!(described.error_code, ErrorCode::NONE);
    let retention = described.configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.read_only), (Some("7777"), true));
    node.stop().await;
}

#[tokio::test]
async fn clients_cannot_change_a_view() {
    let node = with_view().await;
    let refusal = "topic orders.masked is a view of another topic: it stores nothing, and is changed and deleted by \
                   the pipeline that defines it";
    let produced = node.produce(VIEW, batch(&["a"])).await;
    assert_eq!(produced.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert!(!produced.error_code.is_retriable());
    assert_eq!(produced.error_message.as_deref(), Some(refusal));
    let view_id = node.running.views()[0].id.0;
    let mut by_id = produce_request("", 0, ACKS_ALL, batch(&["a"]));
    by_id.topic_data[0].topic_id = view_id;
    let answer = node.call(&by_id, 13).await.responses.remove(0).partition_responses.remove(0);
    assert_eq!(answer.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);

    let topic =
        CreatableTopic { name: VIEW.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    assert_eq!(node.call(&request, 7).await.topics[0].error_code, ErrorCode::TOPIC_ALREADY_EXISTS);

    for topic in [
        DeleteTopicState { name: Some(VIEW.into()), ..Default::default() },
        DeleteTopicState { name: None, topic_id: view_id },
    ] {
        let request = DeleteTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer = node.call(&request, 6).await.responses.remove(0);
        assert_eq!(answer.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
        assert_eq!(answer.error_message.as_deref(), Some(refusal));
    }
    let topic = CreatePartitionsTopic { name: VIEW.into(), count: 9, ..Default::default() };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    let answer = node.call(&request, 3).await.results.remove(0);
    assert_eq!(
        (answer.error_code, answer.error_message.as_deref()),
        (ErrorCode::INVALID_TOPIC_EXCEPTION, Some(refusal))
    );

    let partition = DeleteRecordsPartition { partition_index: 0, offset: -1 };
    let topic = DeleteRecordsTopic { name: VIEW.into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
    let answer = node.call(&request, 2).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);

    let config = AlterableConfig { name: "retention.ms".into(), value: Some("1".into()) };
    let resource =
        AlterConfigsResource { resource_type: 2, resource_name: VIEW.into(), configs: vec![config] };
    let request = AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(node.call(&request, 2).await.responses[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    node.stop().await;
}

/// Deleting a topic under its views would leave definitions behind that show whatever is created next in its place.
#[tokio::test]
async fn a_topic_that_has_views_stays() {
    let node = with_view().await;
    let topic = || DeleteTopicState { name: Some("orders".into()), ..Default::default() };
    let delete = || DeleteTopicsRequest { topics: vec![topic()], ..Default::default() };
    let answer = node.call(&delete(), 6).await.responses.remove(0);
    assert_eq!(answer.error_code, ErrorCode::POLICY_VIOLATION);
    let message =
        "topic orders is the source of view orders.masked: delete the pipeline that defines the view first";
    assert_eq!(answer.error_message.as_deref(), Some(message));
    node.running.delete_view(VIEW).await.unwrap();
    assert!(node.running.views().is_empty());
    assert_eq!(node.call(&delete(), 6).await.responses[0].error_code, ErrorCode::NONE);
    assert_eq!(node.fetch(VIEW, 0).await.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    node.stop().await;
}

async fn put_error(node: &Node, name: &str, source: &str) -> String {
    let checked = node.running.check_view(name, source).unwrap_err().to_string();
    assert_eq!(node.running.put_view(name, source).await.unwrap_err().to_string(), checked);
    checked
}

#[tokio::test]
async fn a_view_needs_a_name_and_a_source() {
    let node = with_view().await;
    node.create_topic("other", 1, &[]).await;
    assert_eq!(put_error(&node, "v", "nothing").await, "topic nothing does not exist");
    assert!(put_error(&node, "v", VIEW).await.starts_with("topic orders.masked is a view"));
    assert_eq!(put_error(&node, "other", "orders").await, "topic other already exists");
    let collides = put_error(&node, "orders_masked", "orders").await;
    assert!(
        collides.starts_with("topic name orders_masked differs from that of topic orders.masked"),
        "{collides}"
    );
    assert_eq!(
        put_error(&node, "__consumer_offsets", "orders").await,
        "topic __consumer_offsets is internal"
    );
    assert!(put_error(&node, "a b", "orders").await.starts_with("topic name has the character"));
    let missing = node.running.delete_view("orders").await.unwrap_err().to_string();
    assert_eq!(missing, "no view is called orders");
    // Nor do topics take a view's name, whoever asks.
    let ensured = node.running.ensure_topic(VIEW, None, TopicConfigs::new()).await;
    assert!(matches!(ensured, Err(TopicError::IsView(_))));
    assert!(matches!(
        node.running.check_topic("orders_masked", None, TopicConfigs::new()),
        Err(TopicError::Collides(..))
    ));
    // The same again changes nothing.
    let before = node.running.views();
    node.running.check_view(VIEW, "orders").unwrap();
    assert!(!node.running.put_view(VIEW, "orders").await.unwrap());
    assert_eq!(node.running.views(), before);
    node.stop().await;
}

async fn commit(node: &Node, topic: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic {
        name: topic.to_owned().into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "readers".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let code = async || node.call(&request, 8).await.topics[0].partitions[0].error_code;
    // The coordinator may still be loading.
    while code().await != ErrorCode::NONE {}
}

async fn committed(node: &Node, topic: &str) -> i64 {
    let topic = OffsetFetchRequestTopics {
        name: topic.to_owned().into(),
        partition_indexes: vec![0],
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: "readers".into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    node.call(&request, 8).await.groups[0].topics[0].partitions[0].committed_offset
}

#[tokio::test]
async fn a_view_has_committed_offsets_of_its_own() {
    let node = with_view().await;
    node.create_topic("other", 1, &[]).await;
    let find = FindCoordinatorRequest { key: "readers".into(), ..Default::default() };
    while node.call(&find, 1).await.error_code != ErrorCode::NONE {}
    commit(&node, "orders", 5).await;
    commit(&node, VIEW, 2).await;
    assert_eq!((committed(&node, "orders").await, committed(&node, VIEW).await), (5, 2));
    // Offsets of a view of one topic mean nothing in another.
    assert!(node.running.put_view(VIEW, "other").await.unwrap());
    assert_eq!((committed(&node, "orders").await, committed(&node, VIEW).await), (5, -1));
    commit(&node, VIEW, 3).await;
    node.running.delete_view(VIEW).await.unwrap();
    // Without a topic there is no id to tell them by: they are gone when the group has written so.
    while committed(&node, VIEW).await != -1 {}
    assert!(node.running.put_view(VIEW, "other").await.unwrap());
    assert_eq!(committed(&node, VIEW).await, -1);
    node.stop().await;
}
