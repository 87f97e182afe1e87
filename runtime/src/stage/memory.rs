//! Topics and groups in memory: a port for plugins that are tried on their own, and for tests, with the faults that tests
//! want.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{RecordBatch, RecordIter};
use tokio::sync::watch;

use super::port::{
    Commit, CommittedOffset, FetchedPartition, OutputBatch, Polled, PortError, PortFactory, PortRequest,
    RunnerPort, SeekTo, StagePort, TopicPartition,
};
use super::topic::{TopicInfo, TopicRules};
use crate::clock::SystemClock;

/// Bytes of one partition in one poll.
const FETCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A cluster of one process. Clones are the same cluster. A group has one member: partitions are not shared out.
#[derive(Clone)]
pub struct MemoryCluster {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    offsets: BTreeMap<(String, TopicPartition), CommittedOffset>,
    /// Errors that the next commits return.
    commit_errors: Vec<PortError>,
    /// Commits hang.
    is_held: bool,
    /// Those that do.
    held: u64,
    /// Partitions that the next poll takes away.
    revoked: Vec<TopicPartition>,
    commits: u64,
    /// Bytes of the outputs of the largest commit.
    commit_bytes_max: usize,
    opened: u64,
}

#[derive(Default)]
struct Topic {
    logs: Vec<Log>,
    rules: TopicRules,
}

#[derive(Default)]
struct Log {
    batches: Vec<(i64, Bytes)>,
    end: i64,
}

impl Default for MemoryCluster {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl MemoryCluster {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub fn create_topic(&self, topic: &str, partitions: usize) {
        self.create_topic_with(topic, partitions, TopicRules::default());
    }

    pub fn create_topic_with(&self, topic: &str, partitions: usize, rules: TopicRules) {
        let logs = (0..partitions).map(|_| Log::default()).collect();
        self.lock().topics.insert(topic.into(), Topic { logs, rules });
        self.notify();
    }

    pub fn delete_topic(&self, topic: &str) {
        self.lock().topics.remove(topic);
        self.notify();
    }

    /// What is appended to an empty partition begins at that offset.
    pub fn begin_at(&self, topic: &str, partition: i32, offset: i64) {
        let mut state = self.lock();
        let logs = state.topics.get_mut(topic).map(|topic| &mut topic.logs);
        let log = logs.and_then(|logs| logs.get_mut(usize::try_from(partition).ok()?));
        if let Some(log) = log.filter(|log| log.batches.is_empty()) {
            log.end = offset;
        }
    }

    /// Appends a batch at the partition's end, with the offsets that follow.
    pub fn append(&self, topic: &str, partition: i32, batch: &Bytes) {
        self.lock().append(topic, partition, batch).expect("the test's topic exists");
        self.notify();
    }

    /// All batches of a partition, end to end.
    pub fn read(&self, topic: &str, partition: i32) -> Vec<Bytes> {
        let state = self.lock();
        let log = &state.topics[topic].logs[usize::try_from(partition).expect("partitions are not negative")];
        log.batches.iter().map(|(_, batch)| batch.clone()).collect()
    }

    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<CommittedOffset> {
        let key = (group.to_owned(), TopicPartition { topic: topic.into(), partition });
        self.lock().offsets.get(&key).cloned()
    }

    /// The next commits fail, one after the other, and write nothing.
    pub fn fail_commits(&self, errors: impl IntoIterator<Item = PortError>) {
        self.lock().commit_errors.extend(errors);
    }

    /// From now on commits hang.
    pub fn hold_commits(&self) {
        self.lock().is_held = true;
    }

    /// How many commits hang.
    pub fn held(&self) -> u64 {
        self.lock().held
    }

    /// The next poll takes these away; they come back with the one after it.
    pub fn revoke(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.lock().revoked.extend(partitions);
        self.notify();
    }

    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Bytes of the outputs of the largest commit.
    pub fn commit_bytes_max(&self) -> usize {
        self.lock().commit_bytes_max
    }

    /// How often a port was opened.
    pub fn opened(&self) -> u64 {
        self.lock().opened
    }

    /// Waits until `condition` holds for this cluster.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(self) {
            if changed.changed().await.is_err() {
                unreachable!("this cluster holds the sender");
            }
        }
    }
}

impl State {
    /// What a broker refuses, it refuses for good.
    fn refuse(&self, output: &OutputBatch) -> Result<(), PortError> {
        let Some(Topic { rules, .. }) = self.topics.get(&output.topic) else { return Ok(()) };
        let refused = |what: &str| Err(PortError::Fatal(format!("{what} for topic {:?}", output.topic)));
        if output.bytes.len() > rules.batch_bytes_max {
            return refused("a batch is too large");
        }
        let batch = RecordBatch::new(&output.bytes).map_err(|error| PortError::Fatal(error.to_string()))?;
        if let Some((_, after)) = rules.timestamp_ms_max
            && batch.max_timestamp() > SystemClock::shared().wall_ms().saturating_add(after)
        {
            return refused("a timestamp is too late");
        }
        let section = batch.uncompressed_records(usize::MAX).expect("stages write what can be read");
        let mut records = RecordIter::new(&section);
        if rules.needs_keys && records.any(|record| record.is_ok_and(|record| record.key.is_none())) {
            return refused("a record has no key");
        }
        Ok(())
    }

    fn append(&mut self, topic: &str, partition: i32, batch: &Bytes) -> Result<(), PortError> {
        let missing = || PortError::Fatal(format!("no partition {partition} of topic {topic:?}"));
        let at = usize::try_from(partition).map_err(|_| missing())?;
        let log = self.topics.get_mut(topic).and_then(|topic| topic.logs.get_mut(at));
        let log = log.ok_or_else(missing)?;
        let view = RecordBatch::new(batch).map_err(|error| PortError::Fatal(error.to_string()))?;
        let mut bytes = batch.to_vec();
        bytes[..16].copy_from_slice(&view.patched_prefix(log.end, 0));
        let count = i64::from(view.last_offset_delta()) + 1;
        log.batches.push((log.end, bytes.into()));
        log.end += count;
        Ok(())
    }
}

/// One member.
pub struct MemoryPort {
    cluster: MemoryCluster,
    group: String,
    from: Vec<Arc<str>>,
    positions: Mutex<BTreeMap<TopicPartition, i64>>,
}

impl PortFactory for MemoryCluster {
    type Port = MemoryPort;

    async fn open(&self, request: PortRequest) -> Result<MemoryPort, PortError> {
        self.lock().opened += 1;
        let PortRequest { group, from, .. } = request;
        Ok(MemoryPort { cluster: self.clone(), group, from, positions: Mutex::default() })
    }
}

impl MemoryPort {
    fn try_poll(&self) -> Polled {
        let mut state = self.cluster.lock();
        let mut positions = self.positions.lock().expect("no code panics while it holds this lock");
        let mut polled = Polled::default();
        if !state.revoked.is_empty() {
            polled.revoked = std::mem::take(&mut state.revoked);
            positions.retain(|partition, _| !polled.revoked.contains(partition));
            return polled;
        }
        for topic in &self.from {
            let Some(Topic { logs, .. }) = state.topics.get(topic) else { continue };
            for (at, log) in logs.iter().enumerate() {
                let partition = i32::try_from(at).expect("partitions are counted by an i32");
                let key = TopicPartition { topic: Arc::clone(topic), partition };
                let position = *positions.entry(key.clone()).or_insert_with(|| {
                    polled.assigned.push(key.clone());
                    state
                        .offsets
                        .get(&(self.group.clone(), key.clone()))
                        .map_or(0, |offset| offset.next_offset)
                });
                if let Some(fetched) = log.fetch(position) {
                    positions.insert(key, fetched.1);
                    let Log { end, .. } = log;
                    polled.fetched.push(FetchedPartition {
                        topic: Arc::clone(topic),
                        partition,
                        position,
                        high_watermark: *end,
                        batches: fetched.0,
                    });
                }
            }
        }
        polled
    }
}

impl Log {
    /// Of the first record of at least that timestamp; batches are not opened for it.
    fn offset_of(&self, timestamp: i64) -> i64 {
        let later = |(_, batch): &&(i64, Bytes)| {
            RecordBatch::new(batch).expect("it was checked when it was appended").max_timestamp() >= timestamp
        };
        self.batches.iter().find(later).map_or(self.end, |(base, _)| *base)
    }

    /// Whole batches from the one that holds `position`, and the position behind them.
    fn fetch(&self, position: i64) -> Option<(Bytes, i64)> {
        if position >= self.end {
            return None;
        }
        let first = self.batches.partition_point(|(base, _)| *base <= position).saturating_sub(1);
        let mut bytes = Vec::new();
        let mut next = position;
        for (at, (_, batch)) in self.batches.iter().enumerate().skip(first) {
            bytes.extend_from_slice(batch);
            next = self.batches.get(at + 1).map_or(self.end, |(base, _)| *base);
            if bytes.len() >= FETCH_BYTES_MAX {
                break;
            }
        }
        Some((bytes.into(), next))
    }
}

impl StagePort for MemoryPort {
    async fn poll(&self, max_wait: Duration) -> Result<Polled, PortError> {
        let mut changed = self.cluster.changed.subscribe();
        let wait = async {
            loop {
                let polled = self.try_poll();
                if !(polled.fetched.is_empty() && polled.revoked.is_empty() && polled.assigned.is_empty()) {
                    return polled;
                }
                if changed.changed().await.is_err() {
                    return polled;
                }
            }
        };
        Ok(tokio::time::timeout(max_wait, wait).await.unwrap_or_default())
    }

    async fn commit(&self, commit: Commit) -> Result<(), PortError> {
        let is_held = {
            let mut state = self.cluster.lock();
            state.held += u64::from(state.is_held);
            state.is_held
        };
        if is_held {
            std::future::pending::<()>().await;
        }
        {
            let mut state = self.cluster.lock();
            if !state.commit_errors.is_empty() {
                return Err(state.commit_errors.remove(0));
            }
            let bytes = commit.outputs.iter().map(|output| output.bytes.len()).sum();
            state.commit_bytes_max = state.commit_bytes_max.max(bytes);
            for output in commit.outputs.iter().chain(&commit.position) {
                state.refuse(output)?;
                state.append(&output.topic, output.partition, &output.bytes)?;
            }
            for offset in commit.offsets {
                let partition =
                    TopicPartition { topic: Arc::clone(&offset.topic), partition: offset.partition };
                state.offsets.insert((self.group.clone(), partition), offset);
            }
            state.commits += 1;
        }
        self.cluster.notify();
        Ok(())
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicInfo>>, PortError> {
        let state = self.cluster.lock();
        let described = topics.iter().map(|name| {
            let Topic { logs, rules } = state.topics.get(name)?;
            let partitions = i32::try_from(logs.len()).expect("tests make few partitions");
            Some(TopicInfo { partitions, rules: rules.clone() })
        });
        Ok(described.collect())
    }

    async fn close(self) {}
}

impl RunnerPort for MemoryPort {
    fn seek(&self, partition: &TopicPartition, to: SeekTo) {
        let state = self.cluster.lock();
        let mut positions = self.positions.lock().expect("no code panics while it holds this lock");
        let Some(position) = positions.get_mut(partition) else { return };
        let at = usize::try_from(partition.partition).expect("partitions are not negative");
        let log = &state.topics[&partition.topic].logs[at];
        *position = match to {
            SeekTo::Offset(offset) => offset,
            SeekTo::Timestamp(timestamp) => log.offset_of(timestamp),
            SeekTo::Beginning => 0,
            SeekTo::End => log.end,
            // Beyond whatever a test writes.
            SeekTo::Paused => i64::MAX,
        };
        drop(positions);
        drop(state);
        self.cluster.notify();
    }

    async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>, PortError> {
        let state = self.cluster.lock();
        let of = |partition: &TopicPartition| {
            let committed = state.offsets.get(&(self.group.clone(), partition.clone()))?;
            Some(committed.next_offset)
        };
        Ok(partitions.iter().map(of).collect())
    }

    async fn last_value(&self, partition: &TopicPartition, key: &[u8]) -> Result<Option<Bytes>, PortError> {
        let mut last = None;
        for batch in self.cluster.read(&partition.topic, partition.partition) {
            let batch = RecordBatch::new(&batch).expect("it was checked when it was appended");
            let section = batch.uncompressed_records(usize::MAX).expect("stages write what can be read");
            for record in RecordIter::new(&section) {
                let record = record.expect("it was checked when it was appended");
                if record.key == Some(key) {
                    last = record.value.map(Bytes::copy_from_slice);
                }
            }
        }
        Ok(last)
    }
}
