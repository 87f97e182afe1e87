//! The state that commands change and everyone reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::shared_map::SharedMap;
use super::views::Views;
use crate::config::TopicConfigs;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicName};

/// The cluster's identity, given once. Displayed as Kafka does: 22 characters of URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 22 digits of 6 bits hold 132 bits: the 128 of the id, from the top, and four zeros.
        for digit in 0..22 {
            let at_top = self.0.as_u128() << (6 * digit).min(126);
            let value = if digit == 21 { (self.0.as_u128() & 3) << 4 } else { at_top >> 122 };
            write!(f, "{}", char::from(ALPHABET[value as usize]))?;
        }
        Ok(())
    }
}

/// Counts registrations of brokers; a later one fences an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BrokerEpoch(pub i64);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerImage {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    /// Where clients reach it.
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// A broker, as the others know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberImage {
    pub id: BrokerId,
    /// Of its disk: a number that comes back with another one is another broker's.
    pub incarnation: Uuid,
    /// Where other brokers reach it.
    pub address: String,
}

/// Broker ids in an order that means something: the first replica is the preferred leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<BrokerId>", into = "Vec<BrokerId>")]
pub struct Replicas(Arc<[BrokerId]>);

impl From<Vec<BrokerId>> for Replicas {
    fn from(ids: Vec<BrokerId>) -> Self {
        Self(ids.into())
    }
}

impl From<Replicas> for Vec<BrokerId> {
    fn from(replicas: Replicas) -> Self {
        replicas.0.to_vec()
    }
}

impl std::ops::Deref for Replicas {
    type Target = [BrokerId];
    fn deref(&self) -> &[BrokerId] {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    pub leader: Option<BrokerId>,
    /// Goes up with every new leader.
    pub leader_epoch: LeaderEpoch,
    /// Goes up with every change.
    pub partition_epoch: i32,
    pub replicas: Replicas,
    pub isr: Replicas,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: TopicName,
    /// By index.
    pub partitions: Vec<Arc<PartitionImage>>,
    /// What the topic sets itself.
    pub configs: Arc<TopicConfigs>,
}

impl TopicImage {
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("apply bounds the partitions of a topic")
    }

    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<PartitionImage>)> {
        (0..).map(PartitionIndex).zip(&self.partitions)
    }

    pub fn is_internal(&self) -> bool {
        is_internal_topic(self.name.as_str())
    }
}

/// Kafka's internal topics carry two underscores and are known by name.
pub fn is_internal_topic(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state")
}

/// Bytes that the broker keeps for others and does not look into: pipelines, plugin versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// From a counter of the cluster's, so that a document deleted and put again has another one.
    pub version: u64,
    pub bytes: Arc<[u8]>,
}

/// The whole metadata at one moment. Copies share what they have in common.
#[derive(Debug, Clone, Default)]
pub struct MetadataImage {
    /// From this broker's own file, not from the log: it is there before any command, and every broker of a cluster
    /// has been given the same one.
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) next_broker_epoch: i64,
    pub(super) next_producer_id: i64,
    pub(super) next_document_version: u64,
    pub(super) members: Arc<BTreeMap<BrokerId, MemberImage>>,
    pub(super) brokers: Arc<BTreeMap<BrokerId, BrokerImage>>,
    pub(super) topics: SharedMap<TopicId, Arc<TopicImage>>,
    pub(super) topic_ids: SharedMap<TopicName, TopicId>,
    pub(super) partition_count: usize,
    pub(super) views: Arc<Views>,
    /// What is set for one broker, or under `None` for all.
    pub(super) broker_configs: Arc<BTreeMap<Option<BrokerId>, BTreeMap<String, String>>>,
    /// By kind, then name.
    pub(super) documents: Arc<BTreeMap<String, BTreeMap<String, Document>>>,
}

impl MetadataImage {
    /// The image of a cluster in which nothing has happened.
    pub fn of_cluster(cluster_id: ClusterId) -> Self {
        Self { cluster_id: Some(cluster_id), ..Self::default() }
    }

    /// What `Metadata` shows always has one.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id.expect("a cluster has its id before anyone sees its image")
    }

    /// Every broker of the cluster, also those that were never registered.
    pub fn members(&self) -> impl Iterator<Item = &MemberImage> {
        self.members.values()
    }

    pub fn member(&self, id: BrokerId) -> Option<&MemberImage> {
        self.members.get(&id)
    }

    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values()
    }

    pub fn broker(&self, id: BrokerId) -> Option<&BrokerImage> {
        self.brokers.get(&id)
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topic_by_id(*self.topic_ids.get(name)?)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// Every topic, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// What is set for one broker, or with `None` for all of them.
    pub fn broker_configs(&self, broker: Option<BrokerId>) -> Option<&BTreeMap<String, String>> {
        self.broker_configs.get(&broker)
    }

    pub fn document(&self, kind: &str, name: &str) -> Option<&Document> {
        self.documents.get(kind)?.get(name)
    }

    /// Every document of a kind, by name.
    pub fn documents(&self, kind: &str) -> impl Iterator<Item = (&str, &Document)> {
        self.documents.get(kind).into_iter().flatten().map(|(name, document)| (name.as_str(), document))
    }

    /// The first id of the next block of producer ids.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_look_like_kafkas() {
        // From `Uuid.toString()` of kafka-clients.
        let id = ClusterId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(id.to_string(), "ASNFZ4mrze8BI0VniavN7w");
        assert_eq!(ClusterId(Uuid::from_u128(u128::MAX)).to_string(), "_____________________w");
    }
}
