//! The image as rows: what the store keeps, one by one, and what a snapshot is a run of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::delta::RowKey;
use super::image::{
    BrokerImage, ClusterId, Document, MemberImage, MetadataImage, PartitionImage, TopicImage,
};
use super::views::ViewImage;
use crate::codec::Encoded;
use crate::config::TopicConfigs;
use crate::ids::{BrokerId, PartitionIndex, TopicId, TopicName};

/// One row. Its key follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Row {
    Cluster {
        next_broker_epoch: i64,
        next_producer_id: i64,
        next_document_version: u64,
    },
    Broker(BrokerImage),
    BrokerConfig {
        broker: Option<BrokerId>,
        configs: BTreeMap<String, String>,
    },
    Topic {
        id: TopicId,
        name: TopicName,
        configs: TopicConfigs,
    },
    Partition {
        topic_id: TopicId,
        index: PartitionIndex,
        partition: PartitionImage,
    },
    Document {
        kind: String,
        name: String,
        version: u64,
        #[serde(with = "crate::codec::bytes")]
        bytes: Vec<u8>,
    },
    View(ViewImage),
    Member(MemberImage),
}

impl Encoded for Row {
    const KIND: u8 = 5;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("partition {index} of topic {topic_id} has no place")]
    Partition { topic_id: TopicId, index: PartitionIndex },
    #[error("topic {0} occurs twice")]
    Topic(TopicName),
    #[error("view {0} has no source, or occurs twice, or a topic has its name or id")]
    View(TopicName),
}

impl RowKey {
    /// Bytes that sort like the keys: the cluster first, topics before partitions, partitions by index.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Flipping the sign bit makes signed numbers sort as bytes.
        let signed = |n: i32| (n as u32 ^ 0x8000_0000).to_be_bytes();
        match self {
            Self::Cluster => vec![0],
            Self::Broker(id) => [&[1][..], &signed(id.0)].concat(),
            Self::BrokerConfig(None) => vec![2],
            Self::BrokerConfig(Some(id)) => [&[2][..], &signed(id.0)].concat(),
            Self::Topic(id) => [&[3][..], id.0.as_bytes()].concat(),
            Self::Partition(id, index) => [&[4][..], id.0.as_bytes(), &signed(index.0)].concat(),
            // A kind has at most 249 bytes, so its length fits the byte before it.
            Self::Document { kind, name } => {
                [&[5, kind.len() as u8][..], kind.as_bytes(), name.as_bytes()].concat()
            }
            Self::View(id) => [&[6][..], id.0.as_bytes()].concat(),
            Self::Member(id) => [&[7][..], &signed(id.0)].concat(),
        }
    }
}

impl MetadataImage {
    /// The row of a key, where the image still has it.
    pub(super) fn row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Cluster => Some(Row::Cluster {
                next_broker_epoch: self.next_broker_epoch,
                next_producer_id: self.next_producer_id,
                next_document_version: self.next_document_version,
            }),
            RowKey::Broker(id) => self.broker(*id).cloned().map(Row::Broker),
            RowKey::BrokerConfig(broker) => {
                let configs = self.broker_configs(*broker)?.clone();
                Some(Row::BrokerConfig { broker: *broker, configs })
            }
            RowKey::Topic(id) => {
                let topic = self.topic_by_id(*id)?;
                Some(Row::Topic { id: *id, name: topic.name.clone(), configs: (*topic.configs).clone() })
            }
            RowKey::Partition(topic_id, index) => {
                let partition = self.topic_by_id(*topic_id)?.partition(*index)?;
                Some(Row::Partition {
                    topic_id: *topic_id,
                    index: *index,
                    partition: partition.as_ref().clone(),
                })
            }
            RowKey::Document { kind, name } => {
                let document = self.document(kind, name)?;
                Some(Row::Document {
                    kind: kind.clone(),
                    name: name.clone(),
                    version: document.version,
                    bytes: document.bytes.to_vec(),
                })
            }
            RowKey::View(id) => self.view_by_id(*id).map(|view| Row::View(view.as_ref().clone())),
            RowKey::Member(id) => self.member(*id).cloned().map(Row::Member),
        }
    }

    /// Every key, in the order of `RowKey::to_bytes`.
    pub(super) fn row_keys(&self) -> impl Iterator<Item = RowKey> {
        let mut topics: Vec<_> = self.topics().cloned().collect();
        topics.sort_unstable_by_key(|topic| topic.id);
        let partitions: Vec<_> = topics.iter().map(|topic| (topic.id, topic.partition_count())).collect();
        let mut documents: Vec<(String, String)> = Vec::new();
        for (kind, named) in self.documents.iter() {
            documents.extend(named.keys().map(|name| (kind.clone(), name.clone())));
        }
        documents.sort_unstable_by(|a, b| (a.0.len(), a).cmp(&(b.0.len(), b)));
        std::iter::once(RowKey::Cluster)
            .chain(self.brokers.keys().copied().map(RowKey::Broker))
            .chain(self.broker_configs.keys().copied().map(RowKey::BrokerConfig))
            .chain(topics.into_iter().map(|topic| RowKey::Topic(topic.id)))
            .chain(partitions.into_iter().flat_map(|(id, count)| {
                (0..count).map(move |index| RowKey::Partition(id, PartitionIndex(index)))
            }))
            .chain(documents.into_iter().map(|(kind, name)| RowKey::Document { kind, name }))
            .chain(self.views().map(|view| RowKey::View(view.id)))
            .chain(self.members.keys().copied().map(RowKey::Member))
    }
}

/// Puts an image together from rows in the order of their keys.
#[derive(Debug)]
pub(super) struct ImageBuilder {
    image: MetadataImage,
    topics: BTreeMap<TopicId, TopicImage>,
}

impl ImageBuilder {
    pub(super) fn of_cluster(cluster_id: ClusterId) -> Self {
        Self { image: MetadataImage::of_cluster(cluster_id), topics: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, row: Row) -> Result<(), RowError> {
        match row {
            Row::Cluster { next_broker_epoch, next_producer_id, next_document_version } => {
                self.image.next_broker_epoch = next_broker_epoch;
                self.image.next_producer_id = next_producer_id;
                self.image.next_document_version = next_document_version;
            }
            Row::Broker(broker) => {
                Arc::make_mut(&mut self.image.brokers).insert(broker.id, broker);
            }
            Row::BrokerConfig { broker, configs } => {
                Arc::make_mut(&mut self.image.broker_configs).insert(broker, configs);
            }
            Row::Topic { id, name, configs } => {
                if self.image.topic_ids.get(&name).is_some() || self.topics.contains_key(&id) {
                    return Err(RowError::Topic(name));
                }
                self.image.topic_ids.insert(name.clone(), id);
                let configs = Arc::new(configs);
                self.topics.insert(id, TopicImage { id, name, partitions: Vec::new(), configs });
            }
            Row::Partition { topic_id, index, mut partition } => {
                let topic = self.topics.get_mut(&topic_id);
                let topic = topic.filter(|topic| topic.partition_count() == index.0);
                let topic = topic.ok_or(RowError::Partition { topic_id, index })?;
                if partition.isr == partition.replicas {
                    // As after CreateTopic: one list in memory, not two.
                    partition.isr = partition.replicas.clone();
                }
                topic.partitions.push(Arc::new(partition));
                self.image.partition_count += 1;
            }
            Row::Document { kind, name, version, bytes } => {
                let document = Document { version, bytes: bytes.into() };
                let documents = Arc::make_mut(&mut self.image.documents);
                documents.entry(kind).or_default().insert(name, document);
            }
            Row::View(view) => {
                let is_free = self.image.topic_ids.get(&view.name).is_none()
                    && self.image.view(view.name.as_str()).is_none()
                    && !self.topics.contains_key(&view.id)
                    && self.image.view_by_id(view.id).is_none();
                if !is_free || !self.topics.contains_key(&view.source_id) {
                    return Err(RowError::View(view.name));
                }
                Arc::make_mut(&mut self.image.views).insert(view);
            }
            Row::Member(member) => {
                Arc::make_mut(&mut self.image.members).insert(member.id, member);
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> MetadataImage {
        for (id, topic) in self.topics {
            self.image.topics.insert(id, Arc::new(topic));
        }
        self.image
    }
}
