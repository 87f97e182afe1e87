//! The thread that owns `meta.redb`, and the handle through which Raft's parts give it work.
//!
//! All reads and writes go through one queue in order, which gives Raft what it asks for: votes and log entries
//! reach the disk in the order in which they were handed over. The async threads never wait for the disk.
//!
//! Two durabilities: a vote, log entries, their truncation and purge, and an installed snapshot are synced before
//! they are answered. The applied state and the committed mark are not; they become durable with the next synced
//! commit, and after a crash Raft applies the log again from wherever the file stands. So a command costs one sync.

use std::io;
use std::path::Path;

use redb::{Database, DatabaseError, Durability, ReadableDatabase, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::image::ClusterId;
use super::new_file::create;
use super::raft::{Identity, Origin};
use super::schema::{FORMAT, FORMAT_VERSION, IDENTITY, LOG, META, ORIGIN, STATE};
use crate::codec::{self, DecodeError, EncodeError, Encoded};
use crate::ids::BrokerId;

/// Jobs that wait for the thread. Raft has at most a handful under way.
const QUEUE_JOBS_MAX: usize = 64;

/// Pages that redb keeps; the state is in memory anyway.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

pub(super) const FILE_NAME: &str = "meta.redb";

/// Why the metadata file can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another process")]
    InUse { path: String },
    #[error("{path} has format {found}, this program knows up to {FORMAT_VERSION}: use a newer one")]
    NewerFormat { path: String, found: u32 },
    #[error(
        "{path} belongs to node {found}, not {expected}: set node.id={found} or use another data directory"
    )]
    WrongNode { path: String, expected: i32, found: i32 },
    #[error("{path} belongs to cluster {found}, not {expected}")]
    WrongCluster { path: String, expected: String, found: String },
    #[error("{path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("raft does not start: {0}")]
    Raft(String),
    #[error("can't join the cluster: {0}")]
    Join(String),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("the metadata file fails")]
    Redb(#[source] Box<redb::Error>),
    #[error("a value of the metadata file can't be read")]
    Decode(#[from] DecodeError),
    #[error("a value can't be written to the metadata file")]
    Encode(#[from] EncodeError),
    #[error("{0}")]
    Damaged(String),
    #[error("the metadata file is closed")]
    Closed,
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError,
    DatabaseError
);

type Job = Box<dyn FnOnce(&Database) + Send>;

/// A handle. The file is closed when the last one is gone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    jobs: mpsc::Sender<Job>,
}

/// Whose file it must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) node_id: BrokerId,
    /// `None` takes any.
    pub(super) cluster_id: Option<ClusterId>,
}

/// Tells when the file has been closed.
pub(super) type Closed = oneshot::Receiver<Result<(), StoreError>>;

impl Store {
    /// Starts the thread, which opens the file. `path` is for messages.
    pub(super) async fn open(
        path: &Path,
        expected: Expected,
        open: impl FnOnce() -> Result<Database, OpenError> + Send + 'static,
    ) -> Result<(Self, Identity, Closed), OpenError> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (opened_tx, opened) = oneshot::channel();
        let (closed_tx, closed) = oneshot::channel();
        let shown = path.display().to_string();
        let thread = std::thread::Builder::new().name("metadata".to_owned());
        let in_thread = shown.clone();
        let run = move || match open().and_then(|db| Ok((check(&db, &in_thread, expected)?, db))) {
            Ok((identity, db)) => {
                // The opener may have given up; then there are no jobs either.
                let _ = opened_tx.send(Ok(identity));
                let _ = closed_tx.send(work(db, queue));
            }
            Err(error) => {
                let _ = opened_tx.send(Err(error));
            }
        };
        thread.spawn(run).map_err(|error| OpenError::Io { path: shown.clone(), error })?;
        match opened.await {
            Ok(result) => result.map(|identity| (Self { jobs }, identity, closed)),
            // redb panics on some files that something else has written to.
            Err(_) => {
                Err(OpenError::Damaged { path: shown, reason: "redb can't make sense of it".to_owned() })
            }
        }
    }

    /// Where the file comes from. One of before there was such a thing is given `fresh`.
    pub(super) async fn origin(&self, fresh: Origin) -> Result<Origin, StoreError> {
        self.run(move |db| match get::<Origin>(db, ORIGIN)? {
            Some(origin) => Ok(origin),
            None => {
                write(db, Durability::Immediate, |transaction| put(transaction, ORIGIN, &fresh))?;
                Ok(fresh)
            }
        })
        .await
    }

    /// Runs `job` on the thread, after all that was handed over before.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&Database) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            // Whoever asked may be gone; the work was wanted all the same.
            let _ = answer.send(job(db));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

fn work(db: Database, mut queue: mpsc::Receiver<Job>) -> Result<(), StoreError> {
    while let Some(job) = queue.blocking_recv() {
        job(&db);
    }
    Ok(db.close()?)
}

/// One transaction.
pub(super) fn write<R>(
    db: &Database,
    durability: Durability,
    change: impl FnOnce(&WriteTransaction) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(durability)?;
    let result = change(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// A single value by name.
pub(super) fn put<T: Encoded>(
    transaction: &WriteTransaction,
    name: &str,
    value: &T,
) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert(name, codec::encode(value)?.as_slice())?;
    Ok(())
}

pub(super) fn get<T: Encoded>(db: &Database, name: &str) -> Result<Option<T>, StoreError> {
    let table = db.begin_read()?.open_table(META)?;
    match table.get(name)? {
        Some(value) => Ok(Some(codec::decode(value.value())?)),
        None => Ok(None),
    }
}

/// Opens `meta.redb` in a directory, or makes it.
pub(super) fn open_file(dir: &Path, identity: Identity, origin: Origin) -> Result<Database, OpenError> {
    let path = dir.join(FILE_NAME);
    if !path.exists() {
        create(dir, identity, origin)?;
    }
    let shown = path.display().to_string();
    redb::Builder::new().set_cache_size(CACHE_BYTES).open(&path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse { path: shown }
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) => OpenError::Io { path: shown, error },
        other => OpenError::Damaged { path: shown, reason: other.to_string() },
    })
}

/// Gives an empty file its tables and its identity.
pub(super) fn format(db: &Database, identity: Identity, origin: Origin) -> Result<(), StoreError> {
    write(db, Durability::Immediate, |transaction| {
        transaction.open_table(LOG)?;
        transaction.open_table(STATE)?;
        transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION.to_le_bytes().as_slice())?;
        put(transaction, IDENTITY, &identity)?;
        put(transaction, ORIGIN, &origin)
    })
}

/// Refuses another version's file, another node's, another cluster's.
fn check(db: &Database, path: &str, expected: Expected) -> Result<Identity, OpenError> {
    let path = || path.to_owned();
    let unreadable = |error: StoreError| damaged(Path::new(&path()), &error);
    let found = format_of(db).map_err(unreadable)?;
    if found > FORMAT_VERSION {
        return Err(OpenError::NewerFormat { path: path(), found });
    }
    let Some(found) = get::<Identity>(db, IDENTITY).map_err(unreadable)? else {
        return Err(OpenError::Damaged { path: path(), reason: "it does not say whose it is".to_owned() });
    };
    if found.node_id != expected.node_id {
        let (expected, found) = (expected.node_id.0, found.node_id.0);
        return Err(OpenError::WrongNode { path: path(), expected, found });
    }
    match expected.cluster_id.filter(|id| *id != found.cluster_id) {
        Some(expected) => {
            let (expected, found) = (expected.to_string(), found.cluster_id.to_string());
            Err(OpenError::WrongCluster { path: path(), expected, found })
        }
        None => Ok(found),
    }
}

fn format_of(db: &Database) -> Result<u32, StoreError> {
    let table = db.begin_read()?.open_table(META)?;
    let format = table.get(FORMAT)?;
    let format = format.and_then(|value| value.value().try_into().ok().map(u32::from_le_bytes));
    format.ok_or_else(|| StoreError::Damaged("it does not say its format".to_owned()))
}

pub(super) fn damaged(path: &Path, error: &StoreError) -> OpenError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    OpenError::Damaged { path: path.display().to_string(), reason }
}
