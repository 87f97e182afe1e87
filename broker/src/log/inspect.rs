//! Looking at the log dir of a node that isn't running, without changing it.
//!
//! A segment that a crash left open needs redb's repair, which writes. So everything is opened
//! through a disk that keeps writes in memory: repair and recovery run as they would in earnest, and
//! the files stay as they are.

mod overlay_disk;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use verify::{Finding, Verification, verify};

use self::overlay_disk::OverlayDisk;
use super::LogNumber;
use super::disk::{Access, Disk};
use super::error::{OpenError, StorageError};
use super::recovery;
use super::schema::{self, Entry, SealRow, SegmentHeader, SegmentKind, decode_checkpoint, decode_entries};
use super::segment::{Segment, SegmentId, SegmentReader, open_writable};
use super::state::Change;
use crate::ids::{Offset, TopicIdPartition};

/// A segment, as its file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    pub path: PathBuf,
    pub number: u32,
    pub format_version: u16,
    pub is_sealed: bool,
    pub kind: SegmentKind,
    pub file_bytes: u64,
    /// Bytes of batches, dead or alive.
    pub batch_bytes: u64,
    pub batches: u64,
    /// Commits from the first to before the second.
    pub commits: (u64, u64),
    /// What it holds of each log, dead or alive.
    pub logs: Vec<LogReport>,
}

/// What a segment holds of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    pub log: LogNumber,
    /// Unless the segment alone doesn't tell.
    pub partition: Option<TopicIdPartition>,
    pub first_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    pub batches: u64,
    pub bytes: u64,
}

/// Reports on each segment of a log dir, ascending.
pub fn inspect(dir: &Path, disk: &Arc<dyn Disk>) -> Result<Vec<SegmentReport>, OpenError> {
    let disk = OverlayDisk::new(disk.clone());
    let _lock = recovery::lock(dir, &disk)?;
    let failed = |source| OpenError::Storage { path: dir.to_owned(), source };
    let names = disk.list(dir).map_err(StorageError::io("list", dir)).map_err(failed)?;
    let mut reports = Vec::new();
    for number in recovery::segment_numbers(dir, &names) {
        reports.push(inspect_segment(dir, &disk, number)?);
    }
    let mut partitions = BTreeMap::new();
    for report in &reports {
        partitions.extend(report.logs.iter().filter_map(|log| Some((log.log, log.partition?))));
    }
    for log in reports.iter_mut().flat_map(|report| &mut report.logs) {
        log.partition = log.partition.or_else(|| partitions.get(&log.log).copied());
    }
    Ok(reports)
}

fn inspect_segment(dir: &Path, disk: &OverlayDisk, number: u32) -> Result<SegmentReport, OpenError> {
    let path = dir.join(schema::segment_file_name(number));
    let failed = |source| OpenError::Storage { path: dir.to_owned(), source };
    let segment = open_segment(disk, &path, number).map_err(failed)?;
    let file_bytes = disk.base_file_bytes(&path).map_err(StorageError::io("measure", &path));
    let file_bytes = file_bytes.map_err(failed)?;
    let report = segment.read(disk, |reader| {
        let header = match recovery::read_header(reader, number)? {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        report(reader, &header, file_bytes).map(Ok)
    });
    let (report, _) = report.map_err(failed)?.expect("nobody retires a segment that is inspected");
    report
}

/// Opens a segment, repaired in memory if need be.
fn open_segment(disk: &OverlayDisk, path: &Path, number: u32) -> Result<Segment, StorageError> {
    let database = open_writable(disk, path, Access::Write)?;
    Ok(Segment::writable(number, SegmentId(0), path.to_owned(), database))
}

fn report(
    reader: &SegmentReader<'_>,
    header: &SegmentHeader,
    file_bytes: u64,
) -> Result<SegmentReport, StorageError> {
    let path = reader.path();
    let row = reader.segment_row(schema::SEGMENT_SEAL)?;
    let seal = row.map(|row| SealRow::decode(&row)).transpose().map_err(StorageError::row(path))?;
    let mut partitions = BTreeMap::new();
    reader.each_checkpoint(|log, row| {
        let (partition, _) = decode_checkpoint(row).map_err(StorageError::row(path))?;
        partitions.insert(log, partition);
        Ok(())
    })?;
    let mut logs: BTreeMap<LogNumber, LogReport> = BTreeMap::new();
    let (mut end_commit, mut batch_bytes) = (header.first_commit, 0);
    reader.each_commit(|commit, row| {
        end_commit = commit + 1;
        let end = decode_entries(row, |entry, _| match entry {
            Entry::Create(log, partition) => drop(partitions.insert(log, partition)),
            Entry::Change(log, Change::Append(batch)) => {
                let report = logs.entry(log).or_insert_with(|| LogReport {
                    log,
                    partition: None,
                    first_offset: batch.base_offset,
                    end_offset: batch.base_offset,
                    batches: 0,
                    bytes: 0,
                });
                report.first_offset = report.first_offset.min(batch.base_offset);
                report.end_offset = batch.end_offset();
                report.batches += 1;
                report.bytes += u64::from(batch.length);
            }
            _ => {}
        });
        batch_bytes = end.map_err(StorageError::row(path))?;
        Ok(())
    })?;
    for (log, range) in reader.ranges()? {
        logs.entry(log).or_insert(LogReport {
            log,
            partition: None,
            first_offset: Offset(range.first_offset),
            end_offset: Offset(range.end_offset),
            batches: range.batches,
            bytes: range.bytes,
        });
    }
    for report in logs.values_mut() {
        report.partition = partitions.get(&report.log).copied();
    }
    Ok(SegmentReport {
        path: path.to_owned(),
        number: header.number,
        format_version: header.format_version,
        is_sealed: seal.is_some(),
        kind: header.kind,
        file_bytes,
        batch_bytes: seal.map_or(batch_bytes, |seal| seal.end_position),
        batches: logs.values().map(|log| log.batches).sum(),
        commits: (header.first_commit, seal.map_or(end_commit, |seal| seal.end_commit)),
        logs: logs.into_values().collect(),
    })
}
