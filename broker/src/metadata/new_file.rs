//! Makes `meta.redb`.
//!
//! The file is put together in memory, written and synced under another name, and renamed: whatever is called
//! `meta.redb` is whole, at whatever moment the process died, and it costs two syncs where redb alone takes four.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::raft::{Identity, Origin};
use super::store::{FILE_NAME, OpenError, StoreError, damaged, format};
use crate::durable_dir;

const NEW_FILE_NAME: &str = "meta.redb.new";

/// Leaves a `meta.redb` in `dir`: this one, or that of a process which was faster.
pub(super) fn create(dir: &Path, identity: Identity, origin: Origin) -> Result<(), OpenError> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |error| OpenError::Io { path, error }
    };
    durable_dir::create(dir).map_err(io(dir))?;
    let (path, new) = (dir.join(FILE_NAME), dir.join(NEW_FILE_NAME));
    // What a process left that died here is written over.
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&new);
    let mut file = opened.map_err(io(&new))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: new.display().to_string() }),
        Err(TryLockError::Error(error)) => return Err(io(&new)(error)),
    }
    // Two processes may have started at once, and the other may have renamed the file that it had locked before
    // this one made another.
    if path.exists() {
        return std::fs::remove_file(&new).map_err(io(&new));
    }
    let bytes = content(identity, origin).map_err(|error| damaged(&new, &error))?;
    let written = file.set_len(0).and_then(|()| file.write_all(&bytes)).and_then(|()| file.sync_all());
    written.map_err(io(&new))?;
    std::fs::rename(&new, &path).map_err(io(&path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))
}

fn content(identity: Identity, origin: Origin) -> Result<Vec<u8>, StoreError> {
    let memory = Memory::default();
    let db = redb::Builder::new().create_with_backend(memory.clone())?;
    format(&db, identity, origin)?;
    db.close()?;
    Ok(std::mem::take(&mut *memory.bytes()))
}

/// A file's content before it is one.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn past_the_end() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let found = bytes.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(found.ok_or_else(past_the_end)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let place = bytes.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..data.len()));
        place.ok_or_else(past_the_end)?.copy_from_slice(data);
        Ok(())
    }
}
