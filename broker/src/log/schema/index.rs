//! A sealed segment's index: where a log's batches lie, in chunks, and what there is of each log.

use super::packed::{MalformedRow, PackedReader, PackedWriter, add};
use crate::log::batch::IndexEntry;

const INDEX_ROW_VERSION: u8 = 1;
const RANGE_ROW_VERSION: u8 = 2;
/// Without `compacted_end`.
const RANGE_ROW_VERSION_1: u8 = 1;

/// Batches per chunk: a row of about 2 KB, so that two share a page and a lookup reads one.
pub(crate) const INDEX_CHUNK_ENTRIES: usize = 192;

/// What a segment holds of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first_offset: i64,
    /// Exclusive.
    pub(crate) end_offset: i64,
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) max_timestamp: i64,
    /// Below this, compaction has looked at every record; 0 where it has at none.
    pub(crate) compacted_end: i64,
}

impl Range {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = PackedWriter::new(RANGE_ROW_VERSION);
        row.varint(self.first_offset as u64);
        row.varint((self.end_offset - self.first_offset) as u64);
        row.varint(self.bytes);
        row.varint(self.batches);
        row.signed(self.max_timestamp);
        row.varint(self.compacted_end as u64);
        row.finish()
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, MalformedRow> {
        let version =
            if row.first() == Some(&RANGE_ROW_VERSION_1) { RANGE_ROW_VERSION_1 } else { RANGE_ROW_VERSION };
        let mut row = PackedReader::new(row, version)?;
        let first_offset: i64 = row.narrow()?;
        let range = Self {
            first_offset,
            end_offset: add(first_offset, row.narrow()?)?,
            bytes: row.varint()?,
            batches: row.varint()?,
            max_timestamp: row.signed()?,
            compacted_end: if version == RANGE_ROW_VERSION { row.narrow()? } else { 0 },
        };
        row.end()?;
        Ok(range)
    }
}

/// Packs a chunk; the entries ascend by offset. Positions may not: a rewrite keeps them ascending,
/// commits do too, but nothing here needs it.
pub(crate) fn encode_index_chunk(entries: &[IndexEntry]) -> Vec<u8> {
    assert!((1..=INDEX_CHUNK_ENTRIES).contains(&entries.len()), "chunks are cut to size");
    let mut row = PackedWriter::new(INDEX_ROW_VERSION);
    row.varint(entries.len() as u64);
    let (mut offset, mut position, mut timestamp) = (0i64, 0u64, 0i64);
    for entry in entries {
        row.varint((entry.base_offset - offset) as u64);
        row.varint((entry.last_offset - entry.base_offset) as u64);
        row.signed(entry.position.wrapping_sub(position) as i64);
        row.varint(u64::from(entry.length));
        row.signed(entry.max_timestamp.wrapping_sub(timestamp));
        offset = entry.end_offset();
        position = entry.end_position();
        timestamp = entry.max_timestamp;
    }
    row.finish()
}

pub(crate) fn decode_index_chunk(row: &[u8]) -> Result<Vec<IndexEntry>, MalformedRow> {
    let mut row = PackedReader::new(row, INDEX_ROW_VERSION)?;
    let count: usize = row.narrow()?;
    if !(1..=INDEX_CHUNK_ENTRIES).contains(&count) {
        return Err(MalformedRow::Range);
    }
    let mut entries = Vec::with_capacity(count);
    let (mut offset, mut position, mut timestamp) = (0i64, 0u64, 0i64);
    for _ in 0..count {
        let base_offset = add(offset, row.narrow()?)?;
        let last_offset = add(base_offset, row.narrow::<i32>()?.into())?;
        let entry = IndexEntry {
            base_offset,
            last_offset,
            position: position.wrapping_add(row.signed()? as u64),
            length: row.narrow()?,
            max_timestamp: timestamp.wrapping_add(row.signed()?),
        };
        offset = add(last_offset, 1)?;
        position = entry.position.checked_add(u64::from(entry.length)).ok_or(MalformedRow::Range)?;
        timestamp = entry.max_timestamp;
        entries.push(entry);
    }
    row.end()?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_survive(seeds in proptest::collection::vec(
            (0..1000i64, 0..5000i64, 0..1u64 << 40, any::<u32>(), any::<i64>()), 1..=INDEX_CHUNK_ENTRIES,
        )) {
            let mut next = 0;
            let entries: Vec<IndexEntry> = seeds.into_iter().map(|(gap, delta, position, length, ts)| {
                let base_offset = next + gap;
                next = base_offset + delta + 1;
                IndexEntry { base_offset, last_offset: next - 1, position, length, max_timestamp: ts }
            }).collect();
            prop_assert_eq!(decode_index_chunk(&encode_index_chunk(&entries)).unwrap(), entries);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut row = PackedWriter::new(INDEX_ROW_VERSION);
            row.raw(&bytes);
            let row = row.finish();
            let _ = decode_index_chunk(&row);
            let _ = Range::decode(&row);
        }
    }
}
