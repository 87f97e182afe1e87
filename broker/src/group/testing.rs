//! A shard with a hand-moved clock and a log that answers when told: for the core's tests.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    AppendError, Command, CommitOffsets, Event, FetchOffsets, FetchOffsetsTopic, GenerationId, GroupConfig,
    GroupError, GroupId, GroupInstanceId, GroupRecord, GroupState, Heartbeat, JoinGroup, Joined, LeaveGroup,
    LeavingMember, MemberId, Now, OffsetToCommit, Protocol, Reply, Request, Shard, SyncGroup, Synced, Token,
};
use crate::ids::{Offset, PartitionIndex, TopicName};

pub(super) const START_MS: i64 = 1_767_225_600_000;

pub(super) struct Bench {
    pub(super) shard: Shard,
    pub(super) now: Duration,
    /// Decide every append at once.
    pub(super) auto_append: bool,
    hold_ticks: bool,
    pub(super) in_flight: Option<Vec<GroupRecord>>,
    /// What has become durable.
    pub(super) log: Vec<GroupRecord>,
    /// Each with the length that the log had then.
    replies: HashMap<u64, (Reply, usize)>,
    next_token: u64,
}

impl Bench {
    pub(super) fn new(config: GroupConfig) -> Self {
        let mut bench = Self::loading(config);
        bench.event(Event::Loaded);
        bench
    }

    pub(super) fn loading(config: GroupConfig) -> Self {
        Self {
            shard: Shard::new(config),
            now: Duration::from_secs(1),
            auto_append: true,
            hold_ticks: false,
            in_flight: None,
            log: Vec::new(),
            replies: HashMap::new(),
            next_token: 0,
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        let now = Now { monotonic: self.now, wall_ms: START_MS + self.now.as_millis() as i64 };
        for command in self.shard.step(now, event) {
            match command {
                Command::Reply(Token(token), reply) => {
                    assert!(token < self.next_token, "token {token} was never given");
                    let old = self.replies.insert(token, (reply, self.log.len()));
                    assert!(old.is_none(), "token {token} was answered twice: {old:?}");
                }
                Command::Append(records) => {
                    assert!(self.in_flight.is_none(), "a second append while one is in flight");
                    self.in_flight = Some(records);
                }
            }
        }
        if self.auto_append && self.in_flight.is_some() {
            self.appended(Ok(()));
        }
        self.settle();
    }

    /// Deadlines that have come, zero delays among them, are served before anything else.
    fn settle(&mut self) {
        if !self.hold_ticks && self.shard.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.event(Event::Tick);
            let next = self.shard.next_deadline();
            assert!(next.is_none_or(|deadline| deadline > self.now), "a tick leaves no deadline behind");
        }
    }

    pub(super) fn appended(&mut self, result: Result<(), AppendError>) {
        let records = self.in_flight.take().expect("an append is in flight");
        if result.is_ok() {
            self.log.extend(records);
        }
        self.event(Event::Appended(result));
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(deadline) = self.shard.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.settle();
        }
        self.now = until;
    }

    pub(super) fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// Sends the request; its answer, if there is one yet, is behind the number.
    pub(super) fn send(&mut self, request: Request) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.event(Event::Request(Token(token), request));
        token
    }

    pub(super) fn sent_count(&self) -> u64 {
        self.next_token
    }

    /// Sends the requests so close together that no deadline comes between them.
    pub(super) fn send_together(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<u64> {
        self.hold_ticks = true;
        let tokens = requests.into_iter().map(|request| self.send(request)).collect();
        self.hold_ticks = false;
        self.settle();
        tokens
    }

    /// The answers to new members that join together, the leader's first.
    pub(super) fn join_together(&mut self, requests: impl IntoIterator<Item = JoinGroup>) -> Vec<Joined> {
        let new =
            |request: JoinGroup| Request::Join(JoinGroup { requires_known_member_id: false, ..request });
        let tokens = self.send_together(requests.into_iter().map(new));
        let mut joined: Vec<_> = tokens.into_iter().map(|token| self.joined(token)).collect();
        joined.sort_by_key(|joined| joined.members.is_empty());
        joined
    }

    pub(super) fn take(&mut self, token: u64) -> Option<Reply> {
        self.take_dated(token).map(|(reply, _)| reply)
    }

    pub(super) fn take_dated(&mut self, token: u64) -> Option<(Reply, usize)> {
        self.replies.remove(&token)
    }

    /// The answer to a request that must have been answered at once.
    pub(super) fn call(&mut self, request: Request) -> Reply {
        let token = self.send(request);
        self.take(token).expect("answered at once")
    }

    pub(super) fn joined(&mut self, token: u64) -> Joined {
        match self.take(token) {
            Some(Reply::Join(Ok(joined))) => joined,
            other => panic!("expected a completed join, got {other:?}"),
        }
    }

    pub(super) fn join_error(&mut self, token: u64) -> GroupError {
        match self.take(token) {
            Some(Reply::Join(Err(refused))) => refused.error,
            other => panic!("expected a refused join, got {other:?}"),
        }
    }

    pub(super) fn synced(&mut self, token: u64) -> Synced {
        match self.take(token) {
            Some(Reply::Sync(Ok(synced))) => synced,
            other => panic!("expected an assignment, got {other:?}"),
        }
    }

    pub(super) fn assert_parked(&mut self, token: u64) {
        assert_eq!(self.take(token), None, "the request should be parked");
    }

    pub(super) fn state(&mut self, group: &str) -> Option<GroupState> {
        match self.call(Request::DescribeGroup(GroupId::new(group))) {
            Reply::DescribeGroup(Ok(description)) => Some(description.state),
            Reply::DescribeGroup(Err(GroupError::GroupIdNotFound)) => None,
            other => panic!("{other:?}"),
        }
    }

    /// A group of the given size in its first stable generation; its members, the leader first.
    pub(super) fn stable_group(&mut self, group: &str, size: usize) -> Vec<MemberId> {
        let joined = self.join_together((0..size).map(|_| join(group)));
        self.sync_all(group, &joined);
        joined.into_iter().map(|joined| joined.member_id).collect()
    }

    pub(super) fn new_member_id(&mut self, request: JoinGroup) -> MemberId {
        match self.call(Request::Join(request)) {
            Reply::Join(Err(refused)) if refused.error == GroupError::MemberIdRequired => refused.member_id,
            other => panic!("{other:?}"),
        }
    }

    /// The leader first, then the others; each gets `assigned(its id)`.
    pub(super) fn sync_all(&mut self, group: &str, joined: &[Joined]) {
        let leader = joined.iter().find(|joined| joined.leader == joined.member_id).unwrap();
        let ids: Vec<_> = leader.members.iter().map(|member| member.member_id.clone()).collect();
        let token = self.send(sync(group, leader, &ids));
        assert_eq!(self.synced(token).assignment, assigned(&leader.member_id));
        for follower in joined.iter().filter(|joined| joined.leader != joined.member_id) {
            let token = self.send(sync(group, follower, &[]));
            assert_eq!(self.synced(token).assignment, assigned(&follower.member_id));
        }
    }
}

pub(super) fn join(group: &str) -> JoinGroup {
    use std::sync::atomic::{AtomicU64, Ordering};
    // Ids need only differ; nothing depends on their values.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    JoinGroup {
        group_id: GroupId::new(group),
        member_id: MemberId::unknown(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", &["t"])],
        requires_known_member_id: true,
        supports_skipping_assignment: true,
        reason: None,
        random: Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into()),
    }
}

pub(super) fn static_join(group: &str, instance_id: &str) -> JoinGroup {
    JoinGroup { group_instance_id: Some(GroupInstanceId::new(instance_id)), ..join(group) }
}

pub(super) fn rejoin(request: JoinGroup, member_id: &MemberId) -> Request {
    Request::Join(JoinGroup { member_id: member_id.clone(), ..request })
}

/// A protocol with a consumer's subscription as its metadata.
pub(super) fn protocol(name: &str, topics: &[&str]) -> Protocol {
    let mut metadata = vec![0, 0];
    metadata.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        metadata.extend((topic.len() as i16).to_be_bytes());
        metadata.extend(topic.as_bytes());
    }
    Protocol { name: name.into(), metadata: metadata.into() }
}

pub(super) fn assigned(member_id: &MemberId) -> Bytes {
    Bytes::from(format!("for {member_id}"))
}

pub(super) fn sync(group: &str, joined: &Joined, assign: &[MemberId]) -> Request {
    Request::Sync(SyncGroup {
        group_id: GroupId::new(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: assign.iter().map(|id| (id.clone(), assigned(id))).collect(),
    })
}

pub(super) fn heartbeat(group: &str, generation: i32, member_id: &MemberId) -> Request {
    Request::Heartbeat(Heartbeat {
        group_id: GroupId::new(group),
        generation_id: GenerationId(generation),
        member_id: member_id.clone(),
        group_instance_id: None,
    })
}

pub(super) fn leave(group: &str, members: &[(&str, Option<&str>)]) -> Request {
    Request::Leave(LeaveGroup {
        group_id: GroupId::new(group),
        members: members
            .iter()
            .map(|(id, instance)| LeavingMember {
                member_id: MemberId::new(id),
                group_instance_id: instance.map(GroupInstanceId::new),
            })
            .collect(),
    })
}

pub(super) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// A commit of `offset` to partition 0 of `t` by someone outside the group's rebalances.
pub(super) fn commit(group: &str, offset: i64) -> CommitOffsets {
    CommitOffsets {
        group_id: GroupId::new(group),
        generation_id: GenerationId::NONE,
        member_id: MemberId::unknown(),
        group_instance_id: None,
        retention_time_ms: None,
        knows_group_id_not_found: true,
        offsets: vec![OffsetToCommit {
            topic: topic("t"),
            topic_id: None,
            partition: PartitionIndex(0),
            offset: Offset(offset),
            leader_epoch: None,
            metadata: "m".into(),
        }],
    }
}

pub(super) fn fetch(group: &str, require_stable: bool) -> Request {
    let asked = FetchOffsetsTopic { topic: topic("t"), topic_id: None, partitions: vec![PartitionIndex(0)] };
    Request::FetchOffsets(FetchOffsets {
        group_id: GroupId::new(group),
        topics: Some(vec![asked]),
        require_stable,
    })
}

/// The offset in the answer to [`fetch`].
pub(super) fn fetched(reply: Reply) -> Option<i64> {
    match reply {
        Reply::FetchOffsets(Ok(topics)) => {
            topics[0].partitions[0].1.as_ref().map(|committed| committed.offset.0)
        }
        other => panic!("{other:?}"),
    }
}
