//! What storage tells of itself.

use std::time::Duration;

use super::compaction::Compacted;

/// One commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStats {
    pub batches: usize,
    pub bytes: u64,
    /// Logs that it touched.
    pub logs: usize,
    /// From the queue to the disk: laying out, writing, syncing.
    pub duration: Duration,
}

/// Counters of a log dir; each call is short and never blocks.
pub trait LogMetrics: Send + Sync {
    fn committed(&self, _stats: &CommitStats) {}
    /// A segment was sealed.
    fn sealed(&self, _duration: Duration) {}
    /// A reader took a piece from disk that was in no cache.
    fn read_from_disk(&self, _bytes: usize) {}
    /// Segments were removed or rewritten, and gave back that many bytes.
    fn reclaimed(&self, _bytes: u64) {}
    /// Logs were compacted.
    fn compacted(&self, _compacted: &Compacted) {}
    /// A log can't be read, and is not compacted until the node starts again.
    fn uncleanable(&self) {}
    /// A scrub read so many bytes, and found so many batches damaged.
    fn scrubbed(&self, _bytes: u64, _damaged: u64) {}
    /// The log dir failed.
    fn fenced(&self) {}
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMetrics;

impl LogMetrics for NoMetrics {}
