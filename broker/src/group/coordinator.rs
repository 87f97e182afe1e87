//! The handle to the groups: routes each request to the actor of its group's partition.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::{Actor, Answers, INBOX_MAX, Message};
use super::offsets_log::OffsetsLog;
use super::{
    CommitOffsets, DeleteOffsets, FetchOffsets, FetchedTopic, GroupConfig, GroupDescription, GroupError,
    GroupId, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, ListGroups, ListedGroup, MemberLeft,
    Reply, Request, Shard, SyncGroup, Synced, partition_for,
};
use crate::clock::SharedClock;
use crate::ids::{LeaderEpoch, PartitionIndex, TopicId, TopicName};

/// Coordinates the groups of the partitions of `__consumer_offsets` that were loaded into it.
#[derive(Clone)]
pub struct GroupCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    config: GroupConfig,
    log: Arc<dyn OffsetsLog>,
    clock: SharedClock,
    tasks: TaskTracker,
    /// Never held across an await.
    slots: Mutex<Slots>,
}

/// One slot per partition of `__consumer_offsets`; an empty one is led elsewhere.
struct Slots {
    slots: Vec<Option<Slot>>,
    /// The topic that the slots are of.
    topic: Option<TopicId>,
    stopped: bool,
}

struct Slot {
    leader_epoch: LeaderEpoch,
    inbox: mpsc::Sender<Message>,
    stop: CancellationToken,
}

/// Takes the reply of the request's own kind out of the closed enum.
macro_rules! expect_reply {
    ($reply:expr, $kind:ident) => {
        match $reply {
            Reply::$kind(result) => result,
            other => unreachable!("asked for {}, got {other:?}", stringify!($kind)),
        }
    };
}

impl GroupCoordinator {
    /// A coordinator that leads nothing yet. `partition_count` is what `__consumer_offsets` will have.
    pub fn new(
        config: GroupConfig,
        partition_count: i32,
        log: Arc<dyn OffsetsLog>,
        clock: SharedClock,
    ) -> Self {
        let slots = Mutex::new(Slots { slots: no_slots(partition_count), topic: None, stopped: false });
        Self { shared: Arc::new(Shared { config, log, clock, tasks: TaskTracker::new(), slots }) }
    }

    /// Says which topic is `__consumer_offsets`, if there is one, and how many partitions it has, which decides
    /// where each group lives. The groups of another one are unloaded: they went with their records.
    pub fn follow_topic(&self, topic: Option<(TopicId, i32)>) {
        let mut slots = self.slots();
        let id = topic.map(|(id, _)| id);
        if slots.topic == id {
            return;
        }
        for slot in slots.slots.iter_mut().filter_map(Option::take) {
            slot.stop.cancel();
        }
        if let Some((_, partition_count)) = topic {
            slots.slots = no_slots(partition_count);
        }
        slots.topic = id;
    }

    /// The partition of `__consumer_offsets` that the group lives in.
    pub fn partition_for(&self, group_id: &GroupId) -> PartitionIndex {
        partition_for(group_id, self.slots().slots.len() as i32)
    }

    /// This broker leads the partition from now on: its groups are served as soon as they are loaded.
    pub fn load(&self, partition: PartitionIndex, leader_epoch: LeaderEpoch) {
        let mut slots = self.slots();
        if slots.stopped {
            return;
        }
        // It may have become another topic's meanwhile.
        let Some(slot) = slots.get_mut(partition) else { return };
        if slot.as_ref().is_some_and(|slot| slot.leader_epoch >= leader_epoch) {
            return;
        }
        if let Some(old) = slot.take() {
            old.stop.cancel();
        }
        let (inbox, receiver) = mpsc::channel(INBOX_MAX);
        let stop = CancellationToken::new();
        let actor = Actor {
            partition,
            leader_epoch,
            shard: Shard::new(self.shared.config.clone()),
            log: Arc::clone(&self.shared.log),
            clock: Arc::clone(&self.shared.clock),
            inbox: receiver,
            stop: stop.clone(),
            answers: Answers::default(),
        };
        *slot = Some(Slot { leader_epoch, inbox, stop });
        self.shared.tasks.spawn(actor.run());
    }

    /// This broker does not lead the partition any more.
    pub fn unload(&self, partition: PartitionIndex) {
        if let Some(slot) = self.slots().get_mut(partition).and_then(Option::take) {
            slot.stop.cancel();
        }
    }

    /// Forgets the offsets that were committed to topics that are no more.
    pub async fn topics_deleted(&self, topics: Vec<(TopicName, TopicId)>) {
        let topics: Arc<[_]> = topics.into();
        for inbox in self.inboxes() {
            // A partition that is unloaded meanwhile is its next leader's to clean.
            let _unloaded = inbox.send(Message::TopicsDeleted(Arc::clone(&topics))).await;
        }
    }

    /// Answers all that waits, and stops.
    pub async fn shutdown(&self) {
        let stopped = {
            let mut slots = self.slots();
            slots.stopped = true;
            slots.slots.iter_mut().filter_map(Option::take).collect::<Vec<_>>()
        };
        for slot in stopped {
            slot.stop.cancel();
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// `request.random` is chosen here.
    pub async fn join_group(&self, mut request: JoinGroup) -> Result<Joined, JoinRefused> {
        request.random = self.shared.clock.random_uuid();
        expect_reply!(self.call(Request::Join(request)).await, Join)
    }

    pub async fn sync_group(&self, request: SyncGroup) -> Result<Synced, GroupError> {
        expect_reply!(self.call(Request::Sync(request)).await, Sync)
    }

    pub async fn heartbeat(&self, request: Heartbeat) -> Result<(), GroupError> {
        expect_reply!(self.call(Request::Heartbeat(request)).await, Heartbeat)
    }

    pub async fn leave_group(&self, request: LeaveGroup) -> Result<Vec<MemberLeft>, GroupError> {
        expect_reply!(self.call(Request::Leave(request)).await, Leave)
    }

    /// Resolves when the offsets are durable; one result per offset, in the request's order.
    pub async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        expect_reply!(self.call(Request::CommitOffsets(request)).await, CommitOffsets)
    }

    pub async fn fetch_offsets(&self, request: FetchOffsets) -> Result<Vec<FetchedTopic>, GroupError> {
        expect_reply!(self.call(Request::FetchOffsets(request)).await, FetchOffsets)
    }

    /// One result per partition, in the request's order.
    pub async fn delete_offsets(
        &self,
        request: DeleteOffsets,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        expect_reply!(self.call(Request::DeleteOffsets(request)).await, DeleteOffsets)
    }

    pub async fn delete_group(&self, group_id: GroupId) -> Result<(), GroupError> {
        expect_reply!(self.call(Request::DeleteGroup(group_id)).await, DeleteGroup)
    }

    pub async fn describe_group(&self, group_id: GroupId) -> Result<GroupDescription, GroupError> {
        expect_reply!(self.call(Request::DescribeGroup(group_id)).await, DescribeGroup)
    }

    /// The groups of all partitions that this broker leads.
    pub async fn list_groups(&self, request: ListGroups) -> Result<Vec<ListedGroup>, GroupError> {
        let mut groups = Vec::new();
        for inbox in self.inboxes() {
            match expect_reply!(ask(inbox, Request::ListGroups(request.clone())).await, ListGroups) {
                Ok(listed) => groups.extend(listed),
                // It has moved since the slots were looked at.
                Err(GroupError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    async fn call(&self, request: Request) -> Reply {
        let group_id = request.group_id().expect("what is about one group names it");
        if group_id.is_empty() && request.needs_named_group() {
            return request.refuse(GroupError::InvalidGroupId);
        }
        let inbox = {
            let mut slots = self.slots();
            let partition = partition_for(group_id, slots.slots.len() as i32);
            slots.get_mut(partition).and_then(|slot| slot.as_ref()).map(|slot| slot.inbox.clone())
        };
        match inbox {
            Some(inbox) => ask(inbox, request).await,
            None => request.refuse(GroupError::NotCoordinator),
        }
    }

    fn inboxes(&self) -> Vec<mpsc::Sender<Message>> {
        self.slots().slots.iter().flatten().map(|slot| slot.inbox.clone()).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.shared.slots.lock().expect("no code panics while it holds this lock")
    }
}

impl Slots {
    fn get_mut(&mut self, partition: PartitionIndex) -> Option<&mut Option<Slot>> {
        self.slots.get_mut(usize::try_from(partition.0).ok()?)
    }
}

fn no_slots(partition_count: i32) -> Vec<Option<Slot>> {
    assert!(partition_count > 0, "a topic has at least one partition");
    (0..partition_count).map(|_| None).collect()
}

/// Asks an actor; one that stops first does not coordinate any more.
async fn ask(inbox: mpsc::Sender<Message>, request: Request) -> Reply {
    let refusal = request.refuse(GroupError::NotCoordinator);
    let (answer, reply) = oneshot::channel();
    if inbox.send(Message::Request(request, answer)).await.is_err() {
        return refusal;
    }
    drop(inbox);
    reply.await.unwrap_or(refusal)
}
