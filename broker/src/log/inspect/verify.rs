//! Checking everything that a log dir holds against everything else.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_record::RecordBatch;

use super::{OverlayDisk, open_segment};
use crate::clock::SharedClock;
use crate::log::LogNumber;
use crate::log::batch::{BatchMeta, IndexEntry};
use crate::log::config::LogDirConfig;
use crate::log::dir::{LogDir, LogDirContext};
use crate::log::disk::Disk;
use crate::log::error::{OpenError, StorageError};
use crate::log::metrics::NoMetrics;
use crate::log::partition::Log;
use crate::log::recovery::{self, batch_is_intact};
use crate::log::schema::{self, Entry, SegmentKind, decode_entries};
use crate::log::segment::SegmentReader;
use crate::log::state::Change;

/// Findings after which one segment is given up: a file that is all wrong is said so often enough.
const FINDINGS_PER_SEGMENT_MAX: usize = 100;

/// What was checked, and what was wrong.
#[derive(Debug, Default)]
pub struct Verification {
    pub segments: usize,
    /// Batches whose checksum was computed; one in several places counts for each.
    pub batches: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A segment, or the log dir.
    pub path: PathBuf,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Checks each segment by itself: its pieces, its entries, its index, and each batch that they refer
/// to. Then recovers the log dir in memory, and reads each log from end to end.
pub fn verify(dir: &Path, disk: &Arc<dyn Disk>, clock: SharedClock) -> Result<Verification, OpenError> {
    let mut verification = Verification::default();
    {
        let overlay = OverlayDisk::new(disk.clone());
        let _lock = recovery::lock(dir, &overlay)?;
        let names = overlay.list(dir).map_err(StorageError::io("list", dir));
        let names = names.map_err(|source| OpenError::Storage { path: dir.to_owned(), source })?;
        for number in recovery::segment_numbers(dir, &names) {
            let path = dir.join(schema::segment_file_name(number));
            let mut segment = SegmentCheck { path: path.clone(), verification: &mut verification, found: 0 };
            if let Err(error) = check_segment(&overlay, number, &mut segment) {
                segment.found(error_chain(&error));
            }
            verification.segments += 1;
        }
    }
    let overlay = Arc::new(OverlayDisk::new(disk.clone()));
    let context = LogDirContext { clock, disk: overlay, metrics: Arc::new(NoMetrics) };
    match LogDir::open(dir, LogDirConfig::default(), context) {
        Ok(log_dir) => {
            let mut logs = log_dir.logs();
            logs.sort_by_key(|log| log.number());
            for log in logs {
                if let Err(what) = check_log(&log, &mut verification) {
                    let what = format!("partition {}: {what}", log.topic_id_partition());
                    verification.findings.push(Finding { path: dir.to_owned(), what });
                }
            }
        }
        Err(error) => {
            verification.findings.push(Finding { path: dir.to_owned(), what: error_chain(&error) });
        }
    }
    Ok(verification)
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.fold(error.to_string(), |chain, cause| format!("{chain}: {cause}"))
}

/// What is being checked, and where to say what is wrong with it.
struct SegmentCheck<'a> {
    path: PathBuf,
    verification: &'a mut Verification,
    found: usize,
}

impl SegmentCheck<'_> {
    fn found(&mut self, what: impl Into<String>) {
        self.found += 1;
        if self.found <= FINDINGS_PER_SEGMENT_MAX {
            self.verification.findings.push(Finding { path: self.path.clone(), what: what.into() });
        }
    }

    /// Checks the bytes that an entry refers to; answers them if they are the batch.
    fn batch(
        &mut self,
        reader: &SegmentReader<'_>,
        log: LogNumber,
        entry: &IndexEntry,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        self.verification.batches += 1;
        self.verification.bytes += u64::from(entry.length);
        let bytes = reader.bytes(entry.position, entry.length as usize)?;
        let bytes = bytes.filter(|bytes| batch_is_intact(bytes, entry));
        if bytes.is_none() {
            let (log, offset, position) = (log.0, entry.base_offset, entry.position);
            self.found(format!("log {log}: the batch at offset {offset}, position {position}, is damaged"));
        }
        Ok(bytes)
    }
}

type EntriesByOffset = HashMap<(LogNumber, u64), IndexEntry>;

fn check_segment(disk: &OverlayDisk, number: u32, check: &mut SegmentCheck<'_>) -> Result<(), StorageError> {
    let segment = open_segment(disk, &check.path, number)?;
    let read = segment.read(disk, |reader| {
        let header = match recovery::read_header(reader, number)? {
            Ok(header) => header,
            Err(error) => {
                check.found(error_chain(&error));
                return Ok(());
            }
        };
        check_blocks(reader, check)?;
        let appended = match header.kind {
            SegmentKind::Appended => Some(check_entries(reader, header.first_commit, check)?),
            SegmentKind::Rewritten | SegmentKind::Compacted => None,
        };
        check_index(reader, appended.as_ref(), check)
    })?;
    read.expect("nobody retires a segment that is verified");
    Ok(())
}

fn check_blocks(reader: &SegmentReader<'_>, check: &mut SegmentCheck<'_>) -> Result<(), StorageError> {
    let mut end = 0;
    reader.each_block(|position, bytes| {
        if position != end {
            check.found(format!("the piece at position {position} should be at {end}"));
        }
        end = position + bytes.len() as u64;
        Ok(())
    })
}

/// Checks what the entries say of the batches; answers where each batch is.
fn check_entries(
    reader: &SegmentReader<'_>,
    first_commit: u64,
    check: &mut SegmentCheck<'_>,
) -> Result<EntriesByOffset, StorageError> {
    let mut appended = EntriesByOffset::new();
    let (mut next_commit, mut next_position) = (first_commit, 0);
    reader.each_commit(|commit, row| {
        if commit != next_commit {
            check.found(format!("commit {commit} is where {next_commit} should be"));
        }
        next_commit = commit + 1;
        let mut batches: Vec<(LogNumber, BatchMeta, u64)> = Vec::new();
        let end = decode_entries(row, |entry, position| {
            if let Entry::Change(log, Change::Append(batch)) = entry {
                batches.push((log, batch, position));
            }
        });
        if batches.first().is_some_and(|(_, _, position)| *position != next_position) {
            check.found(format!("commit {commit} doesn't begin at position {next_position}"));
        }
        next_position = end.map_err(StorageError::row(reader.path()))?;
        for (log, meta, position) in batches {
            let entry = IndexEntry::new(&meta, position);
            if let Some(bytes) = check.batch(reader, log, &entry)? {
                let batch = RecordBatch::new(&bytes).expect("it is intact");
                let mut expected = BatchMeta::new(&batch, meta.base_offset, meta.leader_epoch);
                if expected.max_timestamp < 0 {
                    // The entry has the time of the append where the records have none.
                    expected.max_timestamp = meta.max_timestamp;
                }
                if expected != meta || batch.partition_leader_epoch() != meta.leader_epoch.0 {
                    let offset = entry.base_offset;
                    check.found(format!("log {}: the entry of offset {offset} isn't its batch's", log.0));
                }
            }
            appended.insert((log, position), entry);
        }
        Ok(())
    })?;
    Ok(appended)
}

/// Checks a seal's index against the ranges, the entries, and the batches where there are no entries.
fn check_index(
    reader: &SegmentReader<'_>,
    appended: Option<&EntriesByOffset>,
    check: &mut SegmentCheck<'_>,
) -> Result<(), StorageError> {
    for (log, range) in reader.ranges()? {
        let (mut batches, mut bytes, mut next) = (0, 0, range.first_offset);
        reader.each_index_entry(log, i64::MIN, |entry| {
            if entry.base_offset < next || entry.end_offset() > range.end_offset {
                let offset = entry.base_offset;
                check.found(format!("log {}: the index has offset {offset} out of order", log.0));
            }
            next = entry.end_offset();
            batches += 1;
            bytes += u64::from(entry.length);
            match appended {
                None => drop(check.batch(reader, log, entry)?),
                Some(appended) if appended.get(&(log, entry.position)) == Some(entry) => {}
                Some(_) => {
                    let offset = entry.base_offset;
                    check.found(format!("log {}: no entry is like the index at offset {offset}", log.0));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if (batches, bytes) != (range.batches, range.bytes) {
            let (log, expected) = (log.0, range.batches);
            check.found(format!("log {log}: the index has {batches} batches, the range says {expected}"));
        }
    }
    Ok(())
}

/// Reads a log from end to end.
fn check_log(log: &Log, verification: &mut Verification) -> Result<(), String> {
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    let mut next = start;
    let mut gaps = BTreeMap::new();
    let segments: Vec<_> = log.inner().spans.iter().map(|span| span.segment.clone()).collect();
    for segment in segments {
        log.each_entry(&segment, start, |reader, entry| {
            if entry.last_offset < start {
                return Ok(ControlFlow::Continue(()));
            }
            if entry.base_offset > next && segment.kind() != SegmentKind::Compacted {
                gaps.insert(next, entry.base_offset);
            }
            next = entry.end_offset();
            verification.batches += 1;
            verification.bytes += u64::from(entry.length);
            let bytes = reader.bytes(entry.position, entry.length as usize)?;
            if bytes.is_none_or(|bytes| !batch_is_intact(&bytes, entry)) {
                let what = format!("the batch at offset {} is damaged", entry.base_offset);
                return Err(StorageError::inconsistent(reader.path(), what));
            }
            Ok(ControlFlow::Continue(()))
        })
        .map_err(|error| error_chain(&error))?;
    }
    let last = log.inner().spans.last().map(|span| (span.end_offset, span.segment.kind()));
    if next < end && last != Some((end, SegmentKind::Compacted)) {
        gaps.insert(next, end);
    }
    match gaps.pop_first() {
        None => Ok(()),
        Some((from, to)) => Err(format!("offsets {from} to {to} are missing")),
    }
}
