//! Raft's log and vote in `meta.redb`.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogId, LogState, OptionalSend, RaftLogReader, StorageIOError, Vote,
};
use redb::{Database, Durability, ReadableDatabase, ReadableTable};

use super::raft::{Entry, StorageError, TypeConfig};
use super::schema::{COMMITTED, LOG, PURGED, VOTE};
use super::store::{Store, StoreError, get, put, write};
use crate::codec;

/// The most that one read for a follower returns, unless a single entry is larger.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(super) struct LogStore {
    store: Store,
}

impl LogStore {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }
}

/// The store's failure as Raft's, which is the end of this node.
pub(super) fn fatal(subject: ErrorSubject<u64>, verb: ErrorVerb) -> impl FnOnce(StoreError) -> StorageError {
    move |error| StorageIOError::new(subject, verb, AnyError::new(&error)).into()
}

fn reading(error: StoreError) -> StorageError {
    fatal(ErrorSubject::Logs, ErrorVerb::Read)(error)
}

fn writing(error: StoreError) -> StorageError {
    fatal(ErrorSubject::Logs, ErrorVerb::Write)(error)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        self.store.run(move |db| read(db, bounds, usize::MAX)).await.map_err(reading)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        self.store.run(move |db| read(db, bounds, READ_BYTES_MAX)).await.map_err(reading)
    }
}

/// Entries of a range until `bytes_max` is passed; at least one, if there is any.
fn read(db: &Database, bounds: (Bound<u64>, Bound<u64>), bytes_max: usize) -> Result<Vec<Entry>, StoreError> {
    let table = db.begin_read()?.open_table(LOG)?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    for item in table.range(bounds)? {
        let (_, value) = item?;
        entries.push(codec::decode(value.value())?);
        bytes += value.value().len();
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(entries)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = |db: &Database| {
            let last_purged_log_id = get::<LogId<u64>>(db, PURGED)?;
            let table = db.begin_read()?.open_table(LOG)?;
            let last_log_id = match table.last()? {
                Some((_, value)) => Some(codec::decode::<Entry>(value.value())?.log_id),
                None => last_purged_log_id,
            };
            Ok(LogState { last_purged_log_id, last_log_id })
        };
        self.store.run(state).await.map_err(reading)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        let vote = *vote;
        let save = move |db: &Database| write(db, Durability::Immediate, |txn| put(txn, VOTE, &vote));
        self.store.run(save).await.map_err(fatal(ErrorSubject::Vote, ErrorVerb::Write))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        let vote = self.store.run(|db| get(db, VOTE)).await;
        vote.map_err(fatal(ErrorSubject::Vote, ErrorVerb::Read))
    }

    /// Not synced: it only saves work after a restart.
    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError> {
        let Some(committed) = committed else { return Ok(()) };
        let save = move |db: &Database| write(db, Durability::None, |txn| put(txn, COMMITTED, &committed));
        self.store.run(save).await.map_err(writing)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError> {
        self.store.run(|db| get(db, COMMITTED)).await.map_err(reading)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encode = |entry: Entry| Ok((entry.log_id.index, codec::encode(&entry)?));
        let encoded: Result<Vec<(u64, Vec<u8>)>, StoreError> = entries.into_iter().map(encode).collect();
        let encoded = encoded.map_err(writing)?;
        let append = move |db: &Database| {
            write(db, Durability::Immediate, |txn| {
                let mut table = txn.open_table(LOG)?;
                for (index, entry) in &encoded {
                    table.insert(index, entry.as_slice())?;
                }
                Ok(())
            })
        };
        self.store.run(append).await.map_err(writing)?;
        // Only now: the commit has been synced.
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        let truncate = move |db: &Database| {
            write(db, Durability::Immediate, |txn| {
                Ok(txn.open_table(LOG)?.retain_in(log_id.index.., |_, _| false)?)
            })
        };
        self.store.run(truncate).await.map_err(writing)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        let purge = move |db: &Database| {
            write(db, Durability::Immediate, |txn| {
                put(txn, PURGED, &log_id)?;
                Ok(txn.open_table(LOG)?.retain_in(..=log_id.index, |_, _| false)?)
            })
        };
        self.store.run(purge).await.map_err(writing)
    }
}
