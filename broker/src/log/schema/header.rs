//! Rows of the `segment` table: the header and the seal.

use super::packed::{MalformedRow, PackedReader, PackedWriter};

const HEADER_ROW_VERSION: u8 = 1;
const SEAL_ROW_VERSION: u8 = 1;

/// Written by a segment's first commit. The format version comes first and stays there for ever, so
/// that any release can say which one a file needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) format_version: u16,
    pub(crate) number: u32,
    /// The first commit whose entries are here.
    pub(crate) first_commit: u64,
    /// Log numbers from here on have not been given out when the segment was opened.
    pub(crate) next_log_number: u32,
    pub(crate) kind: SegmentKind,
    /// The older segments that there were, ascending: one that is missing was lost, unless an entry
    /// says that it was removed.
    pub(crate) older: Vec<u32>,
}

/// How a segment's batches came into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// They were appended.
    Appended,
    /// They were copied out of an older file of the same number. There are no `entries`.
    Rewritten,
    /// They were copied out of other segments, by compaction. There are no `entries`, and offsets are missing.
    Compacted,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = PackedWriter::new(HEADER_ROW_VERSION);
        row.raw(&self.format_version.to_le_bytes());
        row.varint(u64::from(self.number));
        row.varint(self.first_commit);
        row.varint(u64::from(self.next_log_number));
        row.u8(match self.kind {
            SegmentKind::Appended => 0,
            SegmentKind::Rewritten => 1,
            SegmentKind::Compacted => 2,
        });
        row.varint(self.older.len() as u64);
        let mut before = 0;
        for number in &self.older {
            row.varint(u64::from(number - before));
            before = *number;
        }
        row.finish()
    }

    /// The format version alone: what is after it may be of a later release.
    pub(crate) fn decode_format_version(row: &[u8]) -> Result<u16, MalformedRow> {
        let bytes = row.get(1..3).and_then(|bytes| bytes.try_into().ok()).ok_or(MalformedRow::Short)?;
        Ok(u16::from_le_bytes(bytes))
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, MalformedRow> {
        let mut row = PackedReader::new(row, HEADER_ROW_VERSION)?;
        let mut header = Self {
            format_version: u16::from_le_bytes(row.raw()?),
            number: row.narrow()?,
            first_commit: row.varint()?,
            next_log_number: row.narrow()?,
            kind: match row.u8()? {
                0 => SegmentKind::Appended,
                1 => SegmentKind::Rewritten,
                2 => SegmentKind::Compacted,
                tag => return Err(MalformedRow::Tag(tag)),
            },
            older: Vec::new(),
        };
        let mut number = 0u32;
        for _ in 0..row.varint()? {
            number = number.checked_add(row.narrow()?).ok_or(MalformedRow::Range)?;
            header.older.push(number);
        }
        row.end()?;
        Ok(header)
    }
}

/// Written by a segment's last commit, with its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealRow {
    /// The commit after the last one here.
    pub(crate) end_commit: u64,
    /// Bytes of batches in `blocks`.
    pub(crate) end_position: u64,
}

impl SealRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = PackedWriter::new(SEAL_ROW_VERSION);
        row.varint(self.end_commit);
        row.varint(self.end_position);
        row.finish()
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, MalformedRow> {
        let mut row = PackedReader::new(row, SEAL_ROW_VERSION)?;
        let seal = Self { end_commit: row.varint()?, end_position: row.varint()? };
        row.end()?;
        Ok(seal)
    }
}
