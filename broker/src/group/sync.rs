//! SyncGroup: the leader brings the assignment, everyone gets its part once it is durable.

use std::collections::HashMap;

use bytes::Bytes;

use super::classic_group::ClassicGroup;
use super::step::{Step, TimerKey};
use super::writes::Completion;
use super::{AppendError, GenerationId, GroupError, GroupState, MemberId, Reply, SyncGroup, Token};

impl ClassicGroup {
    pub(super) fn sync(&mut self, token: Token, request: SyncGroup, step: &mut Step<'_>) {
        if let Err(error) = self.validate_sync(&request) {
            return step.reply(token, Reply::Sync(Err(error)));
        }
        let member_id = request.member_id;
        self.synced(&member_id);
        if self.all_members_synced() {
            step.timers.cancel(&TimerKey::Sync(self.id.clone()));
        }
        if self.state() == GroupState::Stable {
            let synced = self.synced_reply(&member_id);
            return step.reply(token, Reply::Sync(Ok(synced)));
        }
        self.park_sync(&member_id, token, step);
        if self.is_leader(&member_id) {
            let assignment: HashMap<MemberId, Bytes> = request.assignments.into_iter().collect();
            let record = self.as_record(|member| assignment.get(&member.id).cloned().unwrap_or_default());
            let completion = Completion::Assignment { generation_id: self.generation_id(), assignment };
            step.write(&self.id, vec![record], completion);
        }
    }

    fn validate_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        if self.state() == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation_id() {
            return Err(GroupError::IllegalGeneration);
        }
        // A client that names none (before SyncGroup v5) agrees with any.
        let differs = |named: &Option<_>, ours: Option<&_>| matches!((named, ours), (Some(named), Some(ours)) if named != ours);
        if differs(&request.protocol_type, self.protocol_type())
            || differs(&request.protocol_name, self.protocol_name())
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state() {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    /// The assignment is durable, or will never be. It may have been overtaken by another rebalance.
    pub(super) fn assignment_written(
        &mut self,
        generation_id: GenerationId,
        mut assignment: HashMap<MemberId, Bytes>,
        result: Result<(), AppendError>,
        step: &mut Step<'_>,
    ) {
        if self.state() != GroupState::CompletingRebalance || self.generation_id() != generation_id {
            return;
        }
        match result {
            Ok(()) => {
                for member_id in self.member_ids() {
                    self.set_assignment(&member_id, assignment.remove(&member_id).unwrap_or_default());
                }
                self.transition_to(GroupState::Stable, step.now.wall_ms);
                self.propagate_assignment(step);
            }
            Err(error) => {
                self.reset_assignment(error.for_group(), step);
                let emptied = self.prepare_rebalance("the assignment could not be written", step);
                self.write_if_emptied(emptied, step);
            }
        }
    }
}
