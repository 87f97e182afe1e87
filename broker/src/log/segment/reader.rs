//! Reading a segment's tables from one snapshot.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use redb::{OwnedAccessGuard, ReadOnlyTable, ReadTransaction, TableError};

use crate::log::LogNumber;
use crate::log::batch::IndexEntry;
use crate::log::error::StorageError;
use crate::log::schema::{self, BLOCKS, CHECKPOINT, ENTRIES, INDEX, RANGES, SEGMENT};

/// A piece of the segment's batches.
#[derive(Debug, Clone)]
pub(crate) struct BlockPiece {
    pub(crate) position: u64,
    pub(crate) data: Bytes,
}

impl BlockPiece {
    fn holds(&self, position: u64) -> bool {
        position.checked_sub(self.position).is_some_and(|at| at < self.data.len() as u64)
    }
}

/// Whether the pages of the file stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// It is sealed: a piece can be the page that it was read into, for as long as somebody has it.
    Kept,
    /// It is written: whoever held on to a page would hold on to all that later commits replace.
    Replaced,
}

/// A page as it was read.
struct Page(OwnedAccessGuard<&'static [u8]>);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// One snapshot. Short-lived: it pins the pages that later commits replace.
pub(crate) struct SegmentReader<'a> {
    path: &'a Path,
    transaction: ReadTransaction,
    pages: Pages,
    /// The piece that was read last: the next batch is often in it, too.
    last_piece: RefCell<Option<BlockPiece>>,
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn new(path: &'a Path, transaction: ReadTransaction, pages: Pages) -> Self {
        Self { path, transaction, pages, last_piece: RefCell::default() }
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// A row of the `segment` table.
    pub(crate) fn segment_row(&self, key: u8) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(table) = self.table(SEGMENT)? else { return Ok(None) };
        let row = table.get(key).map_err(StorageError::segment(self.path))?;
        Ok(row.map(|row| row.value().to_vec()))
    }

    /// The piece that holds the byte at `position`.
    pub(crate) fn block_at(&self, position: u64) -> Result<Option<BlockPiece>, StorageError> {
        let last = self.last_piece.borrow().clone();
        if let Some(last) = last.filter(|last| last.holds(position)) {
            return Ok(Some(last));
        }
        let failed = StorageError::segment(self.path);
        let Some(table) = self.table(BLOCKS)? else { return Ok(None) };
        let mut range = table.range_owned(..=position).map_err(StorageError::segment(self.path))?;
        let Some(row) = range.next_back() else { return Ok(None) };
        let (start, data) = row.map_err(failed)?;
        let data = match self.pages {
            Pages::Kept => Bytes::from_owner(Page(data)),
            Pages::Replaced => Bytes::copy_from_slice(data.value()),
        };
        let piece = BlockPiece { position: start.value(), data };
        self.last_piece.replace(Some(piece.clone()));
        Ok(Some(piece).filter(|piece| piece.holds(position)))
    }

    /// A copy of the bytes from `position` on; `None` if not all of them are there.
    pub(crate) fn bytes(&self, mut position: u64, length: usize) -> Result<Option<Vec<u8>>, StorageError> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let Some(piece) = self.block_at(position)? else { return Ok(None) };
            let skip = (position - piece.position) as usize;
            let take = (length - bytes.len()).min(piece.data.len() - skip);
            bytes.extend_from_slice(&piece.data[skip..skip + take]);
            position += take as u64;
        }
        Ok(Some(bytes))
    }

    /// The positions and bytes of all pieces, ascending.
    pub(crate) fn each_block(
        &self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let Some(table) = self.table(BLOCKS)? else { return Ok(()) };
        for row in table.range::<u64>(..).map_err(StorageError::segment(self.path))? {
            let (position, data) = row.map_err(StorageError::segment(self.path))?;
            each(position.value(), data.value())?;
        }
        Ok(())
    }

    /// The packed entries of each commit, ascending.
    pub(crate) fn each_commit(
        &self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let Some(table) = self.table(ENTRIES)? else { return Ok(()) };
        let mut pending: Option<(u64, Vec<u8>)> = None;
        for row in table.range::<u64>(..).map_err(StorageError::segment(self.path))? {
            let (key, piece) = row.map_err(StorageError::segment(self.path))?;
            let commit = schema::entries_commit(key.value());
            match &mut pending {
                Some((number, bytes)) if *number == commit => bytes.extend_from_slice(piece.value()),
                _ => {
                    if let Some((number, bytes)) = pending.replace((commit, piece.value().to_vec())) {
                        each(number, &bytes)?;
                    }
                }
            }
        }
        match pending {
            Some((number, bytes)) => each(number, &bytes),
            None => Ok(()),
        }
    }

    /// The checkpoint's rows, by log number.
    pub(crate) fn each_checkpoint(
        &self,
        mut each: impl FnMut(LogNumber, &[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let Some(table) = self.table(CHECKPOINT)? else { return Ok(()) };
        for row in table.range::<u32>(..).map_err(StorageError::segment(self.path))? {
            let (log, state) = row.map_err(StorageError::segment(self.path))?;
            each(LogNumber(log.value()), state.value())?;
        }
        Ok(())
    }

    /// What a sealed segment holds, by log number.
    pub(crate) fn ranges(&self) -> Result<Vec<(LogNumber, schema::Range)>, StorageError> {
        let Some(table) = self.table(RANGES)? else { return Ok(Vec::new()) };
        let mut ranges = Vec::new();
        for row in table.range::<u32>(..).map_err(StorageError::segment(self.path))? {
            let (log, range) = row.map_err(StorageError::segment(self.path))?;
            let range = schema::Range::decode(range.value()).map_err(StorageError::row(self.path))?;
            ranges.push((LogNumber(log.value()), range));
        }
        Ok(ranges)
    }

    /// Hands out a log's index entries in a sealed segment, ascending, from the chunk on that may
    /// hold `from`; so some may end before it.
    pub(crate) fn each_index_entry(
        &self,
        log: LogNumber,
        from: i64,
        mut each: impl FnMut(&IndexEntry) -> Result<ControlFlow<()>, StorageError>,
    ) -> Result<(), StorageError> {
        let Some(table) = self.table(INDEX)? else { return Ok(()) };
        let failed = StorageError::segment(self.path);
        let first = {
            let mut before =
                table.range((log.0, i64::MIN)..=(log.0, from)).map_err(StorageError::segment(self.path))?;
            match before.next_back() {
                Some(row) => row.map_err(&failed)?.0.value(),
                None => (log.0, i64::MIN),
            }
        };
        for row in table.range(first..=(log.0, i64::MAX)).map_err(StorageError::segment(self.path))? {
            let (_, chunk) = row.map_err(&failed)?;
            let chunk = schema::decode_index_chunk(chunk.value()).map_err(StorageError::row(self.path))?;
            for entry in &chunk {
                if each(entry)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Hands out the whole index of a sealed segment: each log's entries, some at a time, ascending.
    pub(crate) fn each_index_row(
        &self,
        mut each: impl FnMut(LogNumber, &[IndexEntry]),
    ) -> Result<(), StorageError> {
        let Some(table) = self.table(INDEX)? else { return Ok(()) };
        for row in table.range::<(u32, i64)>(..).map_err(StorageError::segment(self.path))? {
            let (key, chunk) = row.map_err(StorageError::segment(self.path))?;
            let chunk = schema::decode_index_chunk(chunk.value()).map_err(StorageError::row(self.path))?;
            each(LogNumber(key.value().0), &chunk);
        }
        Ok(())
    }

    /// A table that nothing was written to doesn't exist.
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: redb::TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, StorageError> {
        match self.transaction.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(StorageError::segment(self.path)(error)),
        }
    }
}
