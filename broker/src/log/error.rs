//! What can go wrong with a disk and what is on it.

use std::io;
use std::path::{Path, PathBuf};

use super::schema::{FORMAT_VERSION, MalformedRow};
use crate::ids::{Offset, TopicIdPartition};

/// A disk failed, or returned what was never written. A log dir that meets one while writing is
/// fenced: its partitions answer KAFKA_STORAGE_ERROR.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("access segment {}", path.display())]
    Segment { path: PathBuf, source: Box<redb::Error> },
    #[error("access segment {}: its pages are damaged ({message})", path.display())]
    Damaged { path: PathBuf, message: String },
    #[error("read a row of segment {}", path.display())]
    MalformedRow { path: PathBuf, source: MalformedRow },
    #[error("read segment {}: {what}", path.display())]
    Inconsistent { path: PathBuf, what: String },
    #[error("write {}: the disk is nearly full", path.display())]
    NoRoom { path: PathBuf },
    #[error("use log dir {}: it was closed", path.display())]
    Closed { path: PathBuf },
}

impl StorageError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn segment<E: Into<redb::Error>>(path: &Path) -> impl Fn(E) -> Self {
        let path = path.to_owned();
        move |error| Self::Segment { path: path.clone(), source: Box::new(error.into()) }
    }

    pub(crate) fn row(path: &Path) -> impl Fn(MalformedRow) -> Self {
        let path = path.to_owned();
        move |source| Self::MalformedRow { path: path.clone(), source }
    }

    pub(crate) fn inconsistent(path: &Path, what: impl Into<String>) -> Self {
        Self::Inconsistent { path: path.to_owned(), what: what.into() }
    }
}

/// Why a log dir can't be opened. Each is one line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("open log dir {}: another process uses it", path.display())]
    Locked { path: PathBuf },
    #[error(
        "open log dir {}: it holds {found}, and the metadata is of {expected}: restore the data directory that \
         goes with it, or name another in log.dirs",
        path.display()
    )]
    ForeignLogDir { path: PathBuf, found: String, expected: String },
    #[error("open log dir {}: it can't be written", path.display())]
    NotWritable { path: PathBuf, source: io::Error },
    #[error(
        "open segment {}: its format is version {found}, this release reads up to {FORMAT_VERSION}",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u16, supported: u16 },
    #[error("open segment {}: it isn't a segment of this log dir ({what})", path.display())]
    NotASegment { path: PathBuf, what: String },
    #[error("open log dir: segment {} is missing", path.display())]
    MissingSegment { path: PathBuf },
    #[error(
        "open segment {}: the batch at offset {offset} of partition {partition} is damaged",
        path.display()
    )]
    DamagedBatch { path: PathBuf, partition: TopicIdPartition, offset: Offset },
    #[error("open log dir {}", path.display())]
    Storage { path: PathBuf, source: StorageError },
}
