//! The groups of one partition of `__consumer_offsets`: the pure core.
//!
//! ```text
//! requests, Replay, Loaded, Appended, Tick, Unload -> Shard::step(now, event) -> Reply, Append
//! ```
//! No await, no clock, no randomness, no I/O: the same events at the same times give the same commands.
//! Every token that comes in with a request goes out with exactly one reply.

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use super::classic_group::ClassicGroup;
use super::config::{GROUPS_MAX, MEMBER_PROTOCOLS_BYTES_MAX, NAME_BYTES_MAX};
use super::offsets::Offsets;
use super::step::{Command, Now, Step, TimerKey};
use super::timers::Timers;
use super::writes::{Completion, Write, Writes};
use super::{
    AppendError, CommitOffsets, FetchOffsets, GroupConfig, GroupDescription, GroupError, GroupId,
    GroupMetadata, GroupRecord, GroupState, JoinGroup, ListGroups, ListedGroup, MemberLeft, Protocol, Reply,
    Request, Token,
};
use crate::ids::{TopicId, TopicName};

/// What can happen to a shard.
#[derive(Debug)]
pub enum Event {
    Request(Token, Request),
    /// Records of the partition, in order, while it loads.
    Replay(Vec<GroupRecord>),
    /// All of the partition has been replayed: requests can be served.
    Loaded,
    /// The append asked for last is decided.
    Appended(Result<(), AppendError>),
    /// Time has passed; see [`Shard::next_deadline`].
    Tick,
    TopicsDeleted(Vec<(TopicName, TopicId)>),
    /// The partition is led elsewhere from now on.
    Unload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Loading,
    Active,
    Unloaded,
}

pub struct Shard {
    config: GroupConfig,
    phase: Phase,
    groups: HashMap<GroupId, ClassicGroup>,
    timers: Timers<TimerKey>,
    writes: Writes,
}

/// Splits the shard into the groups and what a step on one of them may touch.
macro_rules! step {
    ($shard:ident, $now:ident, $commands:ident) => {
        Step {
            now: $now,
            config: &$shard.config,
            timers: &mut $shard.timers,
            writes: &mut $shard.writes,
            commands: $commands,
        }
    };
}

impl Shard {
    /// A shard that waits to be loaded.
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            phase: Phase::Loading,
            groups: HashMap::new(),
            timers: Timers::new(),
            writes: Writes::default(),
        }
    }

    /// When the shard wants its next `Tick`, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next_deadline()
    }

    pub fn step(&mut self, now: Now, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Request(token, request) => self.request(now, token, request, &mut commands),
            Event::Replay(records) => self.replay(now, records),
            Event::Loaded => self.loaded(now, &mut commands),
            Event::Appended(result) => self.appended(now, result, &mut commands),
            Event::Tick => self.tick(now, &mut commands),
            Event::TopicsDeleted(topics) => self.topics_deleted(now, &topics, &mut commands),
            Event::Unload => self.unload(&mut commands),
        }
        self.append_next(now, &mut commands);
        commands
    }

    fn request(&mut self, now: Now, token: Token, request: Request, commands: &mut Vec<Command>) {
        let refusal = match self.phase {
            Phase::Active => None,
            Phase::Loading => Some(GroupError::CoordinatorLoadInProgress),
            Phase::Unloaded => Some(GroupError::NotCoordinator),
        };
        let nameable = request.group_id().is_none_or(|group_id| group_id.as_str().len() <= NAME_BYTES_MAX);
        if let Some(error) = refusal.or((!nameable).then_some(GroupError::InvalidGroupId)) {
            return commands.push(Command::Reply(token, request.refuse(error)));
        }
        match request {
            Request::Join(request) => self.join(now, token, request, commands),
            Request::CommitOffsets(request) => self.commit_offsets(now, token, &request, commands),
            Request::FetchOffsets(request) => self.fetch_offsets(token, request, commands),
            Request::DeleteGroup(group_id) => self.delete_group(now, token, &group_id, commands),
            Request::ListGroups(request) => {
                commands.push(Command::Reply(token, Reply::ListGroups(Ok(self.list_groups(&request)))));
            }
            Request::DescribeGroup(group_id) => {
                let described = self.groups.get(&group_id).map(describe).ok_or(GroupError::GroupIdNotFound);
                commands.push(Command::Reply(token, Reply::DescribeGroup(described)));
            }
            Request::Sync(ref sync) => match self.groups.get_mut(&sync.group_id) {
                Some(group) => group.sync(token, sync.clone(), &mut step!(self, now, commands)),
                None => refuse_unknown(token, &request, commands),
            },
            Request::Heartbeat(ref heartbeat) => match self.groups.get_mut(&heartbeat.group_id) {
                Some(group) => {
                    let result = group.heartbeat(heartbeat, &mut step!(self, now, commands));
                    commands.push(Command::Reply(token, Reply::Heartbeat(result)));
                }
                None => refuse_unknown(token, &request, commands),
            },
            Request::Leave(ref leave) => match self.groups.get_mut(&leave.group_id) {
                Some(group) => group.leave(token, leave.clone(), &mut step!(self, now, commands)),
                None => refuse_unknown(token, &request, commands),
            },
            Request::DeleteOffsets(ref delete) => match self.groups.get_mut(&delete.group_id) {
                Some(group) => group.delete_offsets(token, delete, &mut step!(self, now, commands)),
                None => refuse_unknown(token, &request, commands),
            },
        }
    }

    fn join(&mut self, now: Now, token: Token, request: JoinGroup, commands: &mut Vec<Command>) {
        if let Err(error) = self.validate_join(&request) {
            return commands.push(Command::Reply(token, Request::Join(request).refuse(error)));
        }
        let group_id = request.group_id.clone();
        let group = match self.groups.entry(group_id.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(ClassicGroup::new(group_id.clone(), now.wall_ms)),
        };
        group.join(token, request, &mut step!(self, now, commands));
        self.drop_if_blank(&group_id);
    }

    fn validate_join(&self, request: &JoinGroup) -> Result<(), GroupError> {
        let allowed = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let bytes: usize = request.protocols.iter().map(Protocol::bytes).sum();
        let instance_id = request.group_instance_id.as_ref().map_or("", |id| id.as_str());
        let names = [&*request.client_id, &*request.client_host, instance_id, &*request.protocol_type];
        let names = names.into_iter().chain(request.protocols.iter().map(|protocol| &*protocol.name));
        if bytes > MEMBER_PROTOCOLS_BYTES_MAX || names.into_iter().any(|name| name.len() > NAME_BYTES_MAX) {
            return Err(GroupError::InvalidRequest);
        }
        if !self.groups.contains_key(&request.group_id) {
            if !request.member_id.is_empty() {
                return Err(GroupError::UnknownMemberId);
            }
            if self.groups.len() >= GROUPS_MAX {
                return Err(GroupError::CoordinatorNotAvailable);
            }
        }
        Ok(())
    }

    fn commit_offsets(
        &mut self,
        now: Now,
        token: Token,
        request: &CommitOffsets,
        commands: &mut Vec<Command>,
    ) {
        let new_group = !self.groups.contains_key(&request.group_id);
        let refusal = if self.writes.are_full() {
            Some(GroupError::CoordinatorNotAvailable)
        } else if !new_group {
            None
        } else if request.generation_id.0 >= 0 {
            Some(match request.knows_group_id_not_found {
                true => GroupError::GroupIdNotFound,
                false => GroupError::IllegalGeneration,
            })
        } else if self.groups.len() >= GROUPS_MAX {
            Some(GroupError::CoordinatorNotAvailable)
        } else {
            None
        };
        if let Some(error) = refusal {
            return commands.push(Command::Reply(token, Reply::CommitOffsets(Err(error))));
        }
        // A group of someone who only keeps offsets here has no members and no protocol type.
        let fresh = || ClassicGroup::new(request.group_id.clone(), now.wall_ms);
        let group = self.groups.entry(request.group_id.clone()).or_insert_with(fresh);
        group.commit_offsets(token, request, &mut step!(self, now, commands));
        self.drop_if_blank(&request.group_id);
    }

    fn fetch_offsets(&mut self, token: Token, request: FetchOffsets, commands: &mut Vec<Command>) {
        if request.require_stable && self.writes.has_pending(&request.group_id) {
            let group_id = request.group_id.clone();
            let completion = Completion::Fetch(token, request);
            return self.writes.push(Write { group_id, records: Vec::new(), completion });
        }
        let topics = self.look_up(&request);
        commands.push(Command::Reply(token, Reply::FetchOffsets(Ok(topics))));
    }

    fn look_up(&self, request: &FetchOffsets) -> Vec<super::FetchedTopic> {
        match self.groups.get(&request.group_id).filter(|group| group.state() != GroupState::Dead) {
            Some(group) => group.fetch_offsets(request),
            None => ClassicGroup::new(request.group_id.clone(), 0).fetch_offsets(request),
        }
    }

    fn delete_group(&mut self, now: Now, token: Token, group_id: &GroupId, commands: &mut Vec<Command>) {
        let refusal = match self.groups.get(group_id).map(ClassicGroup::state) {
            None | Some(GroupState::Dead) => GroupError::GroupIdNotFound,
            Some(GroupState::Empty) => return self.bury(now, group_id, Some(token)),
            Some(_) => GroupError::NonEmptyGroup,
        };
        commands.push(Command::Reply(token, Reply::DeleteGroup(Err(refusal))));
    }

    /// Marks the empty group as dead, so that nothing is added to it, and deletes it once the commits that
    /// came before are decided.
    fn bury(&mut self, now: Now, group_id: &GroupId, token: Option<Token>) {
        let group = self.groups.get_mut(group_id).expect("the deleted group exists");
        group.transition_to(GroupState::Dead, now.wall_ms);
        let completion = Completion::Delete(token);
        self.writes.push(Write { group_id: group_id.clone(), records: Vec::new(), completion });
    }

    fn list_groups(&self, request: &ListGroups) -> Vec<ListedGroup> {
        self.groups
            .values()
            .filter(|group| request.states.contains(&group.state()))
            .map(|group| ListedGroup {
                group_id: group.id.clone(),
                protocol_type: group.protocol_type().cloned(),
                state: group.state(),
            })
            .collect()
    }

    fn replay(&mut self, now: Now, records: Vec<GroupRecord>) {
        assert_eq!(self.phase, Phase::Loading, "records are replayed before the shard is loaded");
        for record in records {
            match record {
                GroupRecord::GroupMetadata { group_id, value } => self.replay_group(now, group_id, value),
                offset @ GroupRecord::OffsetCommit { .. } => self.apply_offset(now, offset),
            }
        }
    }

    fn replay_group(&mut self, now: Now, group_id: GroupId, value: Option<GroupMetadata>) {
        let offsets = self.groups.remove(&group_id).map_or_else(Offsets::default, |group| group.offsets);
        let group = match value {
            Some(metadata) => ClassicGroup::restore(group_id.clone(), metadata, offsets),
            None if offsets.is_empty() => return,
            None => {
                let mut group = ClassicGroup::new(group_id.clone(), now.wall_ms);
                group.offsets = offsets;
                group
            }
        };
        self.groups.insert(group_id, group);
    }

    fn apply_offset(&mut self, now: Now, record: GroupRecord) {
        let GroupRecord::OffsetCommit { key, value } = record else { return };
        match value {
            Some(offset) => {
                let fresh = || ClassicGroup::new(key.group_id.clone(), now.wall_ms);
                let group = self.groups.entry(key.group_id.clone()).or_insert_with(fresh);
                group.offsets.put(key.topic, key.partition, offset);
            }
            None => {
                if let Some(group) = self.groups.get_mut(&key.group_id) {
                    group.offsets.remove(&key.topic, key.partition);
                }
            }
        }
    }

    fn loaded(&mut self, now: Now, commands: &mut Vec<Command>) {
        assert_eq!(self.phase, Phase::Loading, "a shard is loaded once");
        self.phase = Phase::Active;
        let step = &mut step!(self, now, commands);
        step.set_timer(TimerKey::ExpireOffsets, step.config.offsets_retention_check_interval);
        for group in self.groups.values_mut() {
            for member_id in group.member_ids() {
                group.reset_session(&member_id, step);
            }
            if group.members().len() > step.config.max_size {
                let emptied = group.prepare_rebalance("the group is larger than it may be", step);
                group.write_if_emptied(emptied, step);
            }
        }
    }

    /// Starts the next append, and settles what waits for nothing but its turn.
    fn append_next(&mut self, now: Now, commands: &mut Vec<Command>) {
        while let Some(write) = self.writes.pop_decided() {
            self.complete(now, write, Ok(()), commands);
        }
        if let Some(records) = self.writes.begin_append() {
            commands.push(Command::Append(records));
        }
    }

    fn appended(&mut self, now: Now, result: Result<(), AppendError>, commands: &mut Vec<Command>) {
        if self.phase == Phase::Unloaded {
            // Everyone who waited for it has been told to look elsewhere.
            return;
        }
        if let Err(error) = result {
            tracing::warn!(%error, "failed to append to the offsets topic");
        }
        for write in self.writes.end_append() {
            self.complete(now, write, result, commands);
        }
    }

    fn complete(
        &mut self,
        now: Now,
        write: Write,
        result: Result<(), AppendError>,
        commands: &mut Vec<Command>,
    ) {
        let Write { group_id, records, completion } = write;
        if result.is_ok() {
            records.into_iter().for_each(|record| self.apply_offset(now, record));
        }
        match (completion, result) {
            (Completion::Assignment { generation_id, assignment }, result) => {
                if let Some(group) = self.groups.get_mut(&group_id) {
                    let step = &mut step!(self, now, commands);
                    group.assignment_written(generation_id, assignment, result, step);
                }
            }
            (Completion::StaticMember(replaced), result) => {
                if let Some(group) = self.groups.get_mut(&group_id) {
                    group.static_member_written(*replaced, result, &mut step!(self, now, commands));
                }
            }
            (Completion::Nothing, _) => {}
            (Completion::Reply(token, reply), Ok(())) => commands.push(Command::Reply(token, reply)),
            (Completion::Fetch(token, request), Ok(())) => {
                let topics = self.look_up(&request);
                commands.push(Command::Reply(token, Reply::FetchOffsets(Ok(topics))));
            }
            (Completion::Delete(token), Ok(())) => {
                let records = self.groups.get(&group_id).expect("a dead group stays until it is deleted");
                let records = records.tombstones();
                self.writes.push(Write { group_id, records, completion: Completion::Deleted(token) });
                return;
            }
            (Completion::Deleted(token), Ok(())) => {
                self.remove_group(now, &group_id, commands);
                if let Some(token) = token {
                    commands.push(Command::Reply(token, Reply::DeleteGroup(Ok(()))));
                }
            }
            (completion @ (Completion::Delete(_) | Completion::Deleted(_)), Err(error)) => {
                if let Some(group) = self.groups.get_mut(&group_id) {
                    group.transition_to(GroupState::Empty, now.wall_ms);
                }
                commands.extend(
                    completion.into_refusal(error).map(|(token, reply)| Command::Reply(token, reply)),
                );
            }
            (completion, Err(error)) => {
                commands.extend(
                    completion.into_refusal(error).map(|(token, reply)| Command::Reply(token, reply)),
                );
            }
        }
        self.drop_if_blank(&group_id);
    }

    fn remove_group(&mut self, now: Now, group_id: &GroupId, commands: &mut Vec<Command>) {
        if let Some(mut group) = self.groups.remove(group_id) {
            assert_eq!(group.state(), GroupState::Dead, "only a dead group is removed");
            group.clear_pending(&mut step!(self, now, commands));
        }
    }

    /// Forgets a group that never came to hold anything: a join that was refused, a commit that failed.
    fn drop_if_blank(&mut self, group_id: &GroupId) {
        if self.groups.get(group_id).is_some_and(ClassicGroup::is_blank) && !self.writes.has_pending(group_id)
        {
            self.groups.remove(group_id);
        }
    }

    fn tick(&mut self, now: Now, commands: &mut Vec<Command>) {
        while let Some(key) = self.timers.pop_due(now.monotonic) {
            match key {
                TimerKey::Session(group_id, member_id) => {
                    self.fire(now, commands, &group_id, |group, step| {
                        group.session_expired(&member_id, step)
                    });
                    self.drop_if_blank(&group_id);
                }
                TimerKey::Join(group_id) => {
                    self.fire(now, commands, &group_id, ClassicGroup::join_timer_fired);
                }
                TimerKey::Sync(group_id) => {
                    self.fire(now, commands, &group_id, ClassicGroup::sync_timer_fired);
                }
                TimerKey::ExpireOffsets => self.expire_offsets(now, commands),
            }
        }
    }

    fn fire(
        &mut self,
        now: Now,
        commands: &mut Vec<Command>,
        group_id: &GroupId,
        handle: impl FnOnce(&mut ClassicGroup, &mut Step<'_>) -> Option<GroupRecord>,
    ) {
        let group = self.groups.get_mut(group_id).expect("a group's timers are cancelled when it goes");
        let step = &mut step!(self, now, commands);
        let emptied = handle(group, step);
        group.write_if_emptied(emptied, step);
    }

    /// Deletes the offsets whose time has come, and the groups that have nothing left.
    fn expire_offsets(&mut self, now: Now, commands: &mut Vec<Command>) {
        let mut buried = Vec::new();
        let step = &mut step!(self, now, commands);
        step.set_timer(TimerKey::ExpireOffsets, step.config.offsets_retention_check_interval);
        for group in self.groups.values() {
            // What is on its way could be newer than what looks expired: next time.
            if group.state() == GroupState::Dead || step.writes.has_pending(&group.id) {
                continue;
            }
            let tombstones = group.expired_offsets(step);
            let empties = tombstones.len() == group.offsets.iter().count();
            if empties && group.state() == GroupState::Empty && group.pending_member_count() == 0 {
                buried.push(group.id.clone());
            } else if !tombstones.is_empty() {
                tracing::debug!(group = %group.id, count = tombstones.len(), "offsets have expired");
                step.write(&group.id, tombstones, Completion::Nothing);
            }
        }
        for group_id in buried {
            self.bury(now, &group_id, None);
        }
    }

    fn topics_deleted(&mut self, now: Now, topics: &[(TopicName, TopicId)], commands: &mut Vec<Command>) {
        if self.phase != Phase::Active {
            return;
        }
        let step = &mut step!(self, now, commands);
        for group in self.groups.values().filter(|group| group.state() != GroupState::Dead) {
            let tombstones: Vec<_> =
                topics.iter().flat_map(|(topic, topic_id)| group.forget_topic(topic, *topic_id)).collect();
            if !tombstones.is_empty() {
                step.write(&group.id, tombstones, Completion::Nothing);
            }
        }
    }

    fn unload(&mut self, commands: &mut Vec<Command>) {
        self.phase = Phase::Unloaded;
        for write in self.writes.drain() {
            let refusal = write.completion.into_refusal(AppendError::NotLeader);
            commands.extend(refusal.map(|(token, reply)| Command::Reply(token, reply)));
        }
        for (_, group) in self.groups.drain() {
            group.dismiss(GroupError::NotCoordinator, commands);
        }
        self.timers = Timers::new();
    }
}

/// What a member of a group that does not exist is told.
fn refuse_unknown(token: Token, request: &Request, commands: &mut Vec<Command>) {
    let reply = match request {
        Request::Leave(leave) => {
            let unknown = |member: &super::LeavingMember| MemberLeft {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                result: Err(GroupError::UnknownMemberId),
            };
            Reply::Leave(Ok(leave.members.iter().map(unknown).collect()))
        }
        Request::DeleteOffsets(_) => request.refuse(GroupError::GroupIdNotFound),
        _ => request.refuse(GroupError::UnknownMemberId),
    };
    commands.push(Command::Reply(token, reply));
}

fn describe(group: &ClassicGroup) -> GroupDescription {
    // Metadata and assignments mean something only together, in a stable generation.
    let protocol_name = group.protocol_name().filter(|_| group.state() == GroupState::Stable);
    GroupDescription {
        state: group.state(),
        protocol_type: group.protocol_type().cloned(),
        protocol_name: protocol_name.cloned(),
        members: group.members().map(|member| member.describe(protocol_name.map(|name| &**name))).collect(),
    }
}
