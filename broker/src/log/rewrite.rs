//! Writing a sealed segment anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use redb::{Database, WriteTransaction};

use super::LogNumber;
use super::batch::IndexEntry;
use super::dir::DirShared;
use super::error::StorageError;
use super::partition::Log;
use super::pieces::{PIECE_BYTES_MAX, piece_lengths};
use super::reclaim::each_live_batch;
use super::roll::{LogIndex, write_index_rows};
use super::schema::{self, BLOCKS, Range, SEGMENT, SealRow, SegmentHeader};
use super::segment::Segment;

/// One transaction that fills the new file.
pub(crate) struct Rewrite<'a> {
    path: &'a Path,
    transaction: WriteTransaction,
    /// Bytes that aren't a whole piece yet.
    pending: BytesMut,
    /// Where `pending` goes.
    position: u64,
    indexes: BTreeMap<LogNumber, LogIndex>,
    end_commit: u64,
}

impl<'a> Rewrite<'a> {
    pub(crate) fn begin(
        shared: &DirShared,
        database: &Database,
        path: &'a Path,
        old: &Segment,
    ) -> Result<Self, StorageError> {
        let read = old.read(&*shared.disk, |reader| {
            let row = |key| {
                let missing = || StorageError::inconsistent(reader.path(), "it has no header or seal");
                reader.segment_row(key)?.ok_or_else(missing)
            };
            let header = SegmentHeader::decode(&row(schema::SEGMENT_HEADER)?);
            let seal = SealRow::decode(&row(schema::SEGMENT_SEAL)?);
            let failed = StorageError::row(reader.path());
            Ok((header.map_err(&failed)?, seal.map_err(&failed)?))
        })?;
        let ((header, seal), _) = read.expect("reclaiming alone retires segments, one at a time");
        let header = SegmentHeader { is_rewritten: true, ..header }.encode();
        let transaction = database.begin_write().map_err(StorageError::segment(path))?;
        {
            let mut rows = transaction.open_table(SEGMENT).map_err(StorageError::segment(path))?;
            rows.insert(schema::SEGMENT_HEADER, header.as_slice()).map_err(StorageError::segment(path))?;
        }
        Ok(Self {
            path,
            transaction,
            pending: BytesMut::with_capacity(2 * PIECE_BYTES_MAX),
            position: 0,
            indexes: BTreeMap::new(),
            end_commit: seal.end_commit,
        })
    }

    pub(crate) fn copy_log(&mut self, log: &Log, old: &Arc<Segment>) -> Result<(), StorageError> {
        let mut entries: Vec<IndexEntry> = Vec::new();
        let log_start = log.log_start_offset().0;
        each_live_batch(log, old, |entry, bytes| {
            let position = self.position + self.pending.len() as u64;
            entries.push(IndexEntry { position, ..*entry });
            self.pending.put_slice(&bytes);
            self.write_pieces(PIECE_BYTES_MAX)
        })?;
        let offsets = log.inner().offsets_in(old);
        if let Some(offsets) = offsets {
            // What lies before the log start is gone, but for the batch that it lies in.
            let first_kept = entries.first().map_or(offsets.end, |first| first.base_offset);
            let offsets = offsets.start.max(log_start.min(first_kept))..offsets.end;
            self.indexes.insert(log.number(), LogIndex::of_entries(&entries, offsets));
        }
        Ok(())
    }

    /// Completes the file; answers what it holds of each log, and how many bytes.
    pub(crate) fn finish(mut self) -> Result<(BTreeMap<LogNumber, Range>, u64), StorageError> {
        self.write_pieces(1)?;
        let seal = SealRow { end_commit: self.end_commit, end_position: self.position };
        let ranges = self.indexes.iter().map(|(log, index)| (*log, index.range)).collect();
        write_index_rows(&self.transaction, self.path, self.indexes.into_iter(), &seal)?;
        self.transaction.commit().map_err(StorageError::segment(self.path))?;
        Ok((ranges, seal.end_position))
    }

    /// Writes what is pending, while there is at least so much.
    fn write_pieces(&mut self, bytes_min: usize) -> Result<(), StorageError> {
        if self.pending.len() < bytes_min {
            return Ok(());
        }
        let mut blocks = self.transaction.open_table(BLOCKS).map_err(StorageError::segment(self.path))?;
        while self.pending.len() >= bytes_min {
            let length = piece_lengths(self.pending.len()).next().expect("there is a byte at least");
            let piece = self.pending.split_to(length);
            blocks.insert(self.position, piece.as_ref()).map_err(StorageError::segment(self.path))?;
            self.position += length as u64;
        }
        Ok(())
    }
}
