//! Offsets: commit, fetch, delete, expire.

use super::classic_group::ClassicGroup;
use super::config::NAME_BYTES_MAX;
use super::step::Step;
use super::writes::Completion;
use super::{
    CommitOffsets, CommittedOffset, DeleteOffsets, FetchOffsets, FetchedTopic, GroupError, GroupRecord,
    GroupState, OffsetKey, Reply, Token,
};
use crate::ids::{PartitionIndex, TopicId, TopicName};

impl ClassicGroup {
    /// The offsets become visible, and the commit is answered, once they are durable.
    pub(super) fn commit_offsets(&self, token: Token, request: &CommitOffsets, step: &mut Step<'_>) {
        if let Err(error) = self.validate_commit(request) {
            return step.reply(token, Reply::CommitOffsets(Err(error)));
        }
        // A member that commits is alive.
        if matches!(self.state(), GroupState::Stable | GroupState::PreparingRebalance) {
            self.reset_session(&request.member_id, step);
        }
        let now_ms = step.now.wall_ms;
        let expire_timestamp_ms = request.retention_time_ms.map(|retention| now_ms.saturating_add(retention));
        let mut records = Vec::with_capacity(request.offsets.len());
        let mut results = Vec::with_capacity(request.offsets.len());
        for offset in &request.offsets {
            if offset.metadata.len() > step.config.offset_metadata_max_bytes.min(NAME_BYTES_MAX) {
                results.push(Err(GroupError::OffsetMetadataTooLarge));
                continue;
            }
            let value = CommittedOffset {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
                commit_timestamp_ms: now_ms,
                expire_timestamp_ms,
                topic_id: offset.topic_id,
            };
            let key = self.offset_key(&offset.topic, offset.partition);
            records.push(GroupRecord::OffsetCommit { key, value: Some(value) });
            results.push(Ok(()));
        }
        let reply = Reply::CommitOffsets(Ok(results));
        if records.is_empty() {
            step.reply(token, reply);
        } else {
            step.write(&self.id, records, Completion::Reply(token, reply));
        }
    }

    fn validate_commit(&self, request: &CommitOffsets) -> Result<(), GroupError> {
        if self.state() == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let outsider = request.generation_id.0 < 0;
        if outsider && self.state() == GroupState::Empty {
            // A client that assigns its partitions itself, or an administrator.
            return Ok(());
        }
        let nameless = request.member_id.is_empty() && request.group_instance_id.is_none();
        if outsider && nameless {
            return Err(GroupError::UnknownMemberId);
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation_id() {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state() == GroupState::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    pub(super) fn fetch_offsets(&self, request: &FetchOffsets) -> Vec<FetchedTopic> {
        let found = |topic: &TopicName, topic_id, partition| {
            self.offsets.get_for(topic, topic_id, partition).cloned()
        };
        match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|asked| FetchedTopic {
                    topic: asked.topic.clone(),
                    partitions: asked
                        .partitions
                        .iter()
                        .map(|partition| (*partition, found(&asked.topic, asked.topic_id, *partition)))
                        .collect(),
                })
                .collect(),
            None => self
                .offsets
                .topics()
                .map(|(topic, partitions)| FetchedTopic {
                    topic: topic.clone(),
                    partitions: partitions.iter().map(|(at, offset)| (*at, Some(offset.clone()))).collect(),
                })
                .collect(),
        }
    }

    pub(super) fn delete_offsets(&self, token: Token, request: &DeleteOffsets, step: &mut Step<'_>) {
        let refusal = match self.state() {
            GroupState::Dead => Some(GroupError::GroupIdNotFound),
            GroupState::Empty => None,
            // Which topics the members of other protocols depend on can't be known.
            _ if self.is_consumer_group() => None,
            _ => Some(GroupError::NonEmptyGroup),
        };
        if let Some(error) = refusal {
            return step.reply(token, Reply::DeleteOffsets(Err(error)));
        }
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(request.partitions.len());
        for at in &request.partitions {
            if self.is_subscribed_to(at.topic.as_str()) {
                results.push(Err(GroupError::GroupSubscribedToTopic));
                continue;
            }
            // A commit on its way may be what there is to delete; a tombstone too many does no harm.
            if self.offsets.get(&at.topic, at.partition).is_some() || step.writes.has_pending(&self.id) {
                records.push(self.offset_tombstone(&at.topic, at.partition));
            }
            results.push(Ok(()));
        }
        let reply = Reply::DeleteOffsets(Ok(results));
        if records.is_empty() {
            step.reply(token, reply);
        } else {
            step.write(&self.id, records, Completion::Reply(token, reply));
        }
    }

    /// Tombstones for the offsets that were committed to a topic that is no more.
    pub(super) fn forget_topic(&self, topic: &TopicName, topic_id: TopicId) -> Vec<GroupRecord> {
        self.offsets
            .iter()
            .filter(|(name, _, offset)| *name == topic && offset.topic_id.is_none_or(|id| id == topic_id))
            .map(|(name, partition, _)| self.offset_tombstone(name, partition))
            .collect()
    }

    /// Tombstones for the offsets whose time has come. Only to be asked while no commit is on its way.
    pub(super) fn expired_offsets(&self, step: &Step<'_>) -> Vec<GroupRecord> {
        self.offsets
            .iter()
            .filter(|(topic, _, offset)| {
                !self.is_subscribed_to(topic.as_str()) && self.has_expired(offset, step)
            })
            .map(|(topic, partition, _)| self.offset_tombstone(topic, partition))
            .collect()
    }

    fn has_expired(&self, offset: &CommittedOffset, step: &Step<'_>) -> bool {
        let since_ms = match self.state() {
            // Committed without membership: each offset by its own age.
            _ if self.protocol_type().is_none() => offset.commit_timestamp_ms,
            // The members have gone: all offsets by the age of that.
            GroupState::Empty => self.state_timestamp_ms().unwrap_or(offset.commit_timestamp_ms),
            // The members consume, but not this topic any more.
            GroupState::Stable if self.knows_subscribed_topics() => offset.commit_timestamp_ms,
            _ => return false,
        };
        let retention_ms = i64::try_from(step.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        match offset.expire_timestamp_ms {
            Some(expire_ms) => step.now.wall_ms >= expire_ms,
            None => step.now.wall_ms.saturating_sub(since_ms) >= retention_ms,
        }
    }

    /// Tombstones for all the group has, itself last.
    pub(super) fn tombstones(&self) -> Vec<GroupRecord> {
        let offsets =
            self.offsets.iter().map(|(topic, partition, _)| self.offset_tombstone(topic, partition));
        let group = GroupRecord::GroupMetadata { group_id: self.id.clone(), value: None };
        offsets.chain([group]).collect()
    }

    fn offset_tombstone(&self, topic: &TopicName, partition: PartitionIndex) -> GroupRecord {
        GroupRecord::OffsetCommit { key: self.offset_key(topic, partition), value: None }
    }

    fn offset_key(&self, topic: &TopicName, partition: PartitionIndex) -> OffsetKey {
        OffsetKey { group_id: self.id.clone(), topic: topic.clone(), partition }
    }
}
