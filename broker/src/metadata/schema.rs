//! What `meta.redb` holds: every table, key and format number, once.
//!
//! - `meta`: single values by name, see the constants
//! - `log`: index -> Raft entry
//! - `state`: `RowKey` as bytes -> `Row`: the applied state, which is the snapshot too

use redb::TableDefinition;

/// Written at creation. A higher number than the program's own is refused.
pub(super) const FORMAT_VERSION: u32 = 1;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
pub(super) const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");

/// `FORMAT_VERSION`, 4 bytes little-endian: readable by every version.
pub(super) const FORMAT: &str = "format";
/// `Identity`: whose file this is.
pub(super) const IDENTITY: &str = "identity";
/// `Origin`: not there in files of the time when a cluster had one broker.
pub(super) const ORIGIN: &str = "origin";
/// Raft's vote.
pub(super) const VOTE: &str = "vote";
/// The last log id known to be committed.
pub(super) const COMMITTED: &str = "committed";
/// The last log id removed from the front of the log.
pub(super) const PURGED: &str = "purged";
/// `AppliedState`, written with the rows that it speaks for.
pub(super) const APPLIED: &str = "applied";
/// Present once a snapshot was taken or installed. Its content is `state`.
pub(super) const SNAPSHOT: &str = "snapshot";
