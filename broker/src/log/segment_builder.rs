//! Writing a segment as a whole, partition after partition: what reclaiming and compaction make of older ones.

use std::collections::BTreeMap;
use std::ops::Range as Offsets;
use std::path::{Path, PathBuf};

use bytes::{BufMut, BytesMut};
use redb::{Database, WriteTransaction};

use super::LogNumber;
use super::batch::IndexEntry;
use super::error::StorageError;
use super::pieces::{PIECE_BYTES_MAX, piece_lengths};
use super::roll::{LogIndex, write_index_rows};
use super::schema::{self, BLOCKS, Range, SEGMENT, SealRow, SegmentHeader};

/// One transaction that fills a new file.
pub(crate) struct SegmentBuilder {
    path: PathBuf,
    transaction: WriteTransaction,
    /// Bytes that aren't a whole piece yet.
    pending: BytesMut,
    /// Where `pending` goes.
    position: u64,
    indexes: BTreeMap<LogNumber, LogIndex>,
}

impl SegmentBuilder {
    pub(crate) fn begin(
        database: &Database,
        path: &Path,
        header: &SegmentHeader,
    ) -> Result<Self, StorageError> {
        let transaction = database.begin_write().map_err(StorageError::segment(path))?;
        {
            let header = header.encode();
            let mut rows = transaction.open_table(SEGMENT).map_err(StorageError::segment(path))?;
            rows.insert(schema::SEGMENT_HEADER, header.as_slice()).map_err(StorageError::segment(path))?;
        }
        Ok(Self {
            path: path.to_owned(),
            transaction,
            pending: BytesMut::with_capacity(2 * PIECE_BYTES_MAX),
            position: 0,
            indexes: BTreeMap::new(),
        })
    }

    /// Bytes of batches so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.position + self.pending.len() as u64
    }

    /// Appends a batch; answers its position.
    pub(crate) fn put(&mut self, batch: &[u8]) -> Result<u64, StorageError> {
        let position = self.bytes();
        self.pending.put_slice(batch);
        self.write_pieces(PIECE_BYTES_MAX)?;
        Ok(position)
    }

    /// Ends a log: the entries are all that the segment has of it within the offsets. Logs ascend.
    pub(crate) fn end_log(
        &mut self,
        log: LogNumber,
        entries: &[IndexEntry],
        offsets: Offsets<i64>,
        compacted_end: i64,
    ) {
        self.indexes.insert(log, LogIndex::of_entries(entries, offsets, compacted_end));
    }

    /// Completes the file; answers what it holds of each log, and how many bytes.
    pub(crate) fn finish(
        mut self,
        end_commit: u64,
    ) -> Result<(BTreeMap<LogNumber, Range>, u64), StorageError> {
        self.write_pieces(1)?;
        let seal = SealRow { end_commit, end_position: self.position };
        let ranges = self.indexes.iter().map(|(log, index)| (*log, index.range)).collect();
        write_index_rows(&self.transaction, &self.path, self.indexes.into_iter(), &seal)?;
        self.transaction.commit().map_err(StorageError::segment(&self.path))?;
        Ok((ranges, seal.end_position))
    }

    /// Writes what is pending, while there is at least so much.
    fn write_pieces(&mut self, bytes_min: usize) -> Result<(), StorageError> {
        if self.pending.len() < bytes_min {
            return Ok(());
        }
        let mut blocks = self.transaction.open_table(BLOCKS).map_err(StorageError::segment(&self.path))?;
        while self.pending.len() >= bytes_min {
            let length = piece_lengths(self.pending.len()).next().expect("there is a byte at least");
            let piece = self.pending.split_to(length);
            blocks.insert(self.position, piece.as_ref()).map_err(StorageError::segment(&self.path))?;
            self.position += length as u64;
        }
        Ok(())
    }
}
