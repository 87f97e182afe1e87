//! What a stage asks of a Kafka cluster. The root crate implements it over a client; tests, in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

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

/// Outputs and the offsets they came from.
#[derive(Debug, Default)]
pub struct Commit {
    pub outputs: Vec<OutputBatch>,
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

    /// Writes the outputs, then commits the offsets. On an error the offsets are not committed; outputs may
    /// have been written.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), PortError>> + Send;

    /// What is known of each of the topics; none for one that does not exist.
    fn describe_topics(
        &self,
        topics: &[Arc<str>],
    ) -> impl Future<Output = Result<Vec<Option<TopicInfo>>, PortError>> + Send;

    /// Leaves the group.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Which member is wanted.
#[derive(Debug, Clone)]
pub struct PortRequest {
    pub pipeline: String,
    pub stage: String,
    pub group: String,
    pub from: Vec<Arc<str>>,
    /// Number of the task within the stage, on this node.
    pub task: u32,
}

/// Makes the ports of stages.
pub trait PortFactory: Send + Sync + 'static {
    type Port: StagePort;

    fn open(&self, request: PortRequest) -> impl Future<Output = Result<Self::Port, PortError>> + Send;
}
