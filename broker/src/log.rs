//! Storage: partitions' logs in log dirs of redb segments.
//!
//! ```text
//! Log::append ─> Queue ─> Writer (one thread per log dir)
//!                            │  Commit: what queued while the last one synced, laid end to end
//!                            │  one redb transaction, one sync: blocks + entries
//!                            ├─> TailCache (the same bytes)  ─> Log::read_cached
//!                            ├─> LogInner: state, spans      ─> offsets, epochs, producers
//!                            └─> LogListener::flushed
//! full segment: Writer ─> create_segment (checkpoint), and a thread that seals the old one (index)
//! Log::read_blocking ─> Span ─> tail cache, block cache, or Segment
//! ```
//!
//! **Invariant**: only this module names redb's types (the metadata log store aside).
//! **Invariant**: nothing is shown to readers or listeners before its commit was synced.
//! **Invariant**: a log dir that failed once is fenced until it is opened anew.
//!
//! `docs/FORMAT.md` is the format. The reading order below is a good one.

pub mod batch;
pub mod leader_epochs;
pub mod producer_states;
pub mod state;

mod schema;

pub mod config;
pub mod disk;
pub mod error;
pub mod metrics;

pub mod dir;
pub mod partition;
mod queue;
pub mod read;
mod span;

pub mod compaction;
pub mod reclaim;
pub mod retention;
pub mod scrub;

mod commit;
mod identity;
mod pieces;
mod roll;
mod segment_builder;
mod space_guard;
mod writer;

mod block_cache;
mod open_segments;
mod segment;
mod slices;
mod tail_cache;

pub mod inspect;
mod recovery;

pub mod testing;

/// A log's number within its log dir; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogNumber(pub u32);

pub use identity::LogDirOwner;
pub use schema::{FORMAT_VERSION, MalformedRow, SegmentKind};

#[cfg(test)]
mod tests;
