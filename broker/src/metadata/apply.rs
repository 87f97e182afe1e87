//! Applying a command: pure, and all or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{
    CONFIG_VALUE_BYTES_MAX, CONFIGS_MAX, Command, ConfigResource, DOCUMENT_BYTES_MAX,
    DOCUMENT_NAME_BYTES_MAX, DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX, PARTITIONS_MAX, PARTITIONS_PER_COMMAND_MAX,
    PRODUCER_IDS_PER_BLOCK_MAX, PartitionChange, Rejection, Response,
};
use super::delta::{MetadataDelta, RowKey};
use super::image::{BrokerEpoch, BrokerImage, Document, MetadataImage, PartitionImage, Replicas, TopicImage};
use crate::config::TopicConfigs;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, TopicName};

pub(super) type Applied = Result<Response, Rejection>;

impl MetadataImage {
    /// The image after a command, for whoever wants to know without proposing it.
    pub fn after(&self, command: &Command) -> Result<(Self, Response), Rejection> {
        let mut image = self.clone();
        let response = image.apply(command, &mut MetadataDelta::default())?;
        Ok((image, response))
    }

    /// Depends on `self` and `command` alone. A rejected command has changed nothing.
    pub(super) fn apply(&mut self, command: &Command, delta: &mut MetadataDelta) -> Applied {
        match command {
            Command::RegisterBroker { broker_id, host, port, rack } => {
                let epoch = BrokerEpoch(self.next_broker_epoch);
                self.next_broker_epoch += 1;
                let broker = BrokerImage {
                    id: *broker_id,
                    epoch,
                    host: host.clone(),
                    port: *port,
                    rack: rack.clone(),
                };
                Arc::make_mut(&mut self.brokers).insert(*broker_id, broker);
                delta.rows.extend([RowKey::Cluster, RowKey::Broker(*broker_id)]);
                Ok(Response::BrokerRegistered { epoch })
            }
            Command::CreateTopic { name, topic_id, replicas, configs } => {
                self.create_topic(name, *topic_id, replicas, configs, delta)
            }
            Command::DeleteTopic { topic_id } => self.delete_topic(*topic_id, delta),
            Command::CreatePartitions { topic_id, expected_count, replicas } => {
                self.create_partitions(*topic_id, *expected_count, replicas, delta)
            }
            Command::PartitionChange(change) => self.change_partition(change, delta),
            Command::ConfigChange { resource, changes } => self.change_configs(resource, changes, delta),
            Command::AllocateProducerIds { broker_id, broker_epoch, count } => {
                self.allocate_producer_ids(*broker_id, *broker_epoch, *count, delta)
            }
            Command::PutDocument { kind, name, bytes, expected_version } => {
                self.put_document(kind, name, bytes, *expected_version, delta)
            }
            Command::DeleteDocument { kind, name, expected_version } => {
                self.delete_document(kind, name, *expected_version, delta)
            }
            Command::PutView { name, topic_id, source_id } => {
                self.put_view(name, *topic_id, *source_id, delta)
            }
            Command::DeleteView { topic_id } => self.delete_view(*topic_id, delta),
            Command::PutMember { broker_id, incarnation, address } => {
                self.put_member(*broker_id, *incarnation, address, delta)
            }
            Command::RemoveMember { broker_id } => self.remove_member(*broker_id, delta),
        }
    }

    fn create_topic(
        &mut self,
        name: &TopicName,
        topic_id: TopicId,
        replicas: &[Vec<BrokerId>],
        configs: &TopicConfigs,
        delta: &mut MetadataDelta,
    ) -> Applied {
        if self.listed(name.as_str()).is_some() {
            return Err(Rejection::TopicExists(name.clone()));
        }
        if self.listed_by_id(topic_id).is_some() {
            return Err(Rejection::TopicIdExists(topic_id));
        }
        let partitions = self.new_partitions(replicas, 0)?;
        fits(configs)?;
        let topic = TopicImage {
            id: topic_id,
            name: name.clone(),
            partitions: Vec::new(),
            configs: Arc::new(configs.clone()),
        };
        self.topic_ids.insert(name.clone(), topic_id);
        self.add_partitions(topic, partitions, delta);
        Ok(Response::Done)
    }

    fn create_partitions(
        &mut self,
        topic_id: TopicId,
        expected: i32,
        replicas: &[Vec<BrokerId>],
        delta: &mut MetadataDelta,
    ) -> Applied {
        let topic = self.existing(topic_id)?.as_ref().clone();
        let found = topic.partition_count();
        if found != expected {
            return Err(Rejection::PartitionCount { expected, found });
        }
        let partitions = self.new_partitions(replicas, self.views_of(topic_id).count())?;
        self.add_partitions(topic, partitions, delta);
        Ok(Response::Done)
    }

    /// Checks the replicas of new partitions, which so many views list too, and the limits; all replicas are in
    /// sync, as all are empty.
    fn new_partitions(
        &self,
        replicas: &[Vec<BrokerId>],
        views: usize,
    ) -> Result<Vec<Arc<PartitionImage>>, Rejection> {
        if replicas.is_empty() {
            return Err(Rejection::NoPartitions);
        }
        if replicas.len() > PARTITIONS_PER_COMMAND_MAX {
            let max = PARTITIONS_PER_COMMAND_MAX as u64;
            return Err(Rejection::TooManyPartitions { requested: replicas.len() as u64, max });
        }
        self.check_room(replicas.len() * (1 + views))?;
        let partition = |ids: &Vec<BrokerId>| {
            let replicas = self.replicas(ids)?;
            Ok(Arc::new(PartitionImage {
                leader: replicas.first().copied(),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                isr: replicas.clone(),
                replicas,
            }))
        };
        replicas.iter().map(partition).collect()
    }

    /// Whether so many more partitions may be listed, those of views included.
    pub(super) fn check_room(&self, more: usize) -> Result<(), Rejection> {
        match self.listed_partition_count() + more {
            ..=PARTITIONS_MAX => Ok(()),
            total => Err(Rejection::ClusterFull { total: total as u64, max: PARTITIONS_MAX as u64 }),
        }
    }

    /// More ids than brokers must repeat one; they may come from a client, and looking for it is quadratic.
    fn repeats(&self, ids: &[BrokerId]) -> bool {
        ids.len() > self.brokers.len() || ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id))
    }

    fn replicas(&self, ids: &[BrokerId]) -> Result<Replicas, Rejection> {
        if ids.is_empty() || self.repeats(ids) {
            return Err(Rejection::InvalidReplicas);
        }
        match ids.iter().find(|id| !self.brokers.contains_key(id)) {
            Some(id) => Err(Rejection::UnknownBroker(*id)),
            None => Ok(ids.to_vec().into()),
        }
    }

    fn add_partitions(
        &mut self,
        mut topic: TopicImage,
        partitions: Vec<Arc<PartitionImage>>,
        delta: &mut MetadataDelta,
    ) {
        let first = topic.partition_count();
        self.partition_count += partitions.len();
        topic.partitions.extend(partitions);
        delta.rows.insert(RowKey::Topic(topic.id));
        let added = first..topic.partition_count();
        delta.rows.extend(added.map(|index| RowKey::Partition(topic.id, PartitionIndex(index))));
        self.topics.insert(topic.id, Arc::new(topic));
    }

    fn delete_topic(&mut self, topic_id: TopicId, delta: &mut MetadataDelta) -> Applied {
        let topic = self.existing(topic_id)?.clone();
        // A view without its source could not be read, and whoever defined it would not know.
        if let Some(view) = self.views_of(topic_id).next() {
            return Err(Rejection::SourceOfView { topic: topic.name.clone(), view: view.name.clone() });
        }
        self.topics.remove(&topic_id);
        self.topic_ids.remove(&topic.name);
        self.partition_count -= topic.partitions.len();
        delta.rows.insert(RowKey::Topic(topic_id));
        delta.rows.extend(topic.partitions().map(|(index, _)| RowKey::Partition(topic_id, index)));
        Ok(Response::Done)
    }

    pub(super) fn existing(&self, topic_id: TopicId) -> Result<&Arc<TopicImage>, Rejection> {
        self.topics.get(&topic_id).ok_or(Rejection::UnknownTopicId(topic_id))
    }

    fn change_partition(&mut self, change: &PartitionChange, delta: &mut MetadataDelta) -> Applied {
        let PartitionChange { topic_id, partition: index, .. } = *change;
        let topic = self.existing(topic_id)?;
        let unknown = Rejection::UnknownPartition { topic_id, partition: index };
        let mut partition = topic.partition(index).ok_or(unknown)?.as_ref().clone();
        if partition.partition_epoch != change.expected_partition_epoch {
            return Err(Rejection::StalePartitionEpoch {
                expected: change.expected_partition_epoch,
                found: partition.partition_epoch,
            });
        }
        if let Some(ids) = &change.replicas {
            partition.replicas = self.replicas(ids)?;
        }
        if let Some(ids) = &change.isr {
            if self.repeats(ids) {
                return Err(Rejection::InvalidReplicas);
            }
            partition.isr = ids.clone().into();
        }
        if let Some(outside) = partition.isr.iter().find(|id| !partition.replicas.contains(id)) {
            return Err(Rejection::NotAReplica(*outside));
        }
        if let Some(leader) = change.leader {
            partition.leader_epoch.0 += i32::from(leader != partition.leader);
            partition.leader = leader;
        }
        if let Some(leader) = partition.leader.filter(|leader| !partition.isr.contains(leader)) {
            return Err(Rejection::LeaderNotInSync(leader));
        }
        partition.partition_epoch += 1;
        let response = Response::PartitionChanged {
            partition_epoch: partition.partition_epoch,
            leader_epoch: partition.leader_epoch,
        };
        let mut topic = topic.as_ref().clone();
        topic.partitions[index.0 as usize] = Arc::new(partition);
        self.topics.insert(topic_id, Arc::new(topic));
        delta.rows.insert(RowKey::Partition(topic_id, index));
        Ok(response)
    }

    fn change_configs(
        &mut self,
        resource: &ConfigResource,
        changes: &BTreeMap<String, Option<String>>,
        delta: &mut MetadataDelta,
    ) -> Applied {
        match resource {
            ConfigResource::Topic(topic_id) => {
                let mut topic = self.existing(*topic_id)?.as_ref().clone();
                topic.configs = Arc::new(merged(&topic.configs, changes)?);
                self.topics.insert(*topic_id, Arc::new(topic));
                delta.rows.insert(RowKey::Topic(*topic_id));
            }
            ConfigResource::Broker(broker) => {
                if let Some(id) = broker.filter(|id| !self.brokers.contains_key(id)) {
                    return Err(Rejection::UnknownBroker(id));
                }
                let old = self.broker_configs.get(broker);
                let configs = merged(old.unwrap_or(&BTreeMap::new()), changes)?;
                let all = Arc::make_mut(&mut self.broker_configs);
                if configs.is_empty() {
                    all.remove(broker);
                } else {
                    all.insert(*broker, configs);
                }
                delta.rows.insert(RowKey::BrokerConfig(*broker));
            }
        }
        Ok(Response::Done)
    }

    fn allocate_producer_ids(
        &mut self,
        broker_id: BrokerId,
        broker_epoch: BrokerEpoch,
        count: i32,
        delta: &mut MetadataDelta,
    ) -> Applied {
        let broker = self.brokers.get(&broker_id).ok_or(Rejection::UnknownBroker(broker_id))?;
        if broker.epoch != broker_epoch {
            return Err(Rejection::StaleBrokerEpoch { broker_id });
        }
        if !(1..=PRODUCER_IDS_PER_BLOCK_MAX).contains(&count) {
            return Err(Rejection::InvalidBlock(count));
        }
        let first = self.next_producer_id;
        self.next_producer_id = first.checked_add(i64::from(count)).ok_or(Rejection::ProducerIdsExhausted)?;
        delta.rows.insert(RowKey::Cluster);
        Ok(Response::ProducerIds { first: ProducerId(first), count })
    }

    fn put_document(
        &mut self,
        kind: &str,
        name: &str,
        bytes: &[u8],
        expected: Option<u64>,
        delta: &mut MetadataDelta,
    ) -> Applied {
        let named = |text: &str| (1..=DOCUMENT_NAME_BYTES_MAX).contains(&text.len());
        if !named(kind) || !named(name) {
            return Err(Rejection::InvalidDocumentName);
        }
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(Rejection::DocumentTooLarge { bytes: bytes.len() as u64 });
        }
        let found = self.document(kind, name).map_or(0, |document| document.version);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Rejection::DocumentVersion { expected, found });
        }
        let documents = || self.documents.values().flat_map(BTreeMap::values);
        let total: usize = documents().map(|document| document.bytes.len()).sum();
        if (found == 0 && documents().count() >= DOCUMENTS_MAX) || total + bytes.len() > DOCUMENTS_BYTES_MAX {
            return Err(Rejection::TooManyDocuments);
        }
        self.next_document_version += 1;
        let version = self.next_document_version;
        let document = Document { version, bytes: bytes.into() };
        let documents = Arc::make_mut(&mut self.documents);
        documents.entry(kind.to_owned()).or_default().insert(name.to_owned(), document);
        delta
            .rows
            .extend([RowKey::Cluster, RowKey::Document { kind: kind.to_owned(), name: name.to_owned() }]);
        Ok(Response::DocumentPut { version })
    }

    fn delete_document(
        &mut self,
        kind: &str,
        name: &str,
        expected: Option<u64>,
        delta: &mut MetadataDelta,
    ) -> Applied {
        let key = || (kind.to_owned(), name.to_owned());
        let Some(document) = self.document(kind, name) else {
            let (kind, name) = key();
            return Err(Rejection::UnknownDocument { kind, name });
        };
        let found = document.version;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(Rejection::DocumentVersion { expected, found });
        }
        let documents = Arc::make_mut(&mut self.documents);
        if let Some(of_kind) = documents.get_mut(kind) {
            of_kind.remove(name);
            if of_kind.is_empty() {
                documents.remove(kind);
            }
        }
        let (kind, name) = key();
        delta.rows.insert(RowKey::Document { kind, name });
        Ok(Response::Done)
    }
}

fn merged(
    configs: &BTreeMap<String, String>,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, String>, Rejection> {
    let mut configs = configs.clone();
    for (key, value) in changes {
        match value {
            Some(value) => configs.insert(key.clone(), value.clone()),
            None => configs.remove(key),
        };
    }
    fits(&configs)?;
    Ok(configs)
}

/// Values come from clients, and every broker holds them in memory.
fn fits(configs: &BTreeMap<String, String>) -> Result<(), Rejection> {
    let short = |(key, value): (&String, &String)| key.len().max(value.len()) <= CONFIG_VALUE_BYTES_MAX;
    if configs.len() <= CONFIGS_MAX && configs.iter().all(short) {
        Ok(())
    } else {
        Err(Rejection::ConfigsTooLarge)
    }
}
