//! What changed: for the store, which rows; for readers, which topics.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::image::{MetadataImage, TopicImage};
use crate::ids::{BrokerId, PartitionIndex, TopicId};

/// A row of the store whose content follows from the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowKey {
    /// Counters.
    Cluster,
    Broker(BrokerId),
    Topic(TopicId),
    Partition(TopicId, PartitionIndex),
    BrokerConfig(Option<BrokerId>),
    Document {
        kind: String,
        name: String,
    },
    View(TopicId),
    Member(BrokerId),
}

/// The rows that a run of commands touched.
#[derive(Debug, Default)]
pub(super) struct MetadataDelta {
    pub(super) rows: BTreeSet<RowKey>,
}

/// The topics that differ between two images.
#[derive(Debug, Default)]
pub struct TopicsDelta {
    pub created: Vec<Arc<TopicImage>>,
    /// Before and after.
    pub changed: Vec<(Arc<TopicImage>, Arc<TopicImage>)>,
    pub deleted: Vec<Arc<TopicImage>>,
}

impl TopicsDelta {
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }
}

impl MetadataImage {
    /// What happened to topics since `old`. Costs as much as was touched, not as much as there is.
    pub fn topics_delta(&self, old: &MetadataImage) -> TopicsDelta {
        let mut delta = TopicsDelta::default();
        for (now, before) in self.topics.unshared(&old.topics) {
            for (id, topic) in now {
                match before.get(id) {
                    None => delta.created.push(topic.clone()),
                    Some(old) if !Arc::ptr_eq(old, topic) => delta.changed.push((old.clone(), topic.clone())),
                    Some(_) => {}
                }
            }
            delta
                .deleted
                .extend(before.iter().filter(|(id, _)| !now.contains_key(id)).map(|(_, t)| t.clone()));
        }
        delta
    }
}
