//! Static members (KIP-345): one that comes back takes its place again, without a rebalance where it can.

use super::classic_group::ClassicGroup;
use super::member::MemberTimeouts;
use super::step::Step;
use super::writes::Completion;
use super::{
    AppendError, GenerationId, GroupState, JoinGroup, JoinRefused, Joined, MemberId, Protocol, Token,
};

/// A replacement that waits to be durable, with what it takes to undo it.
#[derive(Debug)]
pub(super) struct ReplacedMember {
    old_id: MemberId,
    new_id: MemberId,
    generation_id: GenerationId,
    /// Who led when the member came back: clients from before KIP-814 are told this one, so that a leader
    /// with a new id takes itself for a follower and leaves the assignment alone.
    leader: Option<MemberId>,
    supports_skipping_assignment: bool,
    old_protocols: Vec<Protocol>,
    old_timeouts: MemberTimeouts,
}

impl ClassicGroup {
    /// The static member has lost its id (its process was restarted) and joins under a new one.
    pub(super) fn rejoin_static_member(
        &mut self,
        token: Token,
        request: JoinGroup,
        old_id: MemberId,
        new_id: MemberId,
        step: &mut Step<'_>,
    ) {
        let member = self.member(&old_id).expect("a static member's id is a member's");
        let replaced = ReplacedMember {
            old_id: old_id.clone(),
            new_id: new_id.clone(),
            generation_id: self.generation_id(),
            leader: self.leader().cloned(),
            supports_skipping_assignment: request.supports_skipping_assignment,
            old_protocols: member.protocols.clone(),
            old_timeouts: member.timeouts,
        };
        self.replace_member(&old_id, new_id.clone(), step);
        let timeouts = MemberTimeouts {
            session_ms: request.session_timeout_ms,
            rebalance_ms: request.rebalance_timeout_ms,
        };
        self.update_member(&new_id, request.protocols, timeouts);
        self.park_join(&new_id, token, step);
        self.reset_session(&new_id, step);
        let emptied = match self.state() {
            GroupState::Stable if self.protocol_name() == Some(&self.select_protocol()) => {
                let record = self.as_record(|member| member.assignment.clone());
                step.write(&self.id, vec![record], Completion::StaticMember(Box::new(replaced)));
                None
            }
            GroupState::Stable => self.prepare_rebalance("a static member changes the protocol", step),
            // The leader may be assigning to the old id: have it begin again.
            GroupState::CompletingRebalance => self.prepare_rebalance("a static member comes back", step),
            _ => self.maybe_complete_join(step),
        };
        self.write_if_emptied(emptied, step);
    }

    /// The replacement is durable, or will never be. If a rebalance has begun meanwhile, the member takes
    /// part in it, and is answered by it.
    pub(super) fn static_member_written(
        &mut self,
        replaced: ReplacedMember,
        result: Result<(), AppendError>,
        step: &mut Step<'_>,
    ) {
        let waits = self.state() == GroupState::Stable
            && self.generation_id() == replaced.generation_id
            && self.member(&replaced.new_id).is_some_and(|member| member.awaiting_join.is_some());
        if !waits {
            return;
        }
        match result {
            Ok(()) => {
                let joined = self.static_member_joined(&replaced);
                self.answer_join(&replaced.new_id, Ok(joined), step);
                self.reset_session(&replaced.new_id, step);
            }
            Err(error) => {
                let refused = JoinRefused { error: error.for_group(), member_id: MemberId::unknown() };
                self.answer_join(&replaced.new_id, Err(refused), step);
                self.update_member(&replaced.new_id, replaced.old_protocols, replaced.old_timeouts);
                self.replace_member(&replaced.new_id, replaced.old_id.clone(), step);
                self.reset_session(&replaced.old_id, step);
            }
        }
    }

    fn static_member_joined(&self, replaced: &ReplacedMember) -> Joined {
        let leads = self.is_leader(&replaced.new_id);
        let mut joined = self.joined(&replaced.new_id, leads && replaced.supports_skipping_assignment);
        if !replaced.supports_skipping_assignment {
            joined.members.clear();
            if let Some(leader) = &replaced.leader {
                joined.leader = leader.clone();
            }
        }
        joined
    }
}
