//! A classic group's members and generation, and the invariants between them.
//!
//! Invariants, held by keeping the fields private to this file:
//! - `leader` is a member, and there is one whenever there are members
//! - `static_members` maps exactly the members with an instance id
//! - `protocol_counts` says how many members know each protocol; the members have at least one in common
//! - `protocols_bytes` is what those protocols take in all
//! - `awaiting_join_count` is the number of members whose `awaiting_join` is set
//! - a parked request is answered before its member goes

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::consumer_protocol;
use super::member::{Member, MemberTimeouts};
use super::offsets::Offsets;
use super::record::GroupMetadata;
use super::step::{Command, Step, TimerKey};
use super::{
    GenerationId, GroupError, GroupId, GroupInstanceId, GroupRecord, GroupState, JoinRefused, Joined,
    JoinedMember, MemberId, Protocol, Reply, Token,
};

#[derive(Debug)]
pub(super) struct ClassicGroup {
    pub(super) id: GroupId,
    pub(super) offsets: Offsets,
    /// The first rebalance of an empty group, while it waits for more members.
    pub(super) initial_rebalance: Option<InitialRebalance>,
    state: GroupState,
    state_timestamp_ms: Option<i64>,
    generation_id: GenerationId,
    protocol_type: Option<Arc<str>>,
    protocol_name: Option<Arc<str>>,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    static_members: HashMap<GroupInstanceId, MemberId>,
    pending_members: BTreeSet<MemberId>,
    pending_sync: BTreeSet<MemberId>,
    protocol_counts: HashMap<Arc<str>, usize>,
    protocols_bytes: usize,
    awaiting_join_count: usize,
    /// `None` while unknown: no consumers, or their metadata can't be read.
    subscribed_topics: Option<HashSet<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitialRebalance {
    /// How long the current wait was meant to be.
    pub(super) delay: std::time::Duration,
    /// What of the rebalance timeout is left after it.
    pub(super) remaining: std::time::Duration,
    /// Another member has come during the current wait.
    pub(super) member_added: bool,
}

impl ClassicGroup {
    pub(super) fn new(id: GroupId, now_ms: i64) -> Self {
        Self {
            id,
            offsets: Offsets::default(),
            initial_rebalance: None,
            state: GroupState::Empty,
            state_timestamp_ms: Some(now_ms),
            generation_id: GenerationId(0),
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_members: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            protocol_counts: HashMap::new(),
            protocols_bytes: 0,
            awaiting_join_count: 0,
            subscribed_topics: None,
        }
    }

    /// The group as its last record left it. Records come from disk: what contradicts itself is left out.
    pub(super) fn restore(id: GroupId, metadata: GroupMetadata, offsets: Offsets) -> Self {
        let mut group = Self::new(id, 0);
        group.offsets = offsets;
        group.state_timestamp_ms = metadata.state_timestamp_ms;
        group.generation_id = metadata.generation_id;
        group.protocol_type = metadata.protocol_type;
        let protocol_name = metadata.protocol_name.clone().unwrap_or_else(|| "".into());
        for member in metadata.members {
            let taken =
                member.group_instance_id.as_ref().is_some_and(|id| group.static_members.contains_key(id));
            if !taken && !group.members.contains_key(&member.member_id) {
                group.insert(Member::restore(member, protocol_name.clone()));
            }
        }
        if let Some(leader) = metadata.leader.filter(|leader| group.members.contains_key(leader)) {
            group.leader = Some(leader);
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
            group.protocol_name = Some(protocol_name);
        }
        group.compute_subscribed_topics();
        group
    }

    pub(super) fn state(&self) -> GroupState {
        self.state
    }

    pub(super) fn state_timestamp_ms(&self) -> Option<i64> {
        self.state_timestamp_ms
    }

    pub(super) fn generation_id(&self) -> GenerationId {
        self.generation_id
    }

    pub(super) fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    pub(super) fn protocol_name(&self) -> Option<&Arc<str>> {
        self.protocol_name.as_ref()
    }

    pub(super) fn leader(&self) -> Option<&MemberId> {
        self.leader.as_ref()
    }

    pub(super) fn is_leader(&self, member_id: &MemberId) -> bool {
        self.leader.as_ref() == Some(member_id)
    }

    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn member(&self, member_id: &MemberId) -> Option<&Member> {
        self.members.get(member_id)
    }

    pub(super) fn static_member_id(&self, instance_id: &GroupInstanceId) -> Option<&MemberId> {
        self.static_members.get(instance_id)
    }

    pub(super) fn is_pending(&self, member_id: &MemberId) -> bool {
        self.pending_members.contains(member_id)
    }

    pub(super) fn pending_member_count(&self) -> usize {
        self.pending_members.len()
    }

    pub(super) fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    /// What the members' protocols take.
    pub(super) fn protocols_bytes(&self) -> usize {
        self.protocols_bytes
    }

    /// Nobody the group would wait for is missing.
    pub(super) fn all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join_count && self.pending_members.is_empty()
    }

    /// The members that keep the next generation waiting, except static ones: they may be restarting.
    pub(super) fn dynamic_members_not_joined(&self) -> Vec<MemberId> {
        self.members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect()
    }

    pub(super) fn rebalance_timeout(&self) -> std::time::Duration {
        self.members.values().map(|member| member.timeouts.rebalance()).max().unwrap_or_default()
    }

    /// Kafka's check of who speaks: the instance id must be the member's, the member must be known.
    pub(super) fn validate_member(
        &self,
        member_id: &MemberId,
        instance_id: Option<&GroupInstanceId>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if current != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// The group could go on if a member came with these protocols.
    pub(super) fn supports_protocols(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let members = self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.protocol_count(&protocol.name) == members)
    }

    /// The protocol all members know that most of them like best; by name where that is a draw.
    pub(super) fn select_protocol(&self) -> Arc<str> {
        let members = self.members.len();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice =
                member.protocols.iter().find(|protocol| self.protocol_count(&protocol.name) == members);
            let choice = choice.expect("the members have a protocol in common");
            *votes.entry(&choice.name).or_default() += 1;
        }
        let winner = votes.iter().rev().max_by_key(|(_, count)| **count);
        Arc::clone(winner.expect("a group that selects a protocol has members").0)
    }

    /// Whether the members subscribe to the topic; if that can't be known, consumers might.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    pub(super) fn knows_subscribed_topics(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    pub(super) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(consumer_protocol::PROTOCOL_TYPE)
    }

    pub(super) fn transition_to(&mut self, next: GroupState, now_ms: i64) {
        assert!(self.state.leads_to(next), "group {} can't go from {} to {next}", self.id, self.state);
        self.state = next;
        self.state_timestamp_ms = Some(now_ms);
    }

    /// Begins the generation of the members that are here now.
    pub(super) fn begin_generation(&mut self, now_ms: i64) {
        self.generation_id = self.generation_id.next();
        self.pending_sync.clear();
        self.initial_rebalance = None;
        if self.members.is_empty() {
            self.protocol_name = None;
            self.transition_to(GroupState::Empty, now_ms);
        } else {
            self.protocol_name = Some(self.select_protocol());
            self.transition_to(GroupState::CompletingRebalance, now_ms);
        }
        self.compute_subscribed_topics();
    }

    pub(super) fn add_pending(&mut self, member_id: MemberId) {
        assert!(!self.members.contains_key(&member_id), "{member_id} is a member already");
        self.pending_members.insert(member_id);
    }

    pub(super) fn remove_pending(&mut self, member_id: &MemberId, step: &mut Step<'_>) {
        if self.pending_members.remove(member_id) {
            step.timers.cancel(&TimerKey::Session(self.id.clone(), member_id.clone()));
        }
    }

    pub(super) fn add_member(&mut self, member: Member, protocol_type: &Arc<str>) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        assert_eq!(
            self.protocol_type.as_ref(),
            Some(protocol_type),
            "a member's protocol type is its group's"
        );
        self.pending_members.remove(&member.id);
        self.insert(member);
    }

    fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            let old = self.static_members.insert(instance_id.clone(), member.id.clone());
            assert!(old.is_none(), "static member {instance_id} is a member already");
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.count_protocols(&member.protocols);
        self.awaiting_join_count += usize::from(member.awaiting_join.is_some());
        let old = self.members.insert(member.id.clone(), member);
        assert!(old.is_none(), "a member joins once");
    }

    /// Removes the member and answers what it has parked, with UNKNOWN_MEMBER_ID: if it is alive after all,
    /// it joins anew.
    pub(super) fn remove_member(&mut self, member_id: &MemberId, step: &mut Step<'_>) {
        let gone = JoinRefused { error: GroupError::UnknownMemberId, member_id: MemberId::unknown() };
        self.answer_join(member_id, Err(gone), step);
        self.answer_sync(member_id, Reply::Sync(Err(GroupError::UnknownMemberId)), step);
        step.timers.cancel(&TimerKey::Session(self.id.clone(), member_id.clone()));
        let Some(member) = self.members.remove(member_id) else { return };
        self.uncount_protocols(&member.protocols);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.pending_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Gives a static member another id. What its old self has parked is fenced off.
    pub(super) fn replace_member(&mut self, old_id: &MemberId, new_id: MemberId, step: &mut Step<'_>) {
        let fenced = JoinRefused { error: GroupError::FencedInstanceId, member_id: old_id.clone() };
        self.answer_join(old_id, Err(fenced), step);
        self.answer_sync(old_id, Reply::Sync(Err(GroupError::FencedInstanceId)), step);
        step.timers.cancel(&TimerKey::Session(self.id.clone(), old_id.clone()));
        let mut member = self.members.remove(old_id).expect("the replaced member is a member");
        let instance_id = member.instance_id.clone().expect("only static members are replaced");
        member.id = new_id.clone();
        self.members.insert(new_id.clone(), member);
        self.static_members.insert(instance_id, new_id.clone());
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id);
        }
    }

    pub(super) fn update_member(
        &mut self,
        member_id: &MemberId,
        protocols: Vec<Protocol>,
        timeouts: MemberTimeouts,
    ) {
        let member = self.members.get_mut(member_id).expect("the updated member is a member");
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        member.timeouts = timeouts;
        self.uncount_protocols(&old);
        self.count_protocols(&protocols);
    }

    /// Parks the member's join. An earlier one, which its client has given up on, is answered.
    pub(super) fn park_join(&mut self, member_id: &MemberId, token: Token, step: &mut Step<'_>) {
        let superseded = JoinRefused { error: GroupError::RebalanceInProgress, member_id: member_id.clone() };
        self.answer_join(member_id, Err(superseded), step);
        let member = self.members.get_mut(member_id).expect("a member parks its join");
        member.awaiting_join = Some(token);
        self.awaiting_join_count += 1;
    }

    pub(super) fn park_sync(&mut self, member_id: &MemberId, token: Token, step: &mut Step<'_>) {
        self.answer_sync(member_id, Reply::Sync(Err(GroupError::RebalanceInProgress)), step);
        self.members.get_mut(member_id).expect("a member parks its sync").awaiting_sync = Some(token);
    }

    /// Answers the member's parked join, if there is one.
    pub(super) fn answer_join(
        &mut self,
        member_id: &MemberId,
        reply: Result<Joined, JoinRefused>,
        step: &mut Step<'_>,
    ) {
        let parked = self.members.get_mut(member_id).and_then(|member| member.awaiting_join.take());
        if let Some(token) = parked {
            self.awaiting_join_count -= 1;
            step.reply(token, Reply::Join(reply));
        }
    }

    /// Answers the member's parked sync, if there is one. Says whether there was.
    pub(super) fn answer_sync(&mut self, member_id: &MemberId, reply: Reply, step: &mut Step<'_>) -> bool {
        let parked = self.members.get_mut(member_id).and_then(|member| member.awaiting_sync.take());
        let answered = parked.is_some();
        if let Some(token) = parked {
            step.reply(token, reply);
        }
        answered
    }

    pub(super) fn set_assignment(&mut self, member_id: &MemberId, assignment: Bytes) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.assignment = assignment;
        }
    }

    /// The member has been told its generation and has yet to ask for its assignment.
    pub(super) fn enter_generation(&mut self, member_id: &MemberId) {
        let member = self.members.get_mut(member_id).expect("a member enters its generation");
        member.is_new = false;
        self.pending_sync.insert(member_id.clone());
    }

    pub(super) fn synced(&mut self, member_id: &MemberId) {
        self.pending_sync.remove(member_id);
    }

    pub(super) fn take_pending_sync(&mut self) -> BTreeSet<MemberId> {
        std::mem::take(&mut self.pending_sync)
    }

    pub(super) fn all_members_synced(&self) -> bool {
        self.pending_sync.is_empty()
    }

    pub(super) fn member_ids(&self) -> Vec<MemberId> {
        self.members.keys().cloned().collect()
    }

    /// Makes sure that the leader is one who has joined. `false` when nobody has.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.awaiting_join.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|member| joined(member)) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// The answer to a member's join in the generation that has begun.
    pub(super) fn joined(&self, member_id: &MemberId, skip_assignment: bool) -> Joined {
        let members = if self.is_leader(member_id) { self.joined_members() } else { Vec::new() };
        Joined {
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().expect("a generation has a leader"),
            member_id: member_id.clone(),
            members,
            skip_assignment,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol_name.as_deref()),
        };
        self.members.values().map(joined).collect()
    }

    /// The group's record with the assignment that `assign` gives each member.
    pub(super) fn as_record(&self, assign: impl Fn(&Member) -> Bytes) -> GroupRecord {
        let protocol_name = self.protocol_name.as_deref();
        let members =
            self.members.values().map(|member| member.as_metadata(protocol_name, assign(member))).collect();
        let value = GroupMetadata {
            protocol_type: self.protocol_type.clone(),
            generation_id: self.generation_id,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members,
        };
        GroupRecord::GroupMetadata { group_id: self.id.clone(), value: Some(value) }
    }

    /// Forgets the group's members-to-be; for a group that goes.
    pub(super) fn clear_pending(&mut self, step: &mut Step<'_>) {
        for member_id in std::mem::take(&mut self.pending_members) {
            step.timers.cancel(&TimerKey::Session(self.id.clone(), member_id));
        }
    }

    /// Nothing is or ever was here that somebody could ask for.
    pub(super) fn is_blank(&self) -> bool {
        self.state == GroupState::Empty
            && self.generation_id == GenerationId(0)
            && self.protocol_type.is_none()
            && self.pending_members.is_empty()
            && self.offsets.is_empty()
    }

    /// Answers all that is parked; for a group that is coordinated elsewhere from now on.
    pub(super) fn dismiss(self, error: GroupError, commands: &mut Vec<Command>) {
        for member in self.members.into_values() {
            let refused = JoinRefused { error, member_id: member.id };
            let join = member.awaiting_join.map(|token| Command::Reply(token, Reply::Join(Err(refused))));
            let sync = member.awaiting_sync.map(|token| Command::Reply(token, Reply::Sync(Err(error))));
            commands.extend(join.into_iter().chain(sync));
        }
    }

    fn protocol_count(&self, name: &str) -> usize {
        self.protocol_counts.get(name).copied().unwrap_or(0)
    }

    fn count_protocols(&mut self, protocols: &[Protocol]) {
        self.protocols_bytes += protocols.iter().map(Protocol::bytes).sum::<usize>();
        for protocol in protocols {
            *self.protocol_counts.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn uncount_protocols(&mut self, protocols: &[Protocol]) {
        self.protocols_bytes -= protocols.iter().map(Protocol::bytes).sum::<usize>();
        for protocol in protocols {
            let count = self.protocol_counts.get_mut(&protocol.name).expect("a known protocol is counted");
            *count -= 1;
            if *count == 0 {
                self.protocol_counts.remove(&protocol.name);
            }
        }
    }

    fn compute_subscribed_topics(&mut self) {
        self.subscribed_topics = match &self.protocol_name {
            _ if !self.is_consumer_group() => None,
            _ if self.members.is_empty() => Some(HashSet::new()),
            Some(name) => consumer_protocol::subscribed_topics(self.members.values(), name),
            None => None,
        };
    }
}
