//! The segments that compaction writes: as many as it takes, log after log, none larger than others are.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{CompactedSegments, SpansByLog};
use crate::log::LogNumber;
use crate::log::batch::IndexEntry;
use crate::log::dir::DirShared;
use crate::log::disk::Access;
use crate::log::error::StorageError;
use crate::log::partition::Log;
use crate::log::roll::UNFINISHED_SUFFIX;
use crate::log::schema::{self, FORMAT_VERSION, SegmentHeader, SegmentKind};
use crate::log::segment::{Segment, open_writable};
use crate::log::segment_builder::SegmentBuilder;
use crate::log::span::Span;

/// Bytes that are put between two looks at how full the disk is.
const LOOK_BYTES: u64 = 4 << 20;

pub(super) struct Output<'a> {
    shared: &'a DirShared,
    /// Numbers that are free, before the newest segment's.
    numbers: Range<u32>,
    current: Option<Current>,
    log: Option<CurrentLog>,
    finished: Vec<Arc<Segment>>,
    spans: SpansByLog,
    finished_bytes: u64,
    /// Where a segment ends, as long as there is a number for another.
    segment_bytes: u64,
    segment_entries: usize,
    /// In the segment that is written.
    entries: usize,
    /// Put since the disk was looked at.
    unlooked_bytes: u64,
    is_complete: bool,
}

/// The segment that is written.
struct Current {
    segment: Segment,
    unfinished: PathBuf,
    builder: SegmentBuilder,
}

/// The log that is written, and what the current segment has of it.
struct CurrentLog {
    log: Arc<Log>,
    /// What the segments hold of it in all.
    offsets: Range<i64>,
    compacted_end: i64,
    /// Where its part of the current segment begins.
    first_offset: i64,
    entries: Vec<IndexEntry>,
}

impl<'a> Output<'a> {
    /// For logs of `bytes` in all: segments are larger than others where there would be more of them than there
    /// are numbers.
    pub(super) fn new(shared: &'a DirShared, numbers: Range<u32>, bytes: u64) -> Self {
        let count = u64::from(numbers.end - numbers.start);
        let segment_bytes = shared.config.segment_bytes.max(bytes / count.max(1));
        Self {
            segment_bytes,
            shared,
            numbers,
            current: None,
            log: None,
            finished: Vec::new(),
            spans: SpansByLog::new(),
            finished_bytes: 0,
            segment_entries: shared.config.segment_entries_max,
            entries: 0,
            unlooked_bytes: 0,
            is_complete: false,
        }
    }

    pub(super) fn shared(&self) -> &'a DirShared {
        self.shared
    }

    pub(super) fn newest_number(&self) -> u32 {
        self.numbers.end
    }

    pub(super) fn bytes(&self) -> u64 {
        self.finished_bytes + self.current.as_ref().map_or(0, |current| current.builder.bytes())
    }

    /// Begins a log; below `compacted_end`, what is put is all that stays.
    pub(super) fn begin_log(&mut self, log: &Arc<Log>, segments: &[Arc<Segment>], compacted_end: i64) {
        let inner = log.inner();
        let parts: Vec<_> = segments.iter().filter_map(|segment| inner.offsets_in(segment)).collect();
        let start = parts.first().map_or(0, |first| first.start).max(inner.state.log_start_offset.0);
        let end = parts.last().map_or(start, |last| last.end);
        drop(inner);
        let log = log.clone();
        let (offsets, entries) = (start..end, Vec::new());
        self.log = Some(CurrentLog { log, offsets, compacted_end, first_offset: start, entries });
    }

    pub(super) fn put(&mut self, entry: &IndexEntry, bytes: &[u8]) -> Result<(), StorageError> {
        self.check_room(bytes.len() as u64)?;
        if self.is_full() {
            self.end_part(entry.base_offset);
            self.finish_segment()?;
        }
        if self.current.is_none() {
            self.current = Some(self.open()?);
        }
        let current = self.current.as_mut().expect("it was opened if there was none");
        let position = current.builder.put(bytes)?;
        let log = self.log.as_mut().expect("a batch is put into a log that was begun");
        // The log start may lie within its first batch.
        log.first_offset =
            if log.entries.is_empty() { log.first_offset.min(entry.base_offset) } else { log.first_offset };
        log.entries.push(IndexEntry { position, ..*entry });
        self.entries += 1;
        Ok(())
    }

    /// By its bytes, or by the memory that its index takes here, and later whoever reads all of it.
    fn is_full(&self) -> bool {
        let is_large = |current: &Current| {
            current.builder.bytes() >= self.segment_bytes || self.entries >= self.segment_entries
        };
        self.current.as_ref().is_some_and(is_large) && !self.numbers.is_empty()
    }

    /// What others have written since this began may have filled the disk, and a full disk fails the log dir.
    fn check_room(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.unlooked_bytes += bytes;
        if self.unlooked_bytes < LOOK_BYTES {
            return Ok(());
        }
        self.unlooked_bytes = 0;
        match self.shared.space.has_room_for(LOOK_BYTES, &*self.shared.disk, &self.shared.path) {
            true => Ok(()),
            false => Err(StorageError::NoRoom { path: self.shared.path.clone() }),
        }
    }

    pub(super) fn end_log(&mut self) {
        let end = self.log.as_ref().map_or(0, |log| log.offsets.end);
        self.end_part(end);
        self.log = None;
    }

    /// Ends what the current segment has of the log, at `end`.
    fn end_part(&mut self, end: i64) {
        let (Some(current), Some(log)) = (&mut self.current, &mut self.log) else { return };
        if !log.entries.is_empty() {
            let offsets = log.first_offset..end;
            current.builder.end_log(log.log.number(), &log.entries, offsets, log.compacted_end.min(end));
            log.entries.clear();
            log.first_offset = end;
            let number: LogNumber = log.log.number();
            self.spans.entry(number).or_insert_with(|| (log.log.clone(), Vec::new()));
        }
    }

    fn open(&mut self) -> Result<Current, StorageError> {
        let number = self.numbers.next().expect("there is one for the first, and the last has no end");
        let name = schema::segment_file_name(number);
        let unfinished = self.shared.path.join(name + UNFINISHED_SUFFIX);
        let database = open_writable(&*self.shared.disk, &unfinished, Access::Create)?;
        let header = SegmentHeader {
            format_version: FORMAT_VERSION,
            number,
            first_commit: 0,
            next_log_number: 0,
            kind: SegmentKind::Compacted,
            older: Vec::new(),
        };
        let id = self.shared.next_segment_id();
        let segment = Segment::writable(number, id, unfinished.clone(), database);
        let builder = segment.write(|database| SegmentBuilder::begin(database, &unfinished, &header))?;
        Ok(Current { segment, unfinished, builder })
    }

    fn finish_segment(&mut self) -> Result<(), StorageError> {
        let Some(Current { segment: writable, unfinished, builder }) = self.current.take() else {
            return Ok(());
        };
        self.entries = 0;
        let (ranges, bytes) = builder.finish(0)?;
        writable.close_writable()?;
        let path = self.shared.path.join(schema::segment_file_name(writable.number));
        let segment = Arc::new(Segment::sealed(writable.number, writable.id, path.clone()));
        segment.set_bytes(bytes);
        segment.set_kind(SegmentKind::Compacted);
        self.shared.disk.rename(&unfinished, &path).map_err(StorageError::io("rename", &unfinished))?;
        for (log, range) in ranges {
            let (_, spans) = self.spans.get_mut(&log).expect("its part was ended");
            spans.push(Span::sealed(segment.clone(), &range));
        }
        self.finished.push(segment);
        self.finished_bytes += bytes;
        Ok(())
    }

    /// Completes the files. They don't count until the writer says so on disk.
    pub(super) fn finish(mut self) -> Result<CompactedSegments, StorageError> {
        self.finish_segment()?;
        let path = &self.shared.path;
        self.shared.disk.sync_dir(path).map_err(StorageError::io("sync", path))?;
        self.is_complete = true;
        let logs = std::mem::take(&mut self.spans).into_values().collect();
        Ok(CompactedSegments { segments: std::mem::take(&mut self.finished), logs: Mutex::new(logs) })
    }
}

impl Drop for Output<'_> {
    /// Nothing refers to files of a compaction that failed; what stays of them goes with the next open.
    fn drop(&mut self) {
        if self.is_complete {
            return;
        }
        if let Some(current) = self.current.take() {
            drop(current.builder);
            drop(current.segment);
            let _ = self.shared.disk.remove(&current.unfinished);
        }
        for segment in &self.finished {
            let _ = self.shared.disk.remove(&segment.path);
        }
    }
}
