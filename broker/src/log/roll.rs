//! From one segment to the next: the new one's checkpoint, the old one's seal.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{Database, WriteTransaction};

use super::LogNumber;
use super::batch::IndexEntry;
use super::dir::DirShared;
use super::disk::Access;
use super::error::StorageError;
use super::partition::{Log, LogInner};
use super::schema::{self, CHECKPOINT, INDEX, RANGES, SEGMENT, SealRow, SegmentHeader, SegmentKind};
use super::segment::{Segment, open_writable};
use super::span::SpanIndex;

/// What a file is called until its first commit is synced, so that a file with a segment's name
/// always is one.
pub(crate) const UNFINISHED_SUFFIX: &str = ".tmp";

/// From one segment's number to the next: those between are for the compacted segments that come before it.
pub(crate) const SEGMENT_NUMBER_STEP: u32 = 64;

/// Opens a new segment whose checkpoint holds `logs`.
pub(crate) fn create_segment(
    shared: &DirShared,
    number: u32,
    first_commit: u64,
    logs: &BTreeMap<LogNumber, Arc<Log>>,
) -> Result<Arc<Segment>, StorageError> {
    let name = schema::segment_file_name(number);
    let path = shared.path.join(&name);
    let unfinished = shared.path.join(name + UNFINISHED_SUFFIX);
    let database = open_writable(&*shared.disk, &unfinished, Access::Create)?;

    let header = SegmentHeader {
        format_version: schema::FORMAT_VERSION,
        number,
        first_commit,
        next_log_number: shared.next_log_number.load(Ordering::Acquire),
        kind: SegmentKind::Appended,
        older: shared.segments().keys().copied().collect(),
    };
    let transaction = database.begin_write().map_err(StorageError::segment(&path))?;
    {
        let mut rows = transaction.open_table(SEGMENT).map_err(StorageError::segment(&path))?;
        let header = header.encode();
        rows.insert(schema::SEGMENT_HEADER, header.as_slice()).map_err(StorageError::segment(&path))?;
        let mut rows = transaction.open_table(CHECKPOINT).map_err(StorageError::segment(&path))?;
        let now = shared.clock.wall_ms();
        for (number, log) in logs {
            let row = {
                let mut inner = log.inner_mut();
                inner.state.producer_states.expire(now, shared.config.producer_id_expiration_ms);
                schema::encode_checkpoint(&log.topic_id_partition(), &inner.state)
            };
            rows.insert(number.0, row.as_slice()).map_err(StorageError::segment(&path))?;
        }
    }
    transaction.commit().map_err(StorageError::segment(&path))?;
    shared.disk.rename(&unfinished, &path).map_err(StorageError::io("rename", &unfinished))?;
    shared.disk.sync_dir(&shared.path).map_err(StorageError::io("sync", &shared.path))?;

    let segment = Arc::new(Segment::writable(number, shared.next_segment_id(), path, database));
    segment.set_opened_ms(shared.clock.wall_ms());
    shared.segments_mut().insert(number, segment.clone());
    Ok(segment)
}

/// Seals a segment that nothing is appended to any more: writes its index, closes it, and lets the
/// logs forget the index in memory. Readers go on meanwhile.
pub(crate) fn write_seal(
    segment: &Arc<Segment>,
    logs: &[Arc<Log>],
    seal: &SealRow,
) -> Result<(), StorageError> {
    let indexes = logs.iter().filter_map(|log| {
        let index = LogIndex::new(&log.inner(), segment)?;
        Some((log.number(), index))
    });
    segment.write(|database| write_index(database, segment, indexes, seal))?;
    segment.close_writable()?;
    for log in logs {
        log.inner_mut().forget_index(segment);
    }
    // Only now: whoever rewrites a sealed segment takes its index from the file.
    segment.mark_sealed();
    Ok(())
}

/// A log's rows of a seal.
pub(crate) struct LogIndex {
    pub(crate) range: schema::Range,
    chunks: Vec<(i64, Vec<u8>)>,
}

impl LogIndex {
    /// What the segment holds of the log, if anything.
    pub(crate) fn new(inner: &LogInner, segment: &Arc<Segment>) -> Option<Self> {
        let span = inner.spans.iter().find(|span| Arc::ptr_eq(&span.segment, segment))?;
        let SpanIndex::Memory(entries) = &span.index else {
            panic!("a segment is sealed once");
        };
        Some(Self::of_entries(entries, span.first_offset..span.end_offset, 0))
    }

    /// The index of ascending entries, which are all there is within the offsets.
    pub(crate) fn of_entries(entries: &[IndexEntry], offsets: Range<i64>, compacted_end: i64) -> Self {
        let range = schema::Range {
            first_offset: offsets.start,
            end_offset: offsets.end,
            bytes: entries.iter().map(|entry| u64::from(entry.length)).sum(),
            batches: entries.len() as u64,
            max_timestamp: entries.iter().map(|entry| entry.max_timestamp).max().unwrap_or(i64::MIN),
            compacted_end,
        };
        let chunks = entries.chunks(schema::INDEX_CHUNK_ENTRIES);
        let chunks = chunks.map(|chunk| (chunk[0].base_offset, schema::encode_index_chunk(chunk))).collect();
        Self { range, chunks }
    }
}

/// Writes the index of logs that come in ascending order, and the seal, as one commit.
pub(crate) fn write_index(
    database: &Database,
    segment: &Segment,
    indexes: impl Iterator<Item = (LogNumber, LogIndex)>,
    seal: &SealRow,
) -> Result<(), StorageError> {
    let path = &segment.path;
    let transaction = database.begin_write().map_err(StorageError::segment(path))?;
    write_index_rows(&transaction, path, indexes, seal)?;
    transaction.commit().map_err(StorageError::segment(path))
}

/// The rows of [`write_index`], in a transaction of the caller's.
pub(crate) fn write_index_rows(
    transaction: &WriteTransaction,
    path: &Path,
    indexes: impl Iterator<Item = (LogNumber, LogIndex)>,
    seal: &SealRow,
) -> Result<(), StorageError> {
    let mut index_rows = transaction.open_table(INDEX).map_err(StorageError::segment(path))?;
    let mut range_rows = transaction.open_table(RANGES).map_err(StorageError::segment(path))?;
    for (log, index) in indexes {
        for (base_offset, chunk) in &index.chunks {
            let key = (log.0, *base_offset);
            index_rows.insert(key, chunk.as_slice()).map_err(StorageError::segment(path))?;
        }
        let range = index.range.encode();
        range_rows.insert(log.0, range.as_slice()).map_err(StorageError::segment(path))?;
    }
    let mut rows = transaction.open_table(SEGMENT).map_err(StorageError::segment(path))?;
    let seal = seal.encode();
    rows.insert(schema::SEGMENT_SEAL, seal.as_slice()).map_err(StorageError::segment(path))?;
    Ok(())
}
