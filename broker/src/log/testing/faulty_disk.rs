//! Files in memory, of which a crash keeps what was synced and any part of what wasn't.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::SeededRandom;
use crate::log::disk::{Access, DirLock, Disk, Space};

/// What is to go wrong, counted in operations that change the disk: writes, resizes, syncs, renames
/// and removals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power goes after that many operations: the next is done in part, and all fail from then
    /// on, until [`FaultyDisk::restart`].
    pub crash_after: Option<u64>,
    /// Syncs fail after that many operations, and what they should have synced is lost in a crash.
    pub fail_syncs_after: Option<u64>,
    /// Bytes that all files together may take.
    pub capacity_bytes: Option<u64>,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: SeededRandom,
    faults: Faults,
    operations: u64,
    /// Raised by a restart: a file that was opened before can't be used after.
    boot: u64,
    files: Vec<FileState>,
    /// Names as they are now -> file.
    names: BTreeMap<PathBuf, usize>,
    /// Names as of the last sync of the directory.
    durable_names: BTreeMap<PathBuf, usize>,
    locked: HashSet<PathBuf>,
}

#[derive(Debug, Default)]
struct FileState {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Operation>,
}

#[derive(Debug)]
enum Operation {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// What a disk writes as a whole.
const SECTOR_BYTES: [usize; 2] = [512, 4096];

impl FaultyDisk {
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: SeededRandom::new(seed),
            faults: Faults::default(),
            operations: 0,
            boot: 0,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            locked: HashSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Sets what is to go wrong, counted from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.lock();
        state.operations = 0;
        state.faults = faults;
    }

    /// Operations since the faults were set.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The power comes back: what was synced is there, and any part of what wasn't, sector by
    /// sector. Nothing goes wrong any more.
    pub fn restart(&self) {
        let mut state = self.lock();
        let State { random, files, .. } = &mut *state;
        for file in files {
            for operation in std::mem::take(&mut file.unsynced) {
                survive(random, &mut file.durable, operation);
            }
            file.bytes = file.durable.clone();
        }
        // A journalling file system keeps names in order; a test needs no more than both extremes.
        if state.random.chance(50) {
            state.names = state.durable_names.clone();
        } else {
            state.durable_names = state.names.clone();
        }
        state.faults = Faults::default();
        state.boot += 1;
        state.locked.clear();
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        let state = self.lock();
        state.names.values().map(|number| state.files[*number].bytes.len() as u64).sum()
    }

    /// Flips a bit of a file, durably.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) {
        let mut state = self.lock();
        let number = state.names[path];
        let file = &mut state.files[number];
        file.bytes[byte] ^= 1 << bit;
        file.durable[byte] ^= 1 << bit;
    }

    /// A file's contents.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(path).map(|number| state.files[*number].bytes.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies what a crash leaves of an operation that wasn't synced.
fn survive(random: &mut SeededRandom, bytes: &mut Vec<u8>, operation: Operation) {
    let fate = random.below(4);
    match operation {
        _ if fate == 0 => {}
        Operation::SetLen(len) => bytes.resize(len, 0),
        Operation::Write { offset, data } => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            let sector = SECTOR_BYTES[random.below(2) as usize];
            for (index, part) in data.chunks(sector).enumerate() {
                if fate == 1 || random.chance(50) {
                    let at = offset + index * sector;
                    bytes[at..at + part.len()].copy_from_slice(part);
                }
            }
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Counts an operation; fails once the power is off. `Ok(false)` for the one it goes off in.
    fn operate(&mut self) -> io::Result<bool> {
        self.operations += 1;
        match self.faults.crash_after {
            Some(after) if self.operations > after + 1 => Err(power_is_off()),
            Some(after) if self.operations > after => Ok(false),
            _ => Ok(true),
        }
    }

    fn operate_whole(&mut self) -> io::Result<()> {
        if self.operate()? { Ok(()) } else { Err(power_is_off()) }
    }

    fn is_off(&self) -> bool {
        self.faults.crash_after.is_some_and(|after| self.operations > after)
    }

    fn set_file_len(&mut self, number: usize, len: usize) -> io::Result<()> {
        let used: usize = self.files.iter().map(|file| file.bytes.len()).sum();
        let grown = used + len.saturating_sub(self.files[number].bytes.len());
        if self.faults.capacity_bytes.is_some_and(|capacity| grown as u64 > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.files[number].bytes.resize(len, 0);
        Ok(())
    }
}

#[derive(Debug)]
struct Lock {
    disk: FaultyDisk,
    dir: PathBuf,
}

impl DirLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.lock().locked.remove(&self.dir);
    }
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        let is_free = FaultyDisk::lock(self).locked.insert(dir.to_owned());
        let lock = || Box::new(Lock { disk: self.clone(), dir: dir.to_owned() }) as Box<dyn DirLock>;
        Ok(is_free.then(lock))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = FaultyDisk::lock(self);
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = FaultyDisk::lock(self);
        let number = match (state.names.get(path), access) {
            (Some(number), Access::Write | Access::Read) => *number,
            (None, Access::Write | Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (_, Access::Create) => {
                state.operate_whole()?;
                state.files.push(FileState::default());
                let number = state.files.len() - 1;
                state.names.insert(path.to_owned(), number);
                number
            }
        };
        let boot = state.boot;
        drop(state);
        Ok(Box::new(OpenFile { disk: self.clone(), number, boot, access }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = FaultyDisk::lock(self);
        state.operate_whole()?;
        let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = FaultyDisk::lock(self);
        state.operate_whole()?;
        state.names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = FaultyDisk::lock(self);
        state.operate_whole()?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|path, _| path.parent() != Some(dir));
        let here = names.iter().filter(|(path, _)| path.parent() == Some(dir));
        durable_names.extend(here.map(|(path, number)| (path.clone(), *number)));
        Ok(())
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = FaultyDisk::lock(self);
        let number = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*number].bytes.len() as u64)
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let state = FaultyDisk::lock(self);
        let bytes = state.faults.capacity_bytes.unwrap_or(u64::MAX);
        drop(state);
        Ok(Space { bytes, free_bytes: bytes.saturating_sub(self.used_bytes()) })
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: FaultyDisk,
    number: usize,
    boot: u64,
    access: Access,
}

impl OpenFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.boot != self.boot {
            return Err(io::Error::other("the file was opened before the restart"));
        }
        Ok(state)
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.state()
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.number].bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        if state.is_off() {
            return Err(power_is_off());
        }
        let start = offset as usize;
        let bytes = state.files[self.number].bytes.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        state.operate_whole()?;
        state.set_file_len(self.number, len as usize)?;
        state.files[self.number].unsynced.push(Operation::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.writable()?;
        state.operate_whole()?;
        if state.faults.fail_syncs_after.is_some_and(|after| state.operations > after) {
            // As Linux does: the pages count as clean now, so a later sync won't write them.
            state.files[self.number].unsynced.clear();
            return Err(io::Error::other("sync failed"));
        }
        let file = &mut state.files[self.number];
        for operation in file.unsynced.drain(..) {
            match operation {
                Operation::SetLen(len) => file.durable.resize(len, 0),
                Operation::Write { offset, data } => {
                    let end = offset + data.len();
                    if file.durable.len() < end {
                        file.durable.resize(end, 0);
                    }
                    file.durable[offset..end].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.writable()?;
        let is_whole = state.operate()?;
        let offset = offset as usize;
        // The write that the power goes off in is short.
        let length = if is_whole { data.len() } else { state.random.below(data.len() as u64 + 1) as usize };
        let end = offset + length;
        if end > state.files[self.number].bytes.len() {
            state.set_file_len(self.number, end)?;
        }
        let file = &mut state.files[self.number];
        file.bytes[offset..end].copy_from_slice(&data[..length]);
        file.unsynced.push(Operation::Write { offset, data: data[..length].to_vec() });
        if is_whole { Ok(()) } else { Err(power_is_off()) }
    }
}
