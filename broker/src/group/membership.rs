//! Heartbeat and LeaveGroup: a member says that it is alive, or that it goes.

use super::classic_group::ClassicGroup;
use super::step::Step;
use super::writes::Completion;
use super::{GroupError, GroupState, Heartbeat, LeaveGroup, LeavingMember, MemberLeft, Reply, Token};

impl ClassicGroup {
    pub(super) fn heartbeat(&self, request: &Heartbeat, step: &mut Step<'_>) -> Result<(), GroupError> {
        if self.state() == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation_id() {
            return Err(GroupError::IllegalGeneration);
        }
        self.reset_session(&request.member_id, step);
        match self.state() {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            // Members begin their heartbeats before they have their assignment.
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, token: Token, request: LeaveGroup, step: &mut Step<'_>) {
        if self.state() == GroupState::Dead {
            return step.reply(token, Reply::Leave(Err(GroupError::CoordinatorNotAvailable)));
        }
        let mut left = Vec::with_capacity(request.members.len());
        for member in request.members {
            let result = self.leave_one(&member, step);
            left.push(MemberLeft {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                result,
            });
        }
        let emptied = match self.state() {
            _ if left.iter().all(|member| member.result.is_err()) => None,
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance("members leave", step)
            }
            _ => self.maybe_complete_join(step),
        };
        let reply = Reply::Leave(Ok(left));
        match emptied {
            Some(record) => step.write(&self.id, vec![record], Completion::Reply(token, reply)),
            None => step.reply(token, reply),
        }
    }

    fn leave_one(&mut self, leaving: &LeavingMember, step: &mut Step<'_>) -> Result<(), GroupError> {
        let instance_id = leaving.group_instance_id.as_ref();
        if leaving.member_id.is_empty() {
            // An administrator removes a static member whatever its id is now.
            let current = instance_id.and_then(|instance_id| self.static_member_id(instance_id)).cloned();
            let member_id = current.ok_or(GroupError::UnknownMemberId)?;
            self.remove_member(&member_id, step);
        } else if self.is_pending(&leaving.member_id) {
            self.remove_pending(&leaving.member_id, step);
        } else {
            self.validate_member(&leaving.member_id, instance_id)?;
            self.remove_member(&leaving.member_id, step);
        }
        Ok(())
    }
}
