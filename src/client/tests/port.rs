//! A port's life, step by step, against a broker whose faults are ordered. Time is the test's: it passes where
//! nothing else can happen.

use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, RecordBatch};
use millstream_runtime::stage::{
    Commit, CommittedOffset, FetchedPartition, OutputBatch, Polled, PortError, PortFactory, PortRequest,
    StagePort, TopicInfo, TopicRules, port_contract,
};
use millstream_wire::{ApiKey, ErrorCode};
use tokio_util::task::TaskTracker;

use super::fake_broker::{FakeBroker, Fault};
use crate::client::config::{HEARTBEAT_INTERVAL, METADATA_MAX_AGE, PortConfig};
use crate::client::stage_port::ClientPort;

const LONG: Duration = Duration::from_secs(120);

fn open(broker: &FakeBroker) -> ClientPort<FakeBroker> {
    let mut config = PortConfig::new("test", "group", vec!["in".into()]);
    (config.reads_as, config.writes_as) = ("User:reader".to_owned(), "User:writer".to_owned());
    ClientPort::open(broker, config, &TaskTracker::new())
}

fn batch(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for _ in 0..records {
        builder.append(0, None, Some(b"value"), []).unwrap();
    }
    builder.finish().unwrap().into()
}

fn output(partition: i32, records: u32) -> OutputBatch {
    OutputBatch { topic: "out".into(), partition, records, bytes: batch(records as usize) }
}

fn offset(partition: i32, next_offset: i64) -> CommittedOffset {
    CommittedOffset { topic: "in".into(), partition, next_offset, metadata: "plugin@1".into() }
}

fn write(outputs: Vec<OutputBatch>) -> Commit {
    Commit { outputs, ..Commit::default() }
}

/// What the next poll brings, which must not be nothing.
async fn news(port: &ClientPort<FakeBroker>) -> Polled {
    let polled = port.poll(LONG).await.unwrap();
    assert!(
        polled.assigned.len() + polled.revoked.len() + polled.fetched.len() > 0,
        "nothing within {LONG:?}"
    );
    polled
}

async fn fetched(port: &ClientPort<FakeBroker>) -> Vec<FetchedPartition> {
    let polled = news(port).await;
    assert!(polled.assigned.is_empty() && polled.revoked.is_empty(), "{polled:?}");
    polled.fetched
}

async fn assigned(port: &ClientPort<FakeBroker>) -> Vec<i32> {
    news(port).await.assigned.iter().map(|partition| partition.partition).collect()
}

fn positions(fetched: &[FetchedPartition]) -> Vec<(i32, i64)> {
    let mut positions: Vec<_> = fetched.iter().map(|found| (found.partition, found.position)).collect();
    positions.sort_unstable();
    positions
}

fn produced(broker: &FakeBroker, partition: usize) -> i64 {
    broker.batches("out", partition).last().map_or(0, |bytes| RecordBatch::new(bytes).unwrap().next_offset())
}

struct Ports(FakeBroker);

impl PortFactory for Ports {
    type Port = ClientPort<FakeBroker>;

    async fn open(&self, request: PortRequest) -> Result<Self::Port, PortError> {
        let config = PortConfig::new("test", &request.group, request.from);
        Ok(ClientPort::open(&self.0, config, &TaskTracker::new()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_is_what_stages_expect() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    port_contract::check(&Ports(broker), "in", "out").await;
}

#[tokio::test(start_paused = true)]
async fn a_port_joins_reads_commits_and_leaves() {
    let broker = FakeBroker::with_topics(&[("in", 2), ("out", 1)]);
    broker.append("in", 0, &batch(3));
    broker.append("in", 1, &batch(2));
    let port = open(&broker);
    assert_eq!(assigned(&port).await, [0, 1]);
    assert_eq!(positions(&fetched(&port).await), [(0, 0), (1, 0)]);
    let commit =
        Commit { outputs: vec![output(0, 3)], offsets: vec![offset(0, 3), offset(1, 1)], position: None };
    port.commit(commit).await.unwrap();
    assert_eq!((broker.committed("in", 0), broker.committed("in", 1)), (Some(3), Some(1)));
    port.close().await;
    assert_eq!(broker.requests(ApiKey::LeaveGroup), ["member-1"]);
    for key in [ApiKey::JoinGroup, ApiKey::Fetch, ApiKey::OffsetCommit] {
        assert_eq!(broker.askers(key), ["User:reader"], "{key}");
    }
    assert_eq!(broker.askers(ApiKey::Produce), ["User:writer"]);

    let port = open(&broker);
    assert_eq!(assigned(&port).await, [0, 1]);
    let again = fetched(&port).await;
    assert_eq!(positions(&again), [(1, 1)], "the whole batch, and where to begin in it");
    assert_eq!(RecordBatch::new(&again[0].batches).unwrap().base_offset(), 0);
    broker.append("in", 0, &batch(1));
    assert_eq!(positions(&fetched(&port).await), [(0, 3)], "what arrives later comes at once");
    port.close().await;
}

#[tokio::test(start_paused = true)]
async fn partitions_are_let_go_of_by_the_next_poll() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    broker.append("in", 0, &batch(3));
    let port = open(&broker);
    assigned(&port).await;
    fetched(&port).await;
    broker.fail(ApiKey::Heartbeat, Fault::Code(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(news(&port).await.revoked.len(), 1);
    tokio::time::sleep(2 * HEARTBEAT_INTERVAL).await;
    assert_eq!(broker.requests(ApiKey::JoinGroup).len(), 2, "the member waits for its stage");
    port.commit(Commit { outputs: vec![output(0, 3)], offsets: vec![offset(0, 3)], position: None })
        .await
        .unwrap();
    assert_eq!(assigned(&port).await, [0]);
    assert_eq!(broker.requests(ApiKey::JoinGroup), [r#""""#, r#""member-1""#, r#""member-1""#]);
    broker.append("in", 0, &batch(1));
    assert_eq!(positions(&fetched(&port).await), [(0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_group_does_not_wait_for_a_stage_for_ever() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    broker.append("in", 0, &batch(3));
    let port = open(&broker);
    assigned(&port).await;
    fetched(&port).await;
    broker.fail(ApiKey::Heartbeat, Fault::Code(ErrorCode::REBALANCE_IN_PROGRESS));
    tokio::time::sleep(LONG).await;
    assert_eq!(broker.requests(ApiKey::JoinGroup).len(), 3, "the member has joined again");
    let late = Commit { outputs: vec![output(0, 3)], offsets: vec![offset(0, 3)], position: None };
    let refused = port.commit(late).await;
    assert!(matches!(refused, Err(PortError::Fenced(_))), "{refused:?}");
    assert_eq!(produced(&broker, 0), 0, "whoever owns the partition now writes it");
    assert_eq!(news(&port).await.revoked.len(), 1);
    assert_eq!(assigned(&port).await, [0]);
    assert_eq!(positions(&fetched(&port).await), [(0, 0)], "nothing was committed");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_member_comes_back_as_a_new_one() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    let port = open(&broker);
    assigned(&port).await;
    broker.fail(ApiKey::Heartbeat, Fault::Code(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(news(&port).await.revoked.len(), 1);
    assert_eq!(assigned(&port).await, [0]);
    let ids = broker.requests(ApiKey::JoinGroup);
    assert_eq!(ids, [r#""""#, r#""member-1""#, r#""""#, r#""member-2""#]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_commit_is_told_and_mended() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    let port = open(&broker);
    assigned(&port).await;
    broker.fail(ApiKey::OffsetCommit, Fault::Code(ErrorCode::ILLEGAL_GENERATION));
    broker.fail(ApiKey::Heartbeat, Fault::Code(ErrorCode::ILLEGAL_GENERATION));
    let refused = port.commit(Commit { offsets: vec![offset(0, 1)], ..Commit::default() }).await;
    assert!(matches!(refused, Err(PortError::Fenced(_))), "{refused:?}");
    let at = tokio::time::Instant::now();
    assert_eq!(news(&port).await.revoked.len(), 1);
    assert!(at.elapsed() < HEARTBEAT_INTERVAL, "the doubt is settled at once");
    assert_eq!(assigned(&port).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_not_owned_is_not_committed() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    let port = open(&broker);
    let foreign = || Commit { outputs: vec![output(0, 1)], offsets: vec![offset(7, 1)], position: None };
    assert!(matches!(port.commit(foreign()).await, Err(PortError::Fenced(_))), "not a member yet");
    assigned(&port).await;
    assert!(matches!(port.commit(foreign()).await, Err(PortError::Fenced(_))));
    assert_eq!(produced(&broker, 0), 0);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_again_while_the_coordinator_moves() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    let port = open(&broker);
    assigned(&port).await;
    broker.fail(ApiKey::OffsetCommit, Fault::Code(ErrorCode::NOT_COORDINATOR));
    broker.fail(ApiKey::OffsetCommit, Fault::AnswerLost);
    port.commit(Commit { offsets: vec![offset(0, 1)], ..Commit::default() }).await.unwrap();
    assert_eq!(broker.requests(ApiKey::OffsetCommit), ["in-0 1 by 1"; 3]);
    broker.fail(ApiKey::OffsetCommit, Fault::Code(ErrorCode::OFFSET_METADATA_TOO_LARGE));
    let refused = port.commit(Commit { offsets: vec![offset(0, 2)], ..Commit::default() }).await;
    assert!(matches!(refused, Err(PortError::Fatal(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_writes_nothing_twice() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 2)]);
    let port = open(&broker);
    broker.fail(ApiKey::Produce, Fault::AnswerLost);
    port.commit(write(vec![output(0, 2), output(1, 1), output(0, 3)])).await.unwrap();
    assert_eq!((produced(&broker, 0), produced(&broker, 1)), (5, 1));
    port.commit(write(vec![output(0, 1)])).await.unwrap();
    let sent = broker.requests(ApiKey::Produce);
    let first_round = ["out-0 1/0", "out-1 1/0", "out-0 1/2"];
    assert_eq!(sent[..3], first_round, "two requests: a partition's batches are in one each");
    assert_eq!(sent[3..], ["out-0 1/0", "out-1 1/0", "out-0 1/5"], "sent again, then the sequence goes on");
}

#[tokio::test(start_paused = true)]
async fn batches_behind_a_missing_one_keep_their_order() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    let port = open(&broker);
    broker.fail(ApiKey::Produce, Fault::Code(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    port.commit(write(vec![output(0, 1), output(0, 2), output(0, 4)])).await.unwrap();
    let sizes = broker.batches("out", 0);
    let sizes = sizes.iter().map(|bytes| RecordBatch::new(bytes).unwrap().records_count());
    assert_eq!(sizes.collect::<Vec<_>>(), [1, 2, 4]);
    assert!(broker.requests(ApiKey::Produce).iter().all(|sent| sent.starts_with("out-0 1/")), "one producer");
}

#[tokio::test(start_paused = true)]
async fn a_broken_sequence_makes_a_new_producer() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    let port = open(&broker);
    port.commit(write(vec![output(0, 2)])).await.unwrap();
    broker.fail(ApiKey::Produce, Fault::Code(ErrorCode::UNKNOWN_PRODUCER_ID));
    port.commit(write(vec![output(0, 3)])).await.unwrap();
    assert_eq!(broker.requests(ApiKey::Produce), ["out-0 1/0", "out-0 1/2", "out-0 2/0"]);
    assert_eq!(produced(&broker, 0), 5);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_dropped_leaves_the_producer_usable() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    let port = open(&broker);
    broker.fail(ApiKey::Produce, Fault::Slow(Duration::from_secs(5)));
    let dropped = tokio::time::timeout(Duration::from_secs(1), port.commit(write(vec![output(0, 2)]))).await;
    assert!(dropped.is_err(), "the answer took longer");
    port.commit(write(vec![output(0, 1)])).await.unwrap();
    assert_eq!(broker.requests(ApiKey::Produce).last().unwrap(), "out-0 2/0", "its sequence is not known");
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_never_takes_fails_at_once() {
    let broker = FakeBroker::with_topics(&[("in", 1), ("out", 1)]);
    let port = open(&broker);
    broker.fail(ApiKey::Produce, Fault::Code(ErrorCode::MESSAGE_TOO_LARGE));
    let refused = port.commit(write(vec![output(0, 1)])).await;
    let Err(PortError::Fatal(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("out-0") && reason.contains("MESSAGE_TOO_LARGE"), "{reason}");
    let garbage = OutputBatch { topic: "out".into(), partition: 0, records: 1, bytes: "no batch".into() };
    assert!(matches!(port.commit(write(vec![garbage])).await, Err(PortError::Fatal(_))));
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_gone_begins_anew() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    broker.append("in", 0, &batch(3));
    let port = open(&broker);
    assigned(&port).await;
    fetched(&port).await;
    broker.truncate("in", 0, 100);
    broker.append("in", 0, &batch(1));
    assert_eq!(positions(&fetched(&port).await), [(0, 100)]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_leader_holds_up_no_other() {
    let broker = FakeBroker::with_topics(&[("in", 2)]);
    broker.append("in", 0, &batch(1));
    broker.append("in", 1, &batch(1));
    broker.fail(ApiKey::Fetch, Fault::Code(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let port = open(&broker);
    assigned(&port).await;
    assert_eq!(positions(&fetched(&port).await), [(1, 0)]);
    assert_eq!(positions(&fetched(&port).await), [(0, 0)], "it is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_grows_is_shared_anew() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    let port = open(&broker);
    assert_eq!(assigned(&port).await, [0]);
    broker.grow("in", 3);
    let at = tokio::time::Instant::now();
    assert_eq!(news(&port).await.revoked.len(), 1);
    assert!(at.elapsed() <= METADATA_MAX_AGE + Duration::from_secs(1));
    assert_eq!(assigned(&port).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn joining_outlasts_a_coordinator_that_loads() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    broker.fail(ApiKey::ApiVersions, Fault::AnswerLost);
    broker.fail(ApiKey::FindCoordinator, Fault::Code(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    broker.fail(ApiKey::JoinGroup, Fault::Code(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    broker.fail(ApiKey::SyncGroup, Fault::Code(ErrorCode::REBALANCE_IN_PROGRESS));
    broker.fail(ApiKey::OffsetFetch, Fault::Code(ErrorCode::UNSTABLE_OFFSET_COMMIT));
    broker.append("in", 0, &batch(1));
    let port = open(&broker);
    assert_eq!(assigned(&port).await, [0]);
    assert_eq!(positions(&fetched(&port).await), [(0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_no_waiting_mends_ends_the_port() {
    let broker = FakeBroker::with_topics(&[("in", 1)]);
    broker.fail(ApiKey::JoinGroup, Fault::Code(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let port = open(&broker);
    let failed = port.poll(LONG).await;
    let Err(PortError::Fatal(reason)) = failed else { panic!("{failed:?}") };
    assert!(reason.contains("GROUP_AUTHORIZATION_FAILED"), "{reason}");
    port.close().await;
}

#[tokio::test(start_paused = true)]
async fn topics_are_described() {
    let broker = FakeBroker::with_topics(&[("in", 3)]);
    let port = open(&broker);
    let names = ["no-such-topic".into(), "in".into()];
    let kafkas = TopicInfo { partitions: 3, rules: TopicRules::default() };
    assert_eq!(port.describe_topics(&names).await, Ok(vec![None, Some(kafkas.clone())]));
    broker.configure("max.message.bytes", "2000");
    broker.configure("cleanup.policy", "compact,delete");
    broker.configure("message.timestamp.before.max.ms", "7");
    broker.configure("message.timestamp.after.max.ms", "8");
    let rules = TopicRules { batch_bytes_max: 2000, needs_keys: true, timestamp_ms_max: Some((7, 8)) };
    let own = TopicInfo { rules, ..kafkas.clone() };
    assert_eq!(port.describe_topics(&names).await, Ok(vec![None, Some(own)]));
    broker.configure("message.timestamp.type", "LogAppendTime");
    let stamped = port.describe_topics(&names[1..]).await.unwrap()[0].clone().unwrap();
    assert_eq!(stamped.rules.timestamp_ms_max, None);
    broker.fail(ApiKey::DescribeConfigs, Fault::Code(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(port.describe_topics(&names[1..]).await, Ok(vec![Some(kafkas)]), "who may not ask, assumes");
}
