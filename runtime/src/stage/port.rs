//! What a stage asks of a Kafka cluster. The root crate implements it over a client; tests, in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::spec::StageSpec;
use super::topic::TopicInfo;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// What one poll brought. Any part may be empty.
#[derive(Debug, Default)]
pub struct Polled {
    /// Partitions that the group takes away. Until the next poll the member still owns them: the stage first
    /// commits what it has in flight.
    pub revoked: Vec<TopicPartition>,
    pub assigned: Vec<TopicPartition>,
    pub fetched: Vec<FetchedPartition>,
}

/// Record batches of one partition.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    pub topic: Arc<str>,
    pub partition: i32,
    /// First offset that was not processed before; the first batch may begin below it.
    pub position: i64,
    /// Where the partition ends for now (exclusive): for the lag.
    pub high_watermark: i64,
    /// Whole batches of version 2, end to end, at least one. The port's position moves behind the last one.
    pub batches: Bytes,
}

/// One record batch to be written.
#[derive(Debug, Clone)]
pub struct OutputBatch {
    pub topic: Arc<str>,
    pub partition: i32,
    pub records: u32,
    /// The batch, with base offset 0.
    pub bytes: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The next offset to be read (exclusive end of what is done).
    pub next_offset: i64,
    /// The versions of the plugins that did it.
    pub metadata: Arc<str>,
}

/// Outputs, and what says that they are done: the offsets they came from, or the place that their producer is at.
#[derive(Debug, Default)]
pub struct Commit {
    pub outputs: Vec<OutputBatch>,
    /// A record of the topic that sources keep their positions in.
    pub position: Option<OutputBatch>,
    pub offsets: Vec<CommittedOffset>,
}

/// Why the port did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The group has moved on without this member: what is in flight belongs to others now.
    #[error("fenced: {0}")]
    Fenced(String),
    /// It may work later.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It will not work: a topic that does not exist, a record that is too large, no permission.
    #[error("{0}")]
    Fatal(String),
}

/// One member of the stage's group.
///
/// `poll` and `commit` may be in flight at the same time, one of each. Both are dropped without notice when the
/// stage stops.
pub trait StagePort: Send + Sync + 'static {
    /// Waits at most `max_wait` for records or a change of assignment.
    fn poll(&self, max_wait: Duration) -> impl Future<Output = Result<Polled, PortError>> + Send;

    /// Writes the outputs, then the position, then commits the offsets. On an error the offsets are not committed;
    /// outputs may have been written.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), PortError>> + Send;

    /// What is known of each of the topics; none for one that does not exist.
    fn describe_topics(
        &self,
        topics: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<Option<TopicInfo>>, PortError>> + Send;

    /// Leaves the group.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Where a member goes on reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// The next offset to be read.
    Offset(i64),
    /// The first record of at least that timestamp; the end, if there is none.
    Timestamp(i64),
    Beginning,
    End,
    /// Nowhere, until it is told another place.
    Paused,
}

/// What sources and sinks ask beside what stages do.
pub trait RunnerPort: StagePort {
    /// Goes on reading a partition of the assignment elsewhere: whatever is polled from now on comes from there. Of a
    /// partition that is not assigned (any more) nothing happens.
    fn seek(&self, partition: &TopicPartition, to: SeekTo);

    /// What the group has committed of each partition, in their order.
    fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = Result<Vec<Option<i64>>, PortError>> + Send;

    /// The value of the last record of a partition that has that key.
    fn last_value(
        &self,
        partition: &TopicPartition,
        key: &[u8],
    ) -> impl Future<Output = Result<Option<Bytes>, PortError>> + Send;
}

/// Which member is wanted.
#[derive(Debug, Clone)]
pub struct PortRequest {
    pub pipeline: String,
    pub stage: String,
    pub group: String,
    /// Empty for a source, which is a member of no group.
    pub from: Vec<Arc<str>>,
    /// Number of the task within the stage, on this node.
    pub task: u32,
    /// Principals: who reads and commits, and who writes.
    pub reads_as: String,
    pub writes_as: String,
}

impl PortRequest {
    pub(crate) fn of(spec: &StageSpec, task: u32) -> Self {
        Self {
            pipeline: spec.pipeline.clone(),
            stage: spec.name.clone(),
            group: spec.group.clone(),
            from: spec.from.clone(),
            task,
            reads_as: spec.reads_as(),
            writes_as: spec.writes_as(),
        }
    }
}

/// Makes the ports of stages, sources and sinks.
pub trait PortFactory: Send + Sync + 'static {
    type Port: RunnerPort;

    fn open(&self, request: PortRequest) -> impl Future<Output = Result<Self::Port, PortError>> + Send;
}
