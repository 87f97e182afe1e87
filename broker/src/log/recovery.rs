//! Opening a log dir: what is there, and what the logs were when it was written last.
//!
//! Only the newest segment takes part in state: its checkpoint, and its entries folded over it.
//! Older ones say in their ranges what they hold. One that the crash caught before its seal is
//! sealed here. No payload is read but that of the last commit, whose checksums are checked.

mod segments;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::segments::{OldSegment, load_old_segment, remove_unfinished};
pub(super) use self::segments::{batch_is_intact, read_header, segment_numbers};
use super::LogNumber;
use super::batch::IndexEntry;
use super::dir::DirShared;
use super::disk::{Access, DirLock, Disk};
use super::error::{OpenError, StorageError};
use super::partition::{Log, LogInner};
use super::roll::create_segment;
use super::schema::{self, Entry, decode_checkpoint, decode_entries};
use super::segment::{Segment, SegmentReader, open_writable};
use super::span::Span;
use super::state::{Change, LogState};
use super::writer::Active;
use crate::ids::TopicIdPartition;

/// A log dir's contents, ready to be written on.
pub(crate) struct Recovered {
    pub(crate) active: Active,
    pub(crate) logs: BTreeMap<LogNumber, Arc<Log>>,
}

/// Creates the directory if need be, and keeps other processes out.
pub(crate) fn lock(path: &Path, disk: &dyn Disk) -> Result<Box<dyn DirLock>, OpenError> {
    let not_writable = |source| OpenError::NotWritable { path: path.to_owned(), source };
    disk.create_dir_all(path).map_err(not_writable)?;
    disk.lock(path).map_err(not_writable)?.ok_or_else(|| OpenError::Locked { path: path.to_owned() })
}

pub(crate) fn recover(shared: &Arc<DirShared>) -> Result<Recovered, OpenError> {
    let failed = |source| OpenError::Storage { path: shared.path.clone(), source };
    let names = shared.disk.list(&shared.path).map_err(StorageError::io("list", &shared.path));
    let names = names.map_err(failed)?;
    remove_unfinished(shared, &names).map_err(failed)?;
    let numbers = segment_numbers(&shared.path, &names);

    let Some((&newest, older)) = numbers.split_last() else {
        let logs = BTreeMap::new();
        let segment = create_segment(shared, 1, 0, &logs).map_err(failed)?;
        return Ok(Recovered { active: Active { segment, position: 0, entries: 0, next_commit: 0 }, logs });
    };
    let newest = NewestSegment::open(shared, newest)?;
    let removed = newest.check_older(shared, older)?;
    let mut spans: HashMap<LogNumber, Vec<Span>> = HashMap::new();
    for number in older.iter().filter(|number| !removed.contains(number)) {
        let OldSegment { segment, ranges } = load_old_segment(shared, *number)?;
        for (log, range) in ranges {
            spans.entry(log).or_default().push(Span::sealed(segment.clone(), &range));
        }
        shared.segments_mut().insert(*number, segment);
    }
    newest.into_recovered(shared, spans)
}

/// The newest segment, read.
struct NewestSegment {
    segment: Arc<Segment>,
    position: u64,
    next_commit: u64,
    next_log_number: u32,
    older: Vec<u32>,
    checkpoint: BTreeMap<LogNumber, (TopicIdPartition, LogState)>,
    entries: Vec<(Entry, u64)>,
    /// Where the batches of the last commit begin in `entries`.
    last_commit: usize,
}

impl NewestSegment {
    fn open(shared: &DirShared, number: u32) -> Result<Self, OpenError> {
        let path = shared.path.join(schema::segment_file_name(number));
        let failed = |source| OpenError::Storage { path: shared.path.clone(), source };
        let database = open_writable(&*shared.disk, &path, Access::Write).map_err(failed)?;
        let segment = Arc::new(Segment::writable(number, shared.next_segment_id(), path, database));
        let read = segment.read(&*shared.disk, |reader| {
            let header = match read_header(reader, number)? {
                Ok(header) => header,
                Err(error) => return Ok(Err(error)),
            };
            if reader.segment_row(schema::SEGMENT_SEAL)?.is_some() {
                let what = "it was sealed, so the one after it is missing".to_owned();
                return Ok(Err(OpenError::NotASegment { path: reader.path().to_owned(), what }));
            }
            let mut newest = Self {
                segment: segment.clone(),
                position: 0,
                next_commit: header.first_commit,
                next_log_number: header.next_log_number,
                older: header.older,
                checkpoint: BTreeMap::new(),
                entries: Vec::new(),
                last_commit: 0,
            };
            newest.read_tables(reader)?;
            Ok(Ok(newest))
        });
        let (newest, _) = read.map_err(failed)?.expect("nobody retires a segment during recovery");
        newest
    }

    fn read_tables(&mut self, reader: &SegmentReader<'_>) -> Result<(), StorageError> {
        let path = reader.path();
        reader.each_checkpoint(|log, row| {
            self.checkpoint.insert(log, decode_checkpoint(row).map_err(StorageError::row(path))?);
            Ok(())
        })?;
        reader.each_commit(|commit, row| {
            if commit != self.next_commit {
                let what = format!("commit {commit} follows {}", self.next_commit);
                return Err(StorageError::inconsistent(path, what));
            }
            self.next_commit += 1;
            self.last_commit = self.entries.len();
            let mut first_position = None;
            let entries = &mut self.entries;
            let end = decode_entries(row, |entry, position| {
                first_position.get_or_insert(position);
                entries.push((entry, position));
            });
            let end = end.map_err(StorageError::row(path))?;
            if first_position.is_some_and(|first| first != self.position) {
                let what = format!("commit {commit} doesn't begin at {}", self.position);
                return Err(StorageError::inconsistent(path, what));
            }
            self.position = end;
            Ok(())
        })
    }

    /// Every older segment that the newest knows of must be there. One that it knows to be removed,
    /// or doesn't know, is left over from a crash in the middle of the removal.
    fn check_older(&self, shared: &DirShared, found: &[u32]) -> Result<Vec<u32>, OpenError> {
        // In their order: the number of a segment that was removed may be given to another one.
        let mut known: BTreeSet<u32> = self.older.iter().copied().collect();
        for (entry, _) in &self.entries {
            match entry {
                Entry::RemoveSegment(number) => drop(known.remove(number)),
                Entry::AddSegment(number) => drop(known.insert(*number)),
                _ => {}
            }
        }
        for number in &known {
            if !found.contains(number) {
                let path = shared.path.join(schema::segment_file_name(*number));
                return Err(OpenError::MissingSegment { path });
            }
        }
        let leftover: Vec<u32> = found.iter().copied().filter(|number| !known.contains(number)).collect();
        for number in &leftover {
            let path = shared.path.join(schema::segment_file_name(*number));
            tracing::info!(segment = %path.display(), "removing a segment that nothing refers to");
            let result = shared.disk.remove(&path).map_err(StorageError::io("remove", &path));
            result.map_err(|source| OpenError::Storage { path: shared.path.clone(), source })?;
        }
        Ok(leftover)
    }

    fn into_recovered(
        self,
        shared: &Arc<DirShared>,
        mut spans: HashMap<LogNumber, Vec<Span>>,
    ) -> Result<Recovered, OpenError> {
        let mut logs: BTreeMap<LogNumber, (TopicIdPartition, LogInner)> = BTreeMap::new();
        for (number, (tp, state)) in self.checkpoint {
            let mut inner = LogInner::new(state);
            for span in spans.remove(&number).unwrap_or_default() {
                inner.push_span(span);
            }
            inner.clip();
            inner.compacted_to = inner.end_of_compacted();
            logs.insert(number, (tp, inner));
        }
        let mut next_log_number = self.next_log_number;
        let mut last_batches = Vec::new();
        let mut batches = 0;
        for (index, (entry, position)) in self.entries.into_iter().enumerate() {
            match entry {
                Entry::Create(number, tp) => {
                    let inner = LogInner::new(LogState::default());
                    logs.insert(number, (tp, inner));
                    next_log_number = next_log_number.max(number.0 + 1);
                }
                Entry::Delete(number) => drop(logs.remove(&number)),
                Entry::RemoveSegment(_) | Entry::AddSegment(_) => {}
                Entry::Change(number, change) => {
                    let unknown = || unknown_log(shared, &self.segment, number);
                    let (tp, inner) = logs.get_mut(&number).ok_or_else(unknown)?;
                    if let Change::Append(batch) = &change {
                        batches += 1;
                        if index >= self.last_commit {
                            last_batches.push((*tp, IndexEntry::new(batch, position)));
                        }
                    }
                    inner.apply(&self.segment, &change, position);
                }
            }
        }
        segments::check_batches(shared, &self.segment, &last_batches)?;
        shared.next_log_number.store(next_log_number, Ordering::Release);
        shared.segments_mut().insert(self.segment.number, self.segment.clone());
        let logs = logs
            .into_iter()
            .map(|(number, (tp, inner))| (number, Arc::new(Log::new(tp, number, shared.clone(), inner))));
        self.segment.set_bytes(self.position);
        let active = Active {
            segment: self.segment,
            position: self.position,
            entries: batches,
            next_commit: self.next_commit,
        };
        Ok(Recovered { active, logs: logs.collect() })
    }
}

fn unknown_log(shared: &DirShared, segment: &Segment, number: LogNumber) -> OpenError {
    let what = format!("an entry is of log {}, which doesn't exist", number.0);
    let source = StorageError::inconsistent(&segment.path, what);
    OpenError::Storage { path: shared.path.clone(), source }
}
