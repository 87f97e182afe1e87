//! The rebalance: from the first change to the next generation, and what keeps its members alive.
//!
//! Functions that may empty the group return the record that says so; their caller writes it, together with
//! the answer that has to wait for it.

use std::time::Duration;

use bytes::Bytes;

use super::classic_group::{ClassicGroup, InitialRebalance};
use super::config::NEW_MEMBER_JOIN_TIMEOUT;
use super::step::{Step, TimerKey};
use super::writes::Completion;
use super::{GroupError, GroupRecord, GroupState, MemberId, Reply, Synced};

/// How soon at the earliest a join phase that nobody has joined is looked at again.
const REJOIN_WAIT_MIN: Duration = Duration::from_secs(1);

impl ClassicGroup {
    /// Asks everyone to join, or goes on if that is under way already and everyone has.
    #[must_use]
    pub(super) fn rebalance_or_complete_join(
        &mut self,
        reason: &str,
        step: &mut Step<'_>,
    ) -> Option<GroupRecord> {
        if self.state().can_rebalance() {
            self.prepare_rebalance(reason, step)
        } else {
            self.maybe_complete_join(step)
        }
    }

    #[must_use]
    pub(super) fn prepare_rebalance(&mut self, reason: &str, step: &mut Step<'_>) -> Option<GroupRecord> {
        if self.state() == GroupState::CompletingRebalance {
            self.reset_assignment(GroupError::RebalanceInProgress, step);
        }
        self.take_pending_sync();
        step.timers.cancel(&TimerKey::Sync(self.id.clone()));
        let was_empty = self.state() == GroupState::Empty;
        self.transition_to(GroupState::PreparingRebalance, step.now.wall_ms);
        let generation_id = self.generation_id();
        tracing::info!(group = %self.id, %generation_id, reason, "preparing to rebalance");
        if was_empty {
            let delay = step.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.initial_rebalance = Some(InitialRebalance { delay, remaining, member_added: false });
            step.set_timer(TimerKey::Join(self.id.clone()), delay);
            None
        } else if self.all_members_joined() {
            self.complete_join(step)
        } else {
            step.set_timer(TimerKey::Join(self.id.clone()), self.rebalance_timeout());
            None
        }
    }

    /// Completes the join phase if everyone is here, except the first one of an empty group: it takes its time.
    #[must_use]
    pub(super) fn maybe_complete_join(&mut self, step: &mut Step<'_>) -> Option<GroupRecord> {
        let ready = self.state() == GroupState::PreparingRebalance
            && self.all_members_joined()
            && self.initial_rebalance.is_none();
        if ready { self.complete_join(step) } else { None }
    }

    /// The join phase's time is up.
    #[must_use]
    pub(super) fn join_timer_fired(&mut self, step: &mut Step<'_>) -> Option<GroupRecord> {
        if self.state() != GroupState::PreparingRebalance {
            return None;
        }
        match &mut self.initial_rebalance {
            Some(initial) if initial.member_added && !initial.remaining.is_zero() => {
                let delay = step.config.initial_rebalance_delay.min(initial.remaining);
                initial.remaining = initial.remaining.saturating_sub(initial.delay);
                initial.delay = delay;
                initial.member_added = false;
                step.set_timer(TimerKey::Join(self.id.clone()), delay);
                None
            }
            _ => self.complete_join(step),
        }
    }

    /// Begins the next generation with those who have joined.
    #[must_use]
    pub(super) fn complete_join(&mut self, step: &mut Step<'_>) -> Option<GroupRecord> {
        step.timers.cancel(&TimerKey::Join(self.id.clone()));
        for member_id in self.dynamic_members_not_joined() {
            tracing::info!(group = %self.id, member = %member_id, "removing member that has not rejoined");
            self.remove_member(&member_id, step);
        }
        if !self.elect_joined_leader() && self.members().len() > 0 {
            // Only static members are left, none of them here: wait until they come or their sessions end.
            let wait = self.rebalance_timeout().max(REJOIN_WAIT_MIN);
            step.set_timer(TimerKey::Join(self.id.clone()), wait);
            return None;
        }
        self.begin_generation(step.now.wall_ms);
        if self.state() == GroupState::Empty {
            tracing::info!(group = %self.id, generation = %self.generation_id(), "group is now empty");
            return Some(self.as_record(|_| Bytes::new()));
        }
        for member_id in self.member_ids() {
            let joined = self.joined(&member_id, false);
            self.answer_join(&member_id, Ok(joined), step);
            self.reset_session(&member_id, step);
            self.enter_generation(&member_id);
        }
        step.set_timer(TimerKey::Sync(self.id.clone()), self.rebalance_timeout());
        None
    }

    /// Goes on without those who have not asked for their assignment in time.
    #[must_use]
    pub(super) fn sync_timer_fired(&mut self, step: &mut Step<'_>) -> Option<GroupRecord> {
        let in_generation = matches!(self.state(), GroupState::CompletingRebalance | GroupState::Stable);
        if !in_generation || self.all_members_synced() {
            return None;
        }
        for member_id in self.take_pending_sync() {
            tracing::info!(group = %self.id, member = %member_id, "removing member that has not synced");
            self.remove_member(&member_id, step);
        }
        self.prepare_rebalance("members have not synced in time", step)
    }

    /// A member has not been heard of for its session timeout.
    #[must_use]
    pub(super) fn session_expired(
        &mut self,
        member_id: &MemberId,
        step: &mut Step<'_>,
    ) -> Option<GroupRecord> {
        if self.is_pending(member_id) {
            self.remove_pending(member_id, step);
            return self.complete_join_if_all_here(step);
        }
        if self.member(member_id)?.satisfies_heartbeat() {
            return None;
        }
        tracing::info!(group = %self.id, member = %member_id, "removing member whose session has expired");
        self.remove_member(member_id, step);
        self.member_removed("a member's session has expired", step)
    }

    /// What follows from the removal of a member.
    #[must_use]
    pub(super) fn member_removed(&mut self, reason: &str, step: &mut Step<'_>) -> Option<GroupRecord> {
        match self.state() {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(reason, step),
            _ => self.complete_join_if_all_here(step),
        }
    }

    /// Unlike [`Self::maybe_complete_join`] this ends the first rebalance of an empty group too: the one it
    /// waited for will not come.
    #[must_use]
    fn complete_join_if_all_here(&mut self, step: &mut Step<'_>) -> Option<GroupRecord> {
        let ready = self.state() == GroupState::PreparingRebalance && self.all_members_joined();
        if ready { self.complete_join(step) } else { None }
    }

    /// Takes the unfinished generation's assignment back.
    pub(super) fn reset_assignment(&mut self, error: GroupError, step: &mut Step<'_>) {
        for member_id in self.member_ids() {
            self.set_assignment(&member_id, Bytes::new());
            if self.answer_sync(&member_id, Reply::Sync(Err(error)), step) {
                self.reset_session(&member_id, step);
            }
        }
    }

    /// Answers the parked syncs with the assignment that has become durable.
    pub(super) fn propagate_assignment(&mut self, step: &mut Step<'_>) {
        for member_id in self.member_ids() {
            let synced = self.synced_reply(&member_id);
            if self.answer_sync(&member_id, Reply::Sync(Ok(synced)), step) {
                self.reset_session(&member_id, step);
            }
        }
    }

    pub(super) fn synced_reply(&self, member_id: &MemberId) -> Synced {
        Synced {
            protocol_type: self.protocol_type().cloned(),
            protocol_name: self.protocol_name().cloned(),
            assignment: self.member(member_id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The member has been heard of.
    pub(super) fn reset_session(&self, member_id: &MemberId, step: &mut Step<'_>) {
        if let Some(member) = self.member(member_id) {
            let key = TimerKey::Session(self.id.clone(), member_id.clone());
            step.set_timer(key, member.timeouts.session());
        }
    }

    /// A new member can't send heartbeats while its join is parked, nor does a parked request show that its
    /// client is gone. So a parked join counts as alive for a fixed time; a client still there tries again.
    pub(super) fn begin_new_member_session(&self, member_id: &MemberId, step: &mut Step<'_>) {
        step.set_timer(TimerKey::Session(self.id.clone(), member_id.clone()), NEW_MEMBER_JOIN_TIMEOUT);
    }

    /// Writes the record of a group that has become empty; nobody waits for it.
    pub(super) fn write_if_emptied(&self, record: Option<GroupRecord>, step: &mut Step<'_>) {
        if let Some(record) = record {
            step.write(&self.id, vec![record], Completion::Nothing);
        }
    }
}
