//! A disk in memory that forgets or tears what was not synced, from one seed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::{Database, StorageBackend};

use super::super::schema::{FORMAT, META};

/// What is torn is torn at these.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone)]
pub(super) struct ForgetfulDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// As of the last sync.
    synced: Vec<u8>,
    /// As the process sees it.
    current: Vec<u8>,
    /// Ranges written since the last sync.
    unsynced: Vec<(usize, Vec<u8>)>,
    failing: bool,
    seed: u64,
    /// Writes, syncs and resizes until the power goes.
    power_fails_in: Option<u32>,
    /// What the power failure left.
    left: Option<Vec<u8>>,
}

impl ForgetfulDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State { seed, ..State::default() })) }
    }

    pub(super) fn backend(&self) -> Backend {
        Backend(self.state.clone())
    }

    /// The power goes before one of the next operations. The process does not notice, and goes on in a world that
    /// is not the one that `after_power_failure` returns to.
    pub(super) fn lose_power_within(&self, operations: u32) {
        let mut state = self.state.lock().unwrap();
        state.power_fails_in = Some(state.random() as u32 % operations);
    }

    pub(super) fn has_lost_power(&self) -> bool {
        self.state.lock().unwrap().left.is_some()
    }

    /// A disk with what was left: synced bytes, and some sectors of what was written since.
    pub(super) fn after_power_failure(&self) -> Self {
        let mut state = self.state.lock().unwrap();
        let left = state.left.take().unwrap_or_else(|| state.torn());
        let restarted =
            State { synced: left.clone(), current: left, seed: state.random(), ..State::default() };
        Self { state: Arc::new(Mutex::new(restarted)) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.state.lock().unwrap().current.len()
    }

    /// Every further write and sync fails.
    pub(super) fn fail(&self) {
        self.state.lock().unwrap().failing = true;
    }
}

#[derive(Debug)]
pub(super) struct Backend(Arc<Mutex<State>>);

impl State {
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 32
    }

    fn torn(&mut self) -> Vec<u8> {
        let mut left = self.synced.clone();
        let unsynced = std::mem::take(&mut self.unsynced);
        for (offset, data) in &unsynced {
            for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                if self.random() % 2 == 1 {
                    let start = offset + n * SECTOR_BYTES;
                    left[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
        self.unsynced = unsynced;
        left
    }

    /// Before each operation that changes the disk.
    fn check(&mut self) -> io::Result<()> {
        match self.power_fails_in {
            Some(0) => {
                self.left = Some(self.torn());
                self.power_fails_in = None;
            }
            Some(more) => self.power_fails_in = Some(more - 1),
            None => {}
        }
        if self.failing { Err(io::Error::other("the disk fails")) } else { Ok(()) }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = offset as usize;
        let bytes = state.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::other("read past the end"))?);
        Ok(())
    }

    /// Lengths are kept at once, as if the file system had journalled them.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.check()?;
        state.current.resize(len as usize, 0);
        state.synced.resize(len as usize, 0);
        state.unsynced.retain(|(offset, data)| offset + data.len() <= len as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.check()?;
        for (start, data) in std::mem::take(&mut state.unsynced) {
            state.synced[start..start + data.len()].copy_from_slice(&data);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.check()?;
        let start = offset as usize;
        state.current[start..start + data.len()].copy_from_slice(data);
        state.unsynced.push((start, data.to_vec()));
        Ok(())
    }
}

/// Makes a file look as if a later version had written it.
pub(super) fn set_format(path: &Path, format: u32) {
    let db = Database::open(path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(FORMAT, format.to_le_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
}
