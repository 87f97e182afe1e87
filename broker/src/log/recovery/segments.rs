//! Opening the segments of a log dir one by one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream_record::RecordBatch;

use crate::ids::{Offset, TopicIdPartition};
use crate::log::LogNumber;
use crate::log::batch::IndexEntry;
use crate::log::dir::DirShared;
use crate::log::disk::Access;
use crate::log::error::{OpenError, StorageError};
use crate::log::partition::LogInner;
use crate::log::roll::{LogIndex, UNFINISHED_SUFFIX, write_index};
use crate::log::schema::{self, Entry, FORMAT_VERSION, SealRow, SegmentHeader, decode_entries};
use crate::log::segment::{Segment, SegmentReader, open_writable};
use crate::log::state::LogState;

/// The segments that the file names are of, ascending.
pub(in crate::log) fn segment_numbers(dir: &Path, names: &[String]) -> Vec<u32> {
    let mut numbers = Vec::new();
    for name in names {
        match schema::segment_number(name) {
            Some(number) => numbers.push(number),
            None if name.starts_with('.') || name.ends_with(UNFINISHED_SUFFIX) => {}
            None => tracing::warn!(dir = %dir.display(), name, "leaving a file alone that isn't a segment"),
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Removes segments that a crash caught before they counted.
pub(super) fn remove_unfinished(shared: &DirShared, names: &[String]) -> Result<(), StorageError> {
    let segment = |name: &String| name.strip_suffix(UNFINISHED_SUFFIX).and_then(schema::segment_number);
    for name in names.iter().filter(|name| segment(name).is_some()) {
        let path = shared.path.join(name);
        shared.disk.remove(&path).map_err(StorageError::io("remove", &path))?;
    }
    Ok(())
}

/// A segment that another one follows.
pub(super) struct OldSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) ranges: Vec<(LogNumber, schema::Range)>,
}

/// Reads what an old segment holds. If the crash came before its seal, it is sealed; if the crash
/// came before it was closed, redb repairs it.
pub(super) fn load_old_segment(shared: &DirShared, number: u32) -> Result<OldSegment, OpenError> {
    let path = shared.path.join(schema::segment_file_name(number));
    let failed = |source| OpenError::Storage { path: shared.path.clone(), source };
    let id = shared.next_segment_id();
    let sealed = Segment::sealed(number, id, path.clone());
    match read_sealed(shared, &sealed) {
        Ok(Ok(ranges)) => {
            sealed.shut();
            return Ok(OldSegment { segment: Arc::new(sealed), ranges });
        }
        Ok(Err(error)) if !matches!(error, OpenError::NotASegment { .. }) => return Err(error),
        // It wasn't closed, or not sealed: the writable open below tells what else it may be.
        Ok(Err(_)) | Err(StorageError::Segment { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    tracing::info!(segment = %path.display(), "sealing a segment that the last run left open");
    drop(sealed);
    let database = open_writable(&*shared.disk, &path, Access::Write).map_err(failed)?;
    let segment = Arc::new(Segment::writable(number, id, path, database));
    let read = segment.read(&*shared.disk, |reader| {
        if let Err(error) = read_header(reader, number)? {
            return Ok(Err(error));
        }
        match reader.segment_row(schema::SEGMENT_SEAL)? {
            Some(_) => Ok(Ok(None)),
            None => rebuild_index(reader, &segment).map(|rebuilt| Ok(Some(rebuilt))),
        }
    });
    let (rebuilt, _) = read.map_err(failed)?.expect("nobody retires a segment during recovery");
    if let Some((logs, seal)) = rebuilt? {
        let indexes =
            logs.iter().filter_map(|(log, inner)| LogIndex::new(inner, &segment).map(|index| (*log, index)));
        segment.write(|database| write_index(database, &segment, indexes, &seal)).map_err(failed)?;
    }
    segment.close_writable().map_err(failed)?;
    match read_sealed(shared, &segment).map_err(failed)? {
        Ok(ranges) => Ok(OldSegment { segment, ranges }),
        Err(error) => Err(error),
    }
}

/// What a sealed segment holds.
fn read_sealed(
    shared: &DirShared,
    segment: &Segment,
) -> Result<Result<Vec<(LogNumber, schema::Range)>, OpenError>, StorageError> {
    let read = segment.read(&*shared.disk, |reader| {
        match read_header(reader, segment.number)? {
            Ok(header) => segment.set_kind(header.kind),
            Err(error) => return Ok(Err(error)),
        }
        let Some(seal) = reader.segment_row(schema::SEGMENT_SEAL)? else {
            let what = "it isn't sealed".to_owned();
            return Ok(Err(OpenError::NotASegment { path: reader.path().to_owned(), what }));
        };
        let seal = SealRow::decode(&seal).map_err(StorageError::row(reader.path()))?;
        segment.set_bytes(seal.end_position);
        reader.ranges().map(Ok)
    })?;
    let (ranges, _) = read.expect("nobody retires a segment during recovery");
    Ok(ranges)
}

/// Reads a segment's header, and checks that this release understands what follows.
pub(in crate::log) fn read_header(
    reader: &SegmentReader<'_>,
    number: u32,
) -> Result<Result<SegmentHeader, OpenError>, StorageError> {
    let path = reader.path();
    let not_a_segment = |what: String| Ok(Err(OpenError::NotASegment { path: path.to_owned(), what }));
    let Some(row) = reader.segment_row(schema::SEGMENT_HEADER)? else {
        return not_a_segment("it has no header".to_owned());
    };
    let found = SegmentHeader::decode_format_version(&row).map_err(StorageError::row(path))?;
    if found > FORMAT_VERSION {
        let (path, supported) = (path.to_owned(), FORMAT_VERSION);
        return Ok(Err(OpenError::NewerFormat { path, found, supported }));
    }
    let header = SegmentHeader::decode(&row).map_err(StorageError::row(path))?;
    if header.number != number {
        return not_a_segment(format!("it was segment {}", header.number));
    }
    Ok(Ok(header))
}

type RebuiltIndex = (BTreeMap<LogNumber, LogInner>, SealRow);

/// The index of a segment, from its entries.
fn rebuild_index(reader: &SegmentReader<'_>, segment: &Arc<Segment>) -> Result<RebuiltIndex, StorageError> {
    let mut logs: BTreeMap<LogNumber, LogInner> = BTreeMap::new();
    let mut seal = SealRow { end_commit: 0, end_position: 0 };
    reader.each_commit(|commit, row| {
        seal.end_commit = commit + 1;
        let end = decode_entries(row, |entry, position| match entry {
            Entry::Delete(number) => drop(logs.remove(&number)),
            Entry::Create(..) | Entry::RemoveSegment(_) | Entry::AddSegment(_) => {}
            Entry::Change(number, change) => {
                // Only the spans count here; the state is the next segment's checkpoint.
                let inner = logs.entry(number).or_insert_with(|| LogInner::new(LogState::default()));
                inner.apply(segment, &change, position);
            }
        });
        seal.end_position = end.map_err(StorageError::row(reader.path()))?;
        Ok(())
    })?;
    Ok((logs, seal))
}

/// Checks the checksums of batches: what a torn write or a lost one would have broken.
pub(super) fn check_batches(
    shared: &DirShared,
    segment: &Segment,
    batches: &[(TopicIdPartition, IndexEntry)],
) -> Result<(), OpenError> {
    let read = segment.read(&*shared.disk, |reader| {
        for (partition, entry) in batches {
            let Some(bytes) = reader.bytes(entry.position, entry.length as usize)? else {
                return Ok(Some((*partition, entry.base_offset)));
            };
            if !batch_is_intact(&bytes, entry) {
                return Ok(Some((*partition, entry.base_offset)));
            }
        }
        Ok(None)
    });
    let read = read.map_err(|source| OpenError::Storage { path: shared.path.clone(), source })?;
    match read.expect("nobody retires a segment during recovery").0 {
        None => Ok(()),
        Some((partition, offset)) => {
            let (path, offset) = (segment.path.clone(), Offset(offset));
            Err(OpenError::DamagedBatch { path, partition, offset })
        }
    }
}

/// Whether bytes are the batch that an index entry is of.
pub(in crate::log) fn batch_is_intact(bytes: &[u8], entry: &IndexEntry) -> bool {
    let Ok(batch) = RecordBatch::new(bytes) else { return false };
    let is_this = batch.base_offset() == entry.base_offset && batch.last_offset() == entry.last_offset;
    is_this && bytes.len() == entry.length as usize && batch.verify_crc().is_ok()
}
