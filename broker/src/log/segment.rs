//! One segment file: the database behind it, and reading from it.

mod reader;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{Builder, Database, ReadOnlyDatabase, ReadableDatabase};

use reader::Pages;
pub(crate) use reader::{BlockPiece, SegmentReader};

use super::disk::{Access, AnyBackend, Disk};
use super::error::StorageError;
use super::schema::SegmentKind;

/// redb's cache of the segment that is written: what it re-reads of it are the right edges of two
/// B-trees; the data are in the tail cache.
const WRITE_CACHE_BYTES: usize = 8 << 20;
/// redb's cache of a sealed segment: branch pages, and leaves of the index.
const READ_CACHE_BYTES: usize = 1 << 20;

/// No segment has so many bytes.
const NEVER_REWRITTEN: u64 = u64::MAX;

/// Tells segments apart in caches; grows with each segment opened in this process, and a rewritten
/// segment has another one than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId(pub(crate) u64);

/// A segment of a log dir.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
    /// Bytes of batches, dead or alive.
    bytes: AtomicU64,
    /// What its live bytes are compared with: its bytes, until it is rewritten.
    reclaim_basis: AtomicU64,
    is_sealed: AtomicBool,
    kind: OnceLock<SegmentKind>,
    /// When this process began to write it.
    opened_ms: AtomicI64,
    file: RwLock<SegmentFile>,
}

/// Readers hold it shared while they read, so that whoever replaces it knows that none is inside.
enum SegmentFile {
    Writable(Database),
    Sealed(ReadOnlyDatabase),
    /// Sealed, and opened when it is read.
    Shut,
    /// Rewritten or removed: whoever still has this segment looks again in its log.
    Retired,
}

impl std::fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Writable(_) => "Writable",
            Self::Sealed(_) => "Sealed",
            Self::Shut => "Shut",
            Self::Retired => "Retired",
        })
    }
}

impl Segment {
    pub(crate) fn writable(number: u32, id: SegmentId, path: PathBuf, database: Database) -> Self {
        Self::new(number, id, path, SegmentFile::Writable(database), false)
    }

    pub(crate) fn sealed(number: u32, id: SegmentId, path: PathBuf) -> Self {
        Self::new(number, id, path, SegmentFile::Shut, true)
    }

    fn new(number: u32, id: SegmentId, path: PathBuf, file: SegmentFile, is_sealed: bool) -> Self {
        Self {
            number,
            id,
            path,
            bytes: AtomicU64::new(0),
            reclaim_basis: AtomicU64::new(NEVER_REWRITTEN),
            is_sealed: AtomicBool::new(is_sealed),
            kind: OnceLock::new(),
            opened_ms: AtomicI64::new(0),
            file: RwLock::new(file),
        }
    }

    /// Lets `write` work on the database of the segment, which must be the writable one.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&Database) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match &*self.shared() {
            SegmentFile::Writable(database) => no_panic(&self.path, || write(database)),
            other => panic!("segment {} is written while {other:?}", self.number),
        }
    }

    /// Lets `read` read from one snapshot of the segment; `None` once the segment is retired. A
    /// sealed one is opened on the way, which `opened` is told of.
    pub(crate) fn read<T>(
        &self,
        disk: &dyn Disk,
        read: impl FnOnce(&SegmentReader<'_>) -> Result<T, StorageError>,
    ) -> Result<Option<(T, WasOpened)>, StorageError> {
        let mut was_opened = WasOpened(false);
        loop {
            let file = self.shared();
            match &*file {
                SegmentFile::Writable(_) | SegmentFile::Sealed(_) => {}
                SegmentFile::Retired => return Ok(None),
                SegmentFile::Shut => {
                    drop(file);
                    self.open_shut(disk)?;
                    was_opened = WasOpened(true);
                    continue;
                }
            }
            let value = no_panic(&self.path, || {
                let (transaction, pages) = match &*file {
                    SegmentFile::Writable(database) => (database.begin_read(), Pages::Replaced),
                    SegmentFile::Sealed(database) => (database.begin_read(), Pages::Kept),
                    SegmentFile::Shut | SegmentFile::Retired => unreachable!("it was open above"),
                };
                let transaction = transaction.map_err(StorageError::segment(&self.path))?;
                read(&SegmentReader::new(&self.path, transaction, pages))
            })?;
            return Ok(Some((value, was_opened)));
        }
    }

    /// Closes a sealed segment's file; the next reader opens it again. A segment that is being read
    /// stays open, and answers false.
    pub(crate) fn shut(&self) -> bool {
        match self.file.try_write() {
            Ok(mut file) => {
                if matches!(*file, SegmentFile::Sealed(_)) {
                    *file = SegmentFile::Shut;
                }
                true
            }
            Err(_) => false,
        }
    }

    /// Ends writing: closes the database, so that opening it needs no repair.
    pub(crate) fn close_writable(&self) -> Result<(), StorageError> {
        let mut file = self.exclusive();
        match std::mem::replace(&mut *file, SegmentFile::Shut) {
            SegmentFile::Writable(database) => {
                no_panic(&self.path, || database.close().map_err(StorageError::segment(&self.path)))
            }
            other => {
                *file = other;
                Ok(())
            }
        }
    }

    /// Turns away everyone who still has the segment, once `replace` has run while none reads from it.
    pub(crate) fn retire<T>(
        &self,
        replace: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut file = self.exclusive();
        let replaced = replace()?;
        *file = SegmentFile::Retired;
        Ok(replaced)
    }

    /// Bytes of batches that the segment holds, dead or alive.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
    }

    /// Whether less than `percent` of what it held when it was written, or rewritten last, is live. The live
    /// bytes are an estimate: after a rewrite they are compared with themselves, so that a wrong one has a
    /// segment rewritten once and not for ever.
    pub(crate) fn has_less_than(&self, percent: u64, live_bytes: u64) -> bool {
        let basis = match self.reclaim_basis.load(Ordering::Acquire) {
            NEVER_REWRITTEN => self.bytes(),
            basis => basis,
        };
        live_bytes * 100 < basis * percent
    }

    /// The segment was rewritten, and has so many live bytes now.
    pub(crate) fn set_reclaim_basis(&self, live_bytes: u64) {
        self.reclaim_basis.store(live_bytes, Ordering::Release);
    }

    /// Whether its index is on disk, and nowhere else.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    pub(crate) fn opened_ms(&self) -> i64 {
        self.opened_ms.load(Ordering::Acquire)
    }

    pub(crate) fn set_opened_ms(&self, now_ms: i64) {
        self.opened_ms.store(now_ms, Ordering::Release);
    }

    /// What its header says; one that is written is none of the others.
    pub(crate) fn kind(&self) -> SegmentKind {
        self.kind.get().copied().unwrap_or(SegmentKind::Appended)
    }

    pub(crate) fn set_kind(&self, kind: SegmentKind) {
        let known = *self.kind.get_or_init(|| kind);
        assert_eq!(known, kind, "a segment is of one kind");
    }

    pub(crate) fn mark_sealed(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }

    fn open_shut(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        let mut file = self.exclusive();
        if matches!(*file, SegmentFile::Shut) {
            *file = SegmentFile::Sealed(open_read_only(disk, &self.path)?);
        }
        Ok(())
    }

    fn shared(&self) -> RwLockReadGuard<'_, SegmentFile> {
        // A panic of redb's while reading is caught and reported; the lock protects no invariant
        // that it could have broken.
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, SegmentFile> {
        self.file.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Closing a damaged file can trip redb as opening it can.
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        let file = std::mem::replace(file, SegmentFile::Shut);
        let closed = no_panic(&self.path, || {
            drop(file);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "closing a segment failed");
        }
    }
}

/// Whether a read had to open the segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WasOpened(pub(crate) bool);

/// Opens a file for writing, repairing it after a crash; creates it if `access` says so.
pub(crate) fn open_writable(disk: &dyn Disk, path: &Path, access: Access) -> Result<Database, StorageError> {
    let backend = disk.open(path, access).map_err(StorageError::io("open", path))?;
    open_backend(path, backend)
}

/// Opens a database on any backend, repairing it after a crash.
pub(crate) fn open_backend(
    path: &Path,
    backend: Box<dyn redb::StorageBackend>,
) -> Result<Database, StorageError> {
    no_panic(path, || {
        let mut builder = Builder::new();
        builder.set_cache_size(WRITE_CACHE_BYTES);
        builder.create_with_backend(AnyBackend(backend)).map_err(StorageError::segment(path))
    })
}

/// Opens a file that was closed cleanly.
pub(crate) fn open_read_only(disk: &dyn Disk, path: &Path) -> Result<ReadOnlyDatabase, StorageError> {
    let backend = disk.open(path, Access::Read).map_err(StorageError::io("open", path))?;
    no_panic(path, || {
        let mut builder = Builder::new();
        builder.set_cache_size(READ_CACHE_BYTES);
        builder.open_read_only_with_backend(AnyBackend(backend)).map_err(StorageError::segment(path))
    })
}

/// Runs what touches redb's pages. redb asserts inside, and a file that was damaged from outside
/// can trip it: that is the disk's failure, not ours, and must not take the process down.
fn no_panic<T>(path: &Path, run: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(StorageError::Damaged { path: path.to_owned(), message })
    })
}
