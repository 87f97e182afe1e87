//! A log dir's sizes and limits.

/// Named after Kafka's settings where Kafka has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirConfig {
    /// A segment is full at this size (`log.segment.bytes`). An unclean open walks the file, so it
    /// bounds the time of a restart after a crash.
    pub segment_bytes: u64,
    /// A segment is full at this many batches: its index is in memory until it is sealed, 40 bytes
    /// a batch.
    pub segment_entries_max: usize,
    /// Most that one commit takes from the queue.
    pub commit_bytes_max: usize,
    /// Most that may be queued: the backstop behind the broker's request memory.
    pub queue_bytes_max: usize,
    /// Memory for the latest commits.
    pub tail_cache_bytes: usize,
    /// Memory for what lagging consumers read.
    pub block_cache_bytes: usize,
    /// Sealed segments kept open, at up to 1 MiB of memory and one file handle each.
    pub open_segments_max: usize,
    /// A producer that was idle for so long is forgotten (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
}

impl Default for LogDirConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 512 << 20,
            segment_entries_max: 250_000,
            commit_bytes_max: 16 << 20,
            queue_bytes_max: 256 << 20,
            tail_cache_bytes: 32 << 20,
            block_cache_bytes: 16 << 20,
            open_segments_max: 16,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}
