//! The partitions that this broker holds: follows the metadata, gives each its log and its leader.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::Partition;
use crate::clock::SharedClock;
use crate::config::{BrokerConfig, TopicConfig};
use crate::ids::{BrokerId, PartitionIndex, TopicId, TopicIdPartition, TopicName, TopicPartition};
use crate::log::dir::LogDir;
use crate::log::error::StorageError;
use crate::log::partition::Log;
use crate::metadata::{MetadataImage, PartitionImage, TopicImage, TopicsDelta};

/// Why a partition can't be served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("no such partition")]
    Unknown,
    #[error("the partition's log dir is offline")]
    Offline,
}

/// A topic, with its partitions by index.
pub struct LocalTopic {
    image: Arc<TopicImage>,
    config: Arc<TopicConfig>,
    /// `None` where the log dir is offline.
    partitions: Vec<Option<Arc<Partition>>>,
}

impl LocalTopic {
    pub fn image(&self) -> &Arc<TopicImage> {
        &self.image
    }

    pub fn config(&self) -> &Arc<TopicConfig> {
        &self.config
    }

    pub fn is_internal(&self) -> bool {
        self.image.is_internal()
    }

    pub fn partition(&self, index: i32) -> Result<&Arc<Partition>, Unavailable> {
        let slot = usize::try_from(index).ok().and_then(|index| self.partitions.get(index));
        slot.ok_or(Unavailable::Unknown)?.as_ref().ok_or(Unavailable::Offline)
    }

    pub fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().flatten()
    }
}

#[derive(Default)]
struct Tables {
    by_name: HashMap<TopicName, Arc<LocalTopic>>,
    by_id: HashMap<TopicId, Arc<LocalTopic>>,
}

/// Owns the log dirs. `applied`, the image that is in effect, orders changes; readers only look at `tables`.
pub struct LocalTopics {
    clock: SharedClock,
    config: Arc<BrokerConfig>,
    dirs: Vec<LogDir>,
    applied: Mutex<Arc<MetadataImage>>,
    tables: RwLock<Tables>,
}

impl LocalTopics {
    /// Takes over the log dirs. Logs of topics that the metadata doesn't know any more are deleted by the
    /// first [`reconcile`](Self::reconcile).
    pub fn new(dirs: Vec<LogDir>, config: Arc<BrokerConfig>, clock: SharedClock) -> Self {
        assert!(!dirs.is_empty(), "a broker has a log dir");
        Self { clock, config, dirs, applied: Mutex::default(), tables: RwLock::default() }
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<LocalTopic>> {
        self.tables().by_name.get(name).cloned()
    }

    pub fn by_id(&self, id: TopicId) -> Option<Arc<LocalTopic>> {
        self.tables().by_id.get(&id).cloned()
    }

    pub fn partition(&self, id: &TopicPartition) -> Result<Arc<Partition>, Unavailable> {
        let topic = self.by_name(id.topic.as_str()).ok_or(Unavailable::Unknown)?;
        topic.partition(id.partition.0).cloned()
    }

    pub fn all(&self) -> Vec<Arc<LocalTopic>> {
        self.tables().by_id.values().cloned().collect()
    }

    /// Brings what is here in line with `image`; returns when its topics can be produced to.
    pub fn reconcile(&self, image: Arc<MetadataImage>) {
        let mut applied = self.applied();
        let delta = image.topics_delta(&applied);
        if !delta.is_empty() {
            self.apply(&delta);
        }
        *applied = image;
    }

    /// Deletes the logs of partitions that `image` doesn't place here: their topics were deleted while this
    /// broker was down.
    pub fn delete_strays(&self) {
        let applied = self.applied();
        for dir in &self.dirs {
            for log in dir.logs() {
                let id = log.topic_id_partition();
                let known = applied.topic_by_id(id.topic_id).and_then(|t| t.partition(id.partition));
                if known.is_none_or(|partition| !partition.replicas.contains(&self.me())) {
                    tracing::info!(partition = %id, dir = %dir.path().display(), "deleting the log of a deleted partition");
                    log_failure(dir.delete_log(&id).err(), id, "delete");
                }
            }
        }
    }

    pub fn log_dirs(&self) -> &[LogDir] {
        &self.dirs
    }

    /// Writes what is queued and closes the log dirs. Blocks.
    pub fn close(&self) -> Vec<(PathBuf, Arc<StorageError>)> {
        let failed = |dir: &LogDir| Some((dir.path().to_owned(), dir.close().err()?));
        self.dirs.iter().filter_map(failed).collect()
    }

    fn apply(&self, delta: &TopicsDelta) {
        let mut fresh = Vec::with_capacity(delta.created.len() + delta.changed.len());
        for topic in &delta.created {
            fresh.push(self.lead(topic, None));
        }
        for (_, topic) in &delta.changed {
            fresh.push(self.lead(topic, self.by_id(topic.id).as_deref()));
        }
        let mut tables = self.tables.write().expect("no code panics while it holds this lock");
        let mut deleted = Vec::with_capacity(delta.deleted.len());
        for topic in &delta.deleted {
            deleted.extend(tables.by_id.remove(&topic.id));
            // A topic that was created again under the same name stays.
            if tables.by_name.get(&topic.name).is_some_and(|local| local.image.id == topic.id) {
                tables.by_name.remove(&topic.name);
            }
        }
        for topic in fresh {
            tables.by_name.insert(topic.image.name.clone(), Arc::clone(&topic));
            tables.by_id.insert(topic.image.id, topic);
        }
        drop(tables);
        for topic in deleted {
            topic.partitions().for_each(|partition| partition.close());
            delete_logs(&self.dirs, &topic.image);
        }
    }

    /// The topic with a leader for each of its partitions; those it had before go on.
    fn lead(&self, topic: &Arc<TopicImage>, before: Option<&LocalTopic>) -> Arc<LocalTopic> {
        let config = Arc::new(TopicConfig::effective(&topic.configs, &self.config));
        let partitions = topic.partitions().map(|(index, partition)| {
            if let Some(running) = before.and_then(|before| before.partition(index.0).ok()) {
                running.update(Arc::clone(&config), partition);
                return Some(Arc::clone(running));
            }
            if !partition.replicas.contains(&self.me()) {
                return None;
            }
            self.lead_partition(topic, index, partition, &config)
        });
        Arc::new(LocalTopic { image: Arc::clone(topic), partitions: partitions.collect(), config })
    }

    fn lead_partition(
        &self,
        topic: &TopicImage,
        index: PartitionIndex,
        partition: &PartitionImage,
        config: &Arc<TopicConfig>,
    ) -> Option<Arc<Partition>> {
        let id = TopicIdPartition { topic_id: topic.id, partition: index };
        let log = open_log(&self.dirs, id)?;
        let name = TopicPartition { topic: topic.name.clone(), partition: index };
        Some(Partition::lead(name, log, partition, Arc::clone(config), Arc::clone(&self.clock)))
    }

    fn me(&self) -> BrokerId {
        self.config.id()
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().expect("no code panics while it holds this lock")
    }

    fn applied(&self) -> MutexGuard<'_, Arc<MetadataImage>> {
        self.applied.lock().expect("an invariant broke under this lock; its state can't be trusted")
    }
}

/// The partition's log, or a new one in the log dir that has the fewest (as Kafka places them).
fn open_log(dirs: &[LogDir], id: TopicIdPartition) -> Option<Arc<Log>> {
    if let Some(log) = dirs.iter().find_map(|dir| dir.log(&id)) {
        return Some(log);
    }
    let dir = dirs.iter().filter(|dir| dir.failure().is_none()).min_by_key(|dir| dir.log_count())?;
    match dir.create_log(id) {
        Ok(log) => Some(log),
        Err(error) => {
            log_failure(Some(error), id, "create");
            None
        }
    }
}

fn delete_logs(dirs: &[LogDir], topic: &TopicImage) {
    for (index, _) in topic.partitions() {
        let id = TopicIdPartition { topic_id: topic.id, partition: index };
        for dir in dirs {
            log_failure(dir.delete_log(&id).err(), id, "delete");
        }
    }
}

fn log_failure<E: std::error::Error + 'static>(error: Option<E>, id: TopicIdPartition, action: &str) {
    if let Some(error) = error {
        let error = &error as &dyn std::error::Error;
        tracing::error!(partition = %id, error, "can't {action} the log of a partition");
    }
}
