//! The handle and its actors over a log in memory, in tokio's paused time.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::super::testing::{commit, fetch, fetched, heartbeat, join, static_join};
use super::super::{
    AppendError, FetchOffsets, GenerationId, GroupState, LogChunk, LogRecord, MemberId, OffsetsLog, ReadError,
};
use super::*;
use crate::clock::Clock;
use crate::ids::Offset;

const PARTITIONS: i32 = 4;

/// Time as tokio's test runtime tells it.
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn wall_ms(&self) -> i64 {
        1_767_225_600_000 + self.monotonic().as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn random_uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// What is appended is kept; a partition that is held makes appends and reads wait.
#[derive(Default)]
struct MemoryLog {
    partitions: Mutex<HashMap<PartitionIndex, Vec<LogRecord>>>,
    appends: Mutex<Vec<(PartitionIndex, usize)>>,
    gates: Mutex<HashMap<PartitionIndex, Arc<Semaphore>>>,
    unreadable: Option<PartitionIndex>,
    appended: watch::Sender<()>,
}

impl MemoryLog {
    fn hold(&self, partition: PartitionIndex) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.gates.lock().unwrap().insert(partition, Arc::clone(&gate));
        gate
    }

    fn gate(&self, partition: PartitionIndex) -> Option<Arc<Semaphore>> {
        self.gates.lock().unwrap().get(&partition).cloned()
    }

    fn appends(&self) -> Vec<(PartitionIndex, usize)> {
        self.appends.lock().unwrap().clone()
    }
}

async fn pass(gate: Option<Arc<Semaphore>>) {
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
}

struct Shared(Arc<MemoryLog>);

impl OffsetsLog for Shared {
    fn append(
        &self,
        partition: PartitionIndex,
        _leader_epoch: LeaderEpoch,
        records: Vec<LogRecord>,
    ) -> BoxFuture<'static, Result<(), AppendError>> {
        let log = Arc::clone(&self.0);
        log.appends.lock().unwrap().push((partition, records.len()));
        log.appended.send_replace(());
        let gate = log.gate(partition);
        Box::pin(async move {
            pass(gate).await;
            log.partitions.lock().unwrap().entry(partition).or_default().extend(records);
            Ok(())
        })
    }

    fn read(
        &self,
        partition: PartitionIndex,
        from: Offset,
    ) -> BoxFuture<'static, Result<LogChunk, ReadError>> {
        let log = Arc::clone(&self.0);
        Box::pin(async move {
            if log.unreadable == Some(partition) {
                return Err(ReadError::Storage("the disk is gone".into()));
            }
            pass(log.gate(partition)).await;
            // Two records a chunk, so that loading takes several.
            let partitions = log.partitions.lock().unwrap();
            let all = partitions.get(&partition).map_or(&[][..], Vec::as_slice);
            let from = from.0 as usize;
            let to = all.len().min(from + 2);
            let next = (to < all.len()).then_some(Offset(to as i64));
            Ok(LogChunk { records: all[from..to].to_vec(), next })
        })
    }
}

fn coordinator(log: &Arc<MemoryLog>) -> GroupCoordinator {
    let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
    let log = Arc::new(Shared(Arc::clone(log)));
    let coordinator = GroupCoordinator::new(GroupConfig::default(), PARTITIONS, log, clock);
    (0..PARTITIONS).for_each(|partition| coordinator.load(PartitionIndex(partition), LeaderEpoch(0)));
    coordinator
}

fn fetch_request(group: &str) -> FetchOffsets {
    match fetch(group, false) {
        Request::FetchOffsets(request) => request,
        other => unreachable!("{other:?}"),
    }
}

async fn committed(coordinator: &GroupCoordinator, group: &str) -> Result<Option<i64>, GroupError> {
    let topics = coordinator.fetch_offsets(fetch_request(group)).await?;
    Ok(fetched(Reply::FetchOffsets(Ok(topics))))
}

/// Waits until the partitions serve.
async fn ready(coordinator: &GroupCoordinator) {
    while coordinator.list_groups(ListGroups::default()).await == Err(GroupError::CoordinatorLoadInProgress) {
        tokio::task::yield_now().await;
    }
}

async fn join_alone(coordinator: &GroupCoordinator, group: &str) -> Joined {
    let request = JoinGroup { requires_known_member_id: false, ..join(group) };
    let joined = coordinator.join_group(request).await.unwrap();
    let request = SyncGroup {
        group_id: GroupId::new(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(joined.member_id.clone(), "assigned".into())],
    };
    let synced = coordinator.sync_group(request).await.unwrap();
    assert_eq!(&synced.assignment[..], b"assigned");
    joined
}

fn beat(group: &str, generation: GenerationId, member_id: &MemberId) -> Heartbeat {
    match heartbeat(group, generation.0, member_id) {
        Request::Heartbeat(request) => request,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn groups_and_offsets_outlive_the_coordinator() {
    let log = Arc::new(MemoryLog::default());
    let before = coordinator(&log);
    ready(&before).await;
    let joined = join_alone(&before, "g").await;
    let request = CommitOffsets {
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..commit("g", 5)
    };
    assert_eq!(before.commit_offsets(request).await, Ok(vec![Ok(())]));
    for group in ["a", "b", "c", "d", "e"] {
        assert_eq!(before.commit_offsets(commit(group, 7)).await, Ok(vec![Ok(())]));
    }
    assert_eq!(before.delete_group(GroupId::new("a")).await, Ok(()));
    before.shutdown().await;
    assert_eq!(committed(&before, "g").await, Err(GroupError::NotCoordinator));

    let after = coordinator(&log);
    ready(&after).await;
    assert_eq!(committed(&after, "g").await, Ok(Some(5)));
    assert_eq!(committed(&after, "e").await, Ok(Some(7)));
    assert_eq!(committed(&after, "a").await, Ok(None));
    assert_eq!(after.heartbeat(beat("g", joined.generation_id, &joined.member_id)).await, Ok(()));
    let mut groups: Vec<_> = after.list_groups(ListGroups::default()).await.unwrap();
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    let listed: Vec<_> = groups.iter().map(|group| (group.group_id.as_str(), group.state)).collect();
    let empty = GroupState::Empty;
    let expected = [("b", empty), ("c", empty), ("d", empty), ("e", empty), ("g", GroupState::Stable)];
    assert_eq!(listed, expected);
    after.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn commits_that_wait_for_an_append_share_the_next() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log);
    ready(&coordinator).await;
    let partition = coordinator.partition_for(&GroupId::new("g"));
    let gate = log.hold(partition);
    let mut appended = log.appended.subscribe();
    let commits = (0..100).map(|offset| coordinator.commit_offsets(commit("g", offset)));
    let release = async {
        appended.changed().await.unwrap();
        // The others have to be in the inbox when the first append ends.
        tokio::time::sleep(Duration::from_millis(1)).await;
        gate.add_permits(100);
    };
    let (results, ()) = tokio::join!(join_all(commits), release);
    assert!(results.iter().all(|result| *result == Ok(vec![Ok(())])));
    assert_eq!(log.appends(), [(partition, 1), (partition, 99)]);
    assert_eq!(committed(&coordinator, "g").await, Ok(Some(99)), "in the order they came");
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_partition_holds_up_no_other() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log);
    ready(&coordinator).await;
    let slow = coordinator.partition_for(&GroupId::new("slow"));
    let quick = (0..).map(|n| format!("quick{n}"));
    let quick =
        quick.into_iter().find(|group| coordinator.partition_for(&GroupId::new(group)) != slow).unwrap();
    let gate = log.hold(slow);
    let held = coordinator.commit_offsets(commit("slow", 1));
    let passes = async {
        assert_eq!(coordinator.commit_offsets(commit(&quick, 1)).await, Ok(vec![Ok(())]));
        gate.add_permits(1);
    };
    let (held, ()) = tokio::join!(held, passes);
    assert_eq!(held, Ok(vec![Ok(())]));
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_loads_serves_and_goes() {
    let log = Arc::new(MemoryLog::default());
    let partition = partition_for(&GroupId::new("g"), PARTITIONS);
    let gate = log.hold(partition);
    let coordinator = coordinator(&log);
    assert_eq!(committed(&coordinator, "g").await, Err(GroupError::CoordinatorLoadInProgress));
    gate.add_permits(1_000);
    ready(&coordinator).await;
    assert_eq!(committed(&coordinator, "g").await, Ok(None));
    // Loading it again in the same epoch changes nothing.
    let joined = join_alone(&coordinator, "g").await;
    coordinator.load(partition, LeaderEpoch(0));
    assert_eq!(coordinator.heartbeat(beat("g", joined.generation_id, &joined.member_id)).await, Ok(()));
    // One who waits when the partition goes is sent elsewhere.
    let parked = coordinator.join_group(static_join("g", "i"));
    let unload = async {
        while coordinator.describe_group(GroupId::new("g")).await.unwrap().state == GroupState::Stable {
            tokio::task::yield_now().await;
        }
        coordinator.unload(partition);
    };
    let (parked, ()) = tokio::join!(parked, unload);
    assert_eq!(parked.unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(committed(&coordinator, "g").await, Err(GroupError::NotCoordinator));
    coordinator.load(partition, LeaderEpoch(1));
    ready(&coordinator).await;
    assert_eq!(coordinator.heartbeat(beat("g", joined.generation_id, &joined.member_id)).await, Ok(()));
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cant_be_read_is_not_served() {
    let partition = partition_for(&GroupId::new("g"), PARTITIONS);
    let log = Arc::new(MemoryLog { unreadable: Some(partition), ..MemoryLog::default() });
    let coordinator = coordinator(&log);
    let result = coordinator.commit_offsets(commit("g", 1)).await;
    let loading = GroupError::CoordinatorLoadInProgress;
    assert!([Err(GroupError::NotCoordinator), Err(loading)].contains(&result), "{result:?}");
    ready(&coordinator).await;
    assert_eq!(committed(&coordinator, "g").await, Err(GroupError::NotCoordinator));
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_removed_when_its_time_is_up() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log);
    ready(&coordinator).await;
    let joined = join_alone(&coordinator, "g").await;
    let state = async || coordinator.describe_group(GroupId::new("g")).await.unwrap().state;
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(coordinator.heartbeat(beat("g", joined.generation_id, &joined.member_id)).await, Ok(()));
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    assert_eq!(state().await, GroupState::Stable);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(state().await, GroupState::Empty);
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn members_need_a_group_with_a_name() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log);
    ready(&coordinator).await;
    let refused = coordinator.join_group(join("")).await.unwrap_err();
    assert_eq!(refused.error, GroupError::InvalidGroupId);
    let member_id = MemberId::new("m");
    let beat = coordinator.heartbeat(beat("", GenerationId(1), &member_id)).await;
    assert_eq!(beat, Err(GroupError::InvalidGroupId));
    assert_eq!(coordinator.commit_offsets(commit("", 1)).await, Ok(vec![Ok(())]));
    assert_eq!(committed(&coordinator, "").await, Ok(Some(1)));
    coordinator.shutdown().await;
}

/// A `__consumer_offsets` that somebody made with another number of partitions used to panic the coordinator.
#[tokio::test(start_paused = true)]
async fn groups_follow_the_topic_that_there_is() {
    let log = Arc::new(MemoryLog::default());
    let coordinator = coordinator(&log);
    let topic = |id: u128| TopicId(Uuid::from_u128(id));
    for (id, partitions) in [(1, 9), (2, 1), (3, PARTITIONS)] {
        coordinator.follow_topic(Some((topic(id), partitions)));
        // What was led of the other topic isn't any more.
        assert_eq!(committed(&coordinator, "g").await, Err(GroupError::NotCoordinator));
        // The last is none of the topic's.
        for partition in 0..=partitions {
            coordinator.load(PartitionIndex(partition), LeaderEpoch(0));
        }
        ready(&coordinator).await;
        let commit = commit("g", i64::from(partitions));
        assert_eq!(coordinator.commit_offsets(commit).await, Ok(vec![Ok(())]));
        coordinator.follow_topic(Some((topic(id), partitions)));
        assert_eq!(committed(&coordinator, "g").await, Ok(Some(i64::from(partitions))));
    }
    coordinator.follow_topic(None);
    assert_eq!(committed(&coordinator, "g").await, Err(GroupError::NotCoordinator));
}
