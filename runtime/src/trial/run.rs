//! A producer or consumer plugin on its own: its topics, its group and its position are in memory, and it is told to stop
//! when it has done what is expected of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, RecordBatch, RecordIter};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{TrialBatch, TrialError, TrialRecord, check_grants, encoded, record};
use crate::batch::Position;
use crate::clock::SharedClock;
use crate::environment::Environment;
use crate::grants::Grants;
use crate::limits::PluginLimits;
use crate::plugin::{ANSWER_LINES_MAX, LineFilter, Plugin, PluginLogs};
use crate::runner::{POSITIONS_TOPIC, RunnerKind, RunnerSpec, run_runner};
use crate::stage::memory::{MemoryCluster, MemoryPort};
use crate::stage::{
    Commit, OnError, Polled, PortError, PortFactory, PortRequest, RetryPolicy, RunnerPort, RuntimeMetrics,
    SeekTo, StagePlugin, StagePort, StageShared, StageSpec, StageState, TopicInfo, TopicPartition,
};

/// What the parts of the trial are called where names are needed.
const NAME: &str = "trial";
const GROUP: &str = "trial";
/// The state of a run is looked at so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A source or a sink, and what is around it.
pub struct RunTrial {
    pub kind: RunnerKind,
    pub config: String,
    pub limits: PluginLimits,
    pub grants: Grants,
    pub environment: Environment,
    /// Topics that it may write, each of so many partitions.
    pub to: Vec<String>,
    pub partitions: usize,
    /// What a sink reads: one batch, or nothing.
    pub input: TrialBatch,
    /// Where a source was.
    pub position: Option<Vec<u8>>,
    /// What is expected: a source is told to stop when it has written so many messages, a sink when it has committed all
    /// of the input.
    pub messages: u64,
    /// Or it is to end by itself.
    pub is_told_to_stop: bool,
    /// However much it has done, it is told to stop then.
    pub time_max: Duration,
}

/// What it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTrialOutcome {
    /// What was written, by topic in the order of `to`, and by partition.
    pub messages: Vec<RunTrialMessage>,
    /// Where a source says that it is.
    pub position: Option<Vec<u8>>,
    /// Of a sink: the offset that is read next.
    pub committed: Option<i64>,
    pub end: RunTrialEnd,
    pub time: Duration,
    /// The most linear memory that was seen of it; 0 if it ended before somebody looked.
    pub memory_bytes: u64,
    pub log: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTrialMessage {
    pub topic: String,
    pub partition: i32,
    pub record: TrialRecord,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunTrialEnd {
    /// It returned by itself: its work is done.
    Finished,
    /// It was told to, having done what was expected.
    Stopped,
    /// It was told to, having not done that in time.
    Late,
    /// It asked to be run again later, or crashed: a node would run it again.
    Again(String),
    Failed(String),
}

impl RunTrial {
    /// Runs `plugin` once. An error says that it can't be run so.
    pub async fn run(self, plugin: Arc<Plugin>, clock: SharedClock) -> Result<RunTrialOutcome, TrialError> {
        check_grants(&plugin, Some(self.kind), !self.to.is_empty(), &self.grants)?;
        let cluster = self.cluster(&clock)?;
        let expected = match self.kind {
            _ if !self.is_told_to_stop => Expected::End,
            RunnerKind::Source => Expected::Messages(self.messages),
            RunnerKind::Sink => Expected::Offset(self.input.base_offset + self.input.records.len() as i64),
        };
        let logs = Arc::new(PluginLogs::new(Arc::clone(&clock)));
        let metrics = RuntimeMetrics::register(&mut Registry::default());
        let spec = self.spec(plugin);
        let events = mpsc::channel(1).0;
        let (own_clock, environment) = (Arc::clone(&clock), self.environment.clone());
        let shared = StageShared::new(spec, &metrics, own_clock, events, Arc::clone(&logs), environment);
        let shared = Arc::new(shared);
        let watch = Arc::new(Watch {
            cluster: cluster.clone(),
            shared: Arc::clone(&shared),
            expected,
            written: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        let began = clock.monotonic();
        let factory = Arc::new(Watched(Arc::clone(&watch)));
        let run = run_runner(shared, factory, 0, watch.stop.clone());
        let ((), end) = tokio::join!(run, watch.end(self.time_max));
        let group_offset = cluster.committed(GROUP, &self.input.topic, self.input.partition);
        let kept = logs.newest(ANSWER_LINES_MAX, &LineFilter::default()).lines;
        let mut messages = Vec::new();
        for topic in &self.to {
            for partition in (0..).take(self.partitions) {
                messages.extend(
                    records(&cluster, topic, partition).into_iter().map(|record| RunTrialMessage {
                        topic: topic.clone(),
                        partition,
                        record,
                    }),
                );
            }
        }
        Ok(RunTrialOutcome {
            messages,
            position: records(&cluster, POSITIONS_TOPIC, 0).pop().and_then(|record| record.value),
            committed: group_offset.map(|committed| committed.next_offset),
            end,
            time: clock.monotonic().saturating_sub(began),
            memory_bytes: watch.memory_bytes.load(Ordering::Relaxed),
            log: kept
                .iter()
                .map(|line| format!("{}: {}", format!("{:?}", line.level).to_lowercase(), line.text))
                .collect(),
        })
    }

    fn spec(&self, plugin: Arc<Plugin>) -> StageSpec {
        let runner = RunnerSpec { kind: self.kind };
        let plugin = StagePlugin {
            name: NAME.to_owned(),
            plugin,
            version: 0,
            grants: self.grants.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
            previous: None,
        };
        StageSpec {
            pipeline: NAME.to_owned(),
            name: NAME.to_owned(),
            position: Position::Stream,
            runner: Some(runner),
            from: match self.kind {
                RunnerKind::Source => Vec::new(),
                RunnerKind::Sink => vec![self.input.topic.as_str().into()],
            },
            plugins: vec![plugin],
            canary: None,
            to: self.to.iter().map(|topic| topic.as_str().into()).collect(),
            group: GROUP.to_owned(),
            parallelism: 1,
            on_error: OnError::Stop,
            retry: RetryPolicy::default(),
            compression: Compression::None,
        }
    }

    /// Its topics, with what is in them before.
    fn cluster(&self, clock: &SharedClock) -> Result<MemoryCluster, TrialError> {
        let cluster = MemoryCluster::default();
        for topic in &self.to {
            cluster.create_topic(topic, self.partitions);
        }
        cluster.create_topic(POSITIONS_TOPIC, 1);
        if let Some(position) = &self.position {
            let mut batch = BatchBuilder::new(usize::MAX);
            let key = format!("{NAME}/{NAME}/0");
            batch
                .append(clock.wall_ms(), Some(key.as_bytes()), Some(position), [])
                .expect("a batch has room for one");
            cluster.append(POSITIONS_TOPIC, 0, &batch.finish().expect("it has a record").into());
        }
        if self.kind == RunnerKind::Sink {
            let partition = usize::try_from(self.input.partition).unwrap_or_default();
            if !self.to.contains(&self.input.topic) {
                cluster.create_topic(&self.input.topic, partition + 1);
            }
            cluster.begin_at(&self.input.topic, self.input.partition, self.input.base_offset);
            if !self.input.records.is_empty() {
                cluster.append(&self.input.topic, self.input.partition, &encoded(&self.input)?);
            }
        }
        Ok(cluster)
    }
}

fn records(cluster: &MemoryCluster, topic: &str, partition: i32) -> Vec<TrialRecord> {
    let mut records = Vec::new();
    for bytes in cluster.read(topic, partition) {
        let batch = RecordBatch::new(&bytes).expect("it was checked when it was appended");
        let section = batch.uncompressed_records(usize::MAX).expect("it was made here");
        for found in RecordIter::new(&section) {
            let found = found.expect("it was checked when it was appended");
            records.push(record(batch.base_timestamp() + found.timestamp_delta, found.body));
        }
    }
    records
}

/// With what a plugin has done what is expected of it.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// It ends by itself.
    End,
    Messages(u64),
    Offset(i64),
}

/// Looks on.
struct Watch {
    cluster: MemoryCluster,
    shared: Arc<StageShared>,
    expected: Expected,
    written: AtomicU64,
    memory_bytes: AtomicU64,
    stop: CancellationToken,
}

impl Watch {
    /// Waits for the end, or tells the plugin to stop when its time is over.
    async fn end(&self, time_max: Duration) -> RunTrialEnd {
        let by_itself = async {
            loop {
                if let Some(end) = self.ended() {
                    return end;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let end = tokio::select! {
            biased;
            end = by_itself => end,
            // Who fails stops, too.
            () = self.stop.cancelled() => self.ended().unwrap_or(RunTrialEnd::Stopped),
            () = tokio::time::sleep(time_max) => RunTrialEnd::Late,
        };
        self.stop.cancel();
        end
    }

    /// How it has ended by itself, if it has.
    fn ended(&self) -> Option<RunTrialEnd> {
        match self.shared.status().state {
            StageState::Failed(failure) => {
                Some(RunTrialEnd::Failed(format!("{}: {}", failure.kind, failure.reason)))
            }
            StageState::Waiting { reason } => Some(RunTrialEnd::Again(reason)),
            StageState::Finished => Some(RunTrialEnd::Finished),
            StageState::Starting | StageState::Running | StageState::Stopped => None,
        }
    }

    fn look_at_memory(&self) {
        let memory_bytes = self.shared.usage(0).status().memory_bytes;
        self.memory_bytes.fetch_max(memory_bytes, Ordering::Relaxed);
    }
}

/// The cluster of a trial.
struct Watched(Arc<Watch>);

struct WatchedPort {
    port: MemoryPort,
    watch: Arc<Watch>,
}

impl PortFactory for Watched {
    type Port = WatchedPort;

    async fn open(&self, request: PortRequest) -> Result<WatchedPort, PortError> {
        let port = self.0.cluster.open(request).await?;
        Ok(WatchedPort { port, watch: Arc::clone(&self.0) })
    }
}

impl StagePort for WatchedPort {
    async fn poll(&self, max_wait: Duration) -> Result<Polled, PortError> {
        self.watch.look_at_memory();
        self.port.poll(max_wait).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), PortError> {
        self.watch.look_at_memory();
        let written: u64 = commit.outputs.iter().map(|batch| u64::from(batch.records)).sum();
        let offset = commit.offsets.iter().map(|offset| offset.next_offset).max();
        self.port.commit(commit).await?;
        let written = self.watch.written.fetch_add(written, Ordering::Relaxed) + written;
        let is_done = match self.watch.expected {
            Expected::End => false,
            Expected::Messages(expected) => written >= expected,
            Expected::Offset(expected) => offset >= Some(expected),
        };
        if is_done {
            // Before the plugin hears that it is written: it takes in nothing more.
            self.watch.stop.cancel();
        }
        Ok(())
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicInfo>>, PortError> {
        self.port.describe_topics(topics).await
    }

    async fn close(self) {
        self.port.close().await;
    }
}

impl RunnerPort for WatchedPort {
    fn seek(&self, partition: &TopicPartition, to: SeekTo) {
        self.port.seek(partition, to);
    }

    async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>, PortError> {
        self.port.committed(partitions).await
    }

    async fn last_value(&self, partition: &TopicPartition, key: &[u8]) -> Result<Option<Bytes>, PortError> {
        self.port.last_value(partition, key).await
    }
}
