//! One commit: the queued commands of many logs, laid end to end.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_record::{PATCHED_PREFIX_BYTES, RecordBatch};
use redb::Database;

use super::LogNumber;
use super::batch::BatchMeta;
use super::compaction::CompactedSegments;
use super::error::StorageError;
use super::partition::Log;
use super::pieces::{PIECE_BYTES_MAX, piece_lengths};
use super::queue::Command;
use super::schema::{BLOCKS, ENTRIES, EntriesEncoder, Entry, entries_key};
use super::segment::Segment;
use super::state::Change;

/// Entries that a commit takes, unless one append alone has more.
pub(crate) const COMMIT_ENTRIES_MAX: usize = 65_536;

/// A commit that is ready to be written.
pub(crate) struct Commit {
    /// The batches, end to end, offsets and epochs in place. All but the last chunk have
    /// [`PIECE_BYTES_MAX`].
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) bytes: u64,
    pub(crate) batches: usize,
    pub(crate) entries: Vec<u8>,
    /// What it does to each log, with the positions of the batches.
    pub(crate) logs: Vec<LogChanges>,
    pub(crate) created: Vec<Arc<Log>>,
    pub(crate) deleted: Vec<Arc<Log>>,
    pub(crate) added: Vec<Arc<CompactedSegments>>,
}

pub(crate) struct LogChanges {
    pub(crate) log: Arc<Log>,
    pub(crate) changes: Vec<(Change, u64)>,
}

impl Commit {
    /// Lays out commands from `position` on: those of a log together, in their order.
    pub(crate) fn build(mut commands: Vec<Command>, position: u64) -> Self {
        let mut arrival: HashMap<Option<LogNumber>, usize> = HashMap::new();
        for command in &commands {
            let next = arrival.len();
            arrival.entry(log_number(command)).or_insert(next);
        }
        commands.sort_by_key(|command| arrival[&log_number(command)]);

        let bytes = commands.iter().map(|command| match command {
            Command::Append { data, .. } => data.len(),
            _ => 0,
        });
        let mut builder = Builder {
            stream: Stream::new(bytes.sum()),
            start: position,
            entries: EntriesEncoder::new(position),
            commit: Self {
                chunks: Vec::new(),
                bytes: 0,
                batches: 0,
                entries: Vec::new(),
                logs: Vec::with_capacity(arrival.len()),
                created: Vec::new(),
                deleted: Vec::new(),
                added: Vec::new(),
            },
        };
        for command in commands {
            builder.command(command);
        }
        builder.finish()
    }

    /// Writes the commit and syncs it.
    pub(crate) fn write(
        &self,
        database: &Database,
        segment: &Segment,
        number: u64,
        position: u64,
    ) -> Result<(), StorageError> {
        let path = &segment.path;
        let transaction = database.begin_write().map_err(StorageError::segment(path))?;
        {
            let mut blocks = transaction.open_table(BLOCKS).map_err(StorageError::segment(path))?;
            let mut position = position;
            for chunk in &self.chunks {
                let mut rest = chunk.as_ref();
                for length in piece_lengths(rest.len()) {
                    let (piece, after) = rest.split_at(length);
                    blocks.insert(position, piece).map_err(StorageError::segment(path))?;
                    position += length as u64;
                    rest = after;
                }
            }
            let mut entries = transaction.open_table(ENTRIES).map_err(StorageError::segment(path))?;
            let mut rest = self.entries.as_slice();
            for (index, length) in piece_lengths(rest.len()).enumerate() {
                let (piece, after) = rest.split_at(length);
                let key = entries_key(number, index as u64);
                entries.insert(key, piece).map_err(StorageError::segment(path))?;
                rest = after;
            }
        }
        transaction.commit().map_err(StorageError::segment(path))
    }
}

fn log_number(command: &Command) -> Option<LogNumber> {
    match command {
        Command::Create { log }
        | Command::Delete { log }
        | Command::Append { log, .. }
        | Command::Change { log, .. } => Some(log.number()),
        Command::RemoveSegment(_) | Command::AddSegments(_) | Command::Roll | Command::Barrier(_) => None,
    }
}

struct Builder {
    stream: Stream,
    start: u64,
    entries: EntriesEncoder,
    commit: Commit,
}

impl Builder {
    fn command(&mut self, command: Command) {
        match command {
            Command::Create { log } => {
                self.entries.push(&Entry::Create(log.number(), log.topic_id_partition()));
                self.commit.created.push(log);
            }
            Command::Delete { log } => {
                self.entries.push(&Entry::Delete(log.number()));
                self.commit.deleted.push(log);
            }
            Command::RemoveSegment(number) => self.entries.push(&Entry::RemoveSegment(number)),
            Command::AddSegments(added) => {
                for number in added.numbers() {
                    self.entries.push(&Entry::AddSegment(number));
                }
                self.commit.added.push(added);
            }
            Command::Change { log, change } => self.change(log, change),
            Command::Append { log, data, metas } => {
                let mut rest = data.as_ref();
                for meta in metas {
                    let (batch, after) = rest.split_at(meta.length as usize);
                    rest = after;
                    self.commit.batches += 1;
                    self.change(log.clone(), Change::Append(meta));
                    self.stream.put_batch(batch, &meta);
                }
            }
            Command::Roll | Command::Barrier(_) => panic!("the writer keeps what isn't written"),
        }
    }

    fn change(&mut self, log: Arc<Log>, change: Change) {
        let position = self.start + self.stream.length;
        let entry = Entry::Change(log.number(), change);
        self.entries.push(&entry);
        let Entry::Change(_, change) = entry else { unreachable!("it was made one") };
        match self.commit.logs.last_mut() {
            Some(last) if Arc::ptr_eq(&last.log, &log) => last.changes.push((change, position)),
            _ => self.commit.logs.push(LogChanges { log, changes: vec![(change, position)] }),
        }
    }

    fn finish(self) -> Commit {
        let mut commit = self.commit;
        commit.bytes = self.stream.length;
        commit.chunks = self.stream.finish();
        commit.entries = self.entries.finish();
        commit
    }
}

/// Bytes end to end, in chunks of [`PIECE_BYTES_MAX`]: whoever holds on to a slice of one, such as
/// a response to a slow client, holds on to no more than that.
pub(crate) struct Stream {
    chunks: Vec<Bytes>,
    current: BytesMut,
    expected: usize,
    length: u64,
}

impl Stream {
    /// For a known number of bytes, so that the last chunk is no larger than it must be.
    pub(crate) fn new(expected: usize) -> Self {
        let chunks = Vec::with_capacity(expected.div_ceil(PIECE_BYTES_MAX));
        let current = BytesMut::with_capacity(expected.min(PIECE_BYTES_MAX));
        Self { chunks, current, expected, length: 0 }
    }

    /// Base offset and leader epoch lie outside of what the batch's checksum covers.
    fn put_batch(&mut self, batch: &[u8], meta: &BatchMeta) {
        let whole = RecordBatch::new(batch).expect("whoever appends a batch has validated it");
        self.put(&whole.patched_prefix(meta.base_offset.0, meta.leader_epoch.0));
        self.put(&batch[PATCHED_PREFIX_BYTES..]);
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES_MAX - self.current.len()));
            self.current.put_slice(now);
            bytes = later;
            if self.current.len() == PIECE_BYTES_MAX {
                let rest = self.expected.saturating_sub(self.length as usize - bytes.len());
                let next = BytesMut::with_capacity(rest.min(PIECE_BYTES_MAX));
                self.chunks.push(std::mem::replace(&mut self.current, next).freeze());
            }
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        if !self.current.is_empty() {
            self.chunks.push(self.current.freeze());
        }
        self.chunks
    }
}
