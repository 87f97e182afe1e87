//! JoinGroup: who may join, and what it sets off.

use super::classic_group::ClassicGroup;
use super::config::{GROUP_PROTOCOLS_BYTES_MAX, MEMBER_ID_PREFIX_BYTES_MAX, PENDING_MEMBERS_MAX};
use super::member::{Member, MemberTimeouts};
use super::step::{Step, TimerKey};
use super::{
    GroupError, GroupInstanceId, GroupState, JoinGroup, JoinRefused, MemberId, Protocol, Reply, Token,
};

impl JoinGroup {
    fn timeouts(&self) -> MemberTimeouts {
        MemberTimeouts { session_ms: self.session_timeout_ms, rebalance_ms: self.rebalance_timeout_ms }
    }

    fn new_member_id(&self) -> MemberId {
        let prefix = self.group_instance_id.as_ref().map_or(&*self.client_id, GroupInstanceId::as_str);
        let cut = prefix.floor_char_boundary(MEMBER_ID_PREFIX_BYTES_MAX);
        MemberId::new(&format!("{}-{}", &prefix[..cut], self.random))
    }
}

impl ClassicGroup {
    pub(super) fn join(&mut self, token: Token, mut request: JoinGroup, step: &mut Step<'_>) {
        // A protocol named twice counts once, as the first.
        let mut seen = std::collections::HashSet::new();
        request.protocols.retain(|protocol| seen.insert(protocol.name.clone()));
        if self.state() == GroupState::Dead {
            refuse(token, GroupError::CoordinatorNotAvailable, request.member_id, step);
        } else if !self.accepts(&request, step) {
            refuse(token, GroupError::GroupMaxSizeReached, MemberId::unknown(), step);
            self.shed(&request.member_id, step);
        } else if !self.supports_protocols(&request.protocol_type, &request.protocols) {
            refuse(token, GroupError::InconsistentGroupProtocol, request.member_id, step);
        } else if request.member_id.is_empty() {
            self.join_new_member(token, request, step);
        } else {
            self.join_known_member(token, request, step);
        }
    }

    /// Removes what the group has of a member that there is no room for.
    fn shed(&mut self, member_id: &MemberId, step: &mut Step<'_>) {
        self.remove_pending(member_id, step);
        if self.member(member_id).is_some() {
            self.remove_member(member_id, step);
            let emptied = self.member_removed("there is no room for a member", step);
            self.write_if_emptied(emptied, step);
        }
    }

    /// There is room for the member. During a rebalance it is those who have joined that count, so that a
    /// group above its size sheds the last to come.
    fn accepts(&self, request: &JoinGroup, step: &Step<'_>) -> bool {
        let member = self.member(&request.member_id);
        let bytes = |protocols: &[Protocol]| protocols.iter().map(Protocol::bytes).sum::<usize>();
        let others = self.protocols_bytes() - member.map_or(0, |member| bytes(&member.protocols));
        if others + bytes(&request.protocols) > GROUP_PROTOCOLS_BYTES_MAX {
            return false;
        }
        match self.state() {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join_count() < step.config.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members().len() < step.config.max_size
            }
        }
    }

    fn join_new_member(&mut self, token: Token, request: JoinGroup, step: &mut Step<'_>) {
        let member_id = request.new_member_id();
        if let Some(instance_id) = &request.group_instance_id {
            match self.static_member_id(instance_id).cloned() {
                Some(old_id) => self.rejoin_static_member(token, request, old_id, member_id, step),
                None => self.add_and_rebalance(token, &request, member_id, step),
            }
        } else if request.requires_known_member_id {
            if self.pending_member_count() >= PENDING_MEMBERS_MAX {
                return refuse(token, GroupError::GroupMaxSizeReached, MemberId::unknown(), step);
            }
            self.add_pending(member_id.clone());
            let key = TimerKey::Session(self.id.clone(), member_id.clone());
            step.set_timer(key, request.timeouts().session());
            refuse(token, GroupError::MemberIdRequired, member_id, step);
        } else {
            self.add_and_rebalance(token, &request, member_id, step);
        }
    }

    fn join_known_member(&mut self, token: Token, request: JoinGroup, step: &mut Step<'_>) {
        let member_id = request.member_id.clone();
        if self.is_pending(&member_id) && request.group_instance_id.is_none() {
            return self.add_and_rebalance(token, &request, member_id, step);
        }
        if let Err(error) = self.validate_member(&member_id, request.group_instance_id.as_ref()) {
            return refuse(token, error, member_id, step);
        }
        let unchanged = self.member(&member_id).is_some_and(|member| member.protocols == request.protocols);
        match self.state() {
            // The answer may have been lost, or the member follows and nothing has changed: it need only sync.
            GroupState::CompletingRebalance if unchanged => self.answer_again(token, &member_id, step),
            GroupState::Stable if unchanged && !self.is_leader(&member_id) => {
                self.answer_again(token, &member_id, step);
            }
            // A leader that joins again asks for a rebalance: it may have seen a change in the topics.
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(&member_id, request.protocols.clone(), request.timeouts());
                self.park_join(&member_id, token, step);
                let reason = request.reason.as_deref().unwrap_or("a member joins again");
                let emptied = self.rebalance_or_complete_join(reason, step);
                self.write_if_emptied(emptied, step);
            }
            GroupState::Empty | GroupState::Dead => {
                refuse(token, GroupError::UnknownMemberId, member_id, step);
            }
        }
    }

    fn answer_again(&self, token: Token, member_id: &MemberId, step: &mut Step<'_>) {
        let mut joined = self.joined(member_id, false);
        if self.state() == GroupState::Stable {
            joined.members.clear();
        }
        step.reply(token, Reply::Join(Ok(joined)));
    }

    fn add_and_rebalance(
        &mut self,
        token: Token,
        request: &JoinGroup,
        member_id: MemberId,
        step: &mut Step<'_>,
    ) {
        if let Some(initial) = &mut self.initial_rebalance {
            initial.member_added = true;
        }
        self.remove_pending(&member_id, step);
        self.add_member(Member::new(member_id.clone(), request), &request.protocol_type);
        self.park_join(&member_id, token, step);
        self.begin_new_member_session(&member_id, step);
        let reason = request.reason.as_deref().unwrap_or("a new member joins");
        let emptied = self.rebalance_or_complete_join(reason, step);
        self.write_if_emptied(emptied, step);
    }
}

fn refuse(token: Token, error: GroupError, member_id: MemberId, step: &mut Step<'_>) {
    step.reply(token, Reply::Join(Err(JoinRefused { error, member_id })));
}
