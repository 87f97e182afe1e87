//! The offsets a group has committed, as far as they are durable.

use std::collections::{BTreeMap, HashMap};

use crate::ids::{PartitionIndex, TopicId, TopicName};

use super::CommittedOffset;

#[derive(Debug, Default)]
pub(super) struct Offsets {
    by_topic: HashMap<TopicName, BTreeMap<PartitionIndex, CommittedOffset>>,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(super) fn put(&mut self, topic: TopicName, partition: PartitionIndex, offset: CommittedOffset) {
        self.by_topic.entry(topic).or_default().insert(partition, offset);
    }

    pub(super) fn remove(&mut self, topic: &TopicName, partition: PartitionIndex) {
        if let Some(partitions) = self.by_topic.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }

    pub(super) fn get(&self, topic: &TopicName, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.by_topic.get(topic)?.get(&partition)
    }

    /// The offset, unless it was committed for another topic that had the same name.
    pub(super) fn get_for(
        &self,
        topic: &TopicName,
        topic_id: Option<TopicId>,
        partition: PartitionIndex,
    ) -> Option<&CommittedOffset> {
        self.get(topic, partition).filter(|offset| match (offset.topic_id, topic_id) {
            (Some(committed), Some(asked)) => committed == asked,
            _ => true,
        })
    }

    pub(super) fn topics(
        &self,
    ) -> impl Iterator<Item = (&TopicName, &BTreeMap<PartitionIndex, CommittedOffset>)> {
        self.by_topic.iter()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicName, PartitionIndex, &CommittedOffset)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic, *partition, offset))
        })
    }
}
