//! The port to `__consumer_offsets`.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::AppendError;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex};

/// The partitions of `__consumer_offsets` that this broker leads.
pub trait OffsetsLog: Send + Sync + 'static {
    /// Appends the records as one batch and resolves when it is committed: durable on every replica in sync.
    /// Fails with [`AppendError::NotLeader`] unless the broker leads the partition in `leader_epoch`. Dropping
    /// the future does not take the records back.
    fn append(
        &self,
        partition: PartitionIndex,
        leader_epoch: LeaderEpoch,
        records: Vec<LogRecord>,
    ) -> BoxFuture<'static, Result<(), AppendError>>;

    /// Reads on at `from`, which is the log's start when 0 and no more. A chunk is as long as is convenient to
    /// hold in memory.
    fn read(
        &self,
        partition: PartitionIndex,
        from: Offset,
    ) -> BoxFuture<'static, Result<LogChunk, ReadError>>;
}

/// A record of `__consumer_offsets` as it is stored; without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    pub records: Vec<LogRecord>,
    /// Where to read on, or `None` at the end of what is committed.
    pub next: Option<Offset>,
}

/// Why a partition could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("read partition")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}
