//! The format of a segment: its tables, their keys, and the packed rows in them.
//!
//! `docs/FORMAT.md` describes every byte. A change of layout raises a row's version, or
//! [`FORMAT_VERSION`] when an older release could misread the file.

mod checkpoint;
mod entries;
mod header;
mod index;
mod packed;

use redb::TableDefinition;

pub(crate) use checkpoint::{decode_checkpoint, encode_checkpoint};
pub(crate) use entries::{EntriesEncoder, Entry, decode_entries};
pub use header::SegmentKind;
pub(crate) use header::{SealRow, SegmentHeader};
pub(crate) use index::{INDEX_CHUNK_ENTRIES, Range, decode_index_chunk, encode_index_chunk};
pub use packed::MalformedRow;

/// Version of the segment format that this release writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 2;

/// What the segment is: [`SEGMENT_HEADER`] from its first commit, [`SEGMENT_SEAL`] from its last.
pub(crate) const SEGMENT: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("segment");
pub(crate) const SEGMENT_HEADER: u8 = 0;
pub(crate) const SEGMENT_SEAL: u8 = 1;

/// Position of the piece's first byte -> the piece: record batches end to end.
pub(crate) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");

/// [`entries_key`] -> a piece of the commit's packed entries.
pub(crate) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// Log number -> the log's state when the segment was opened.
pub(crate) const CHECKPOINT: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("checkpoint");

/// (Log number, first base offset) -> a chunk of the log's index. Written at the seal.
pub(crate) const INDEX: TableDefinition<'_, (u32, i64), &[u8]> = TableDefinition::new("index");

/// Log number -> what the segment holds of the log. Written at the seal.
pub(crate) const RANGES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("ranges");

/// Pieces that a commit's entries may have: the low bits of the key.
pub(crate) const ENTRIES_PIECES_MAX: u64 = 1 << 16;

/// The key of a piece of a commit's entries.
pub(crate) fn entries_key(commit: u64, piece: u64) -> u64 {
    assert!(piece < ENTRIES_PIECES_MAX, "a commit's entries are bounded by its commands");
    commit * ENTRIES_PIECES_MAX + piece
}

/// The commit that a key of the entries belongs to.
pub(crate) fn entries_commit(key: u64) -> u64 {
    key / ENTRIES_PIECES_MAX
}

/// The name of a segment's file.
pub(crate) fn segment_file_name(number: u32) -> String {
    format!("{number:010}.redb")
}

/// The number of a segment's file, if that is what the name is of.
pub(crate) fn segment_number(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_suffix(".redb")?;
    (digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
