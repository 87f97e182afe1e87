//! The disk as storage sees it: the seam where tests put one that fails.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;

use redb::{BackendError, StorageBackend};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A new file; one of that name is emptied.
    Create,
    Write,
    Read,
}

/// Held while a log dir is open.
pub trait DirLock: Send + Sync + Debug {}

/// Files and directories. Durability is the caller's business: a file's bytes with `sync_data`, its
/// name with [`Disk::sync_dir`].
pub trait Disk: Send + Sync + Debug + 'static {
    /// Durable when it returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Excludes other processes from the directory; `None` when one is there already.
    fn lock(&self, dir: &Path) -> io::Result<Option<Box<dyn DirLock>>>;
    /// The names of the directory's files.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageBackend>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that the file takes.
    fn file_bytes(&self, path: &Path) -> io::Result<u64>;
    /// What the file system of the directory has.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// Free for this process.
    pub free_bytes: u64,
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileDisk;

const LOCK_FILE_NAME: &str = ".lock";

#[derive(Debug)]
struct LockFile {
    /// The lock ends when the file is closed, so also when the process dies.
    _file: File,
}

impl DirLock for LockFile {}

impl Disk for FileDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        crate::durable_dir::create(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let path = dir.join(LOCK_FILE_NAME);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(LockFile { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // A name that isn't UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Create => options.write(true).create(true).truncate(true),
            Access::Write => options.write(true),
            Access::Read => &mut options,
        };
        Ok(Box::new(FileBackend { file: options.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let statistics = rustix::fs::statvfs(dir)?;
        let of_blocks = |blocks: u64| blocks.saturating_mul(statistics.f_frsize);
        Ok(Space { bytes: of_blocks(statistics.f_blocks), free_bytes: of_blocks(statistics.f_bavail) })
    }
}

/// One file. It takes no lock of its own: the directory's lock covers it.
#[derive(Debug)]
struct FileBackend {
    file: File,
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// Any disk's file, as redb takes it.
#[derive(Debug)]
pub(crate) struct AnyBackend(pub(crate) Box<dyn StorageBackend>);

impl StorageBackend for AnyBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        // The directory's lock covers its files. Answering so, rather than that locks are
        // unsupported, spares a warning at every open.
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
