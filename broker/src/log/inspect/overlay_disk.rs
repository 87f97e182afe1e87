//! A disk over another one, that keeps what is written in memory.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::log::disk::{Access, DirLock, Disk, Space};

const PAGE_BYTES: usize = 4096;

/// Sees the base disk's files, with what was changed through it on top.
#[derive(Debug)]
pub(super) struct OverlayDisk {
    base: Arc<dyn Disk>,
    /// Files that differ from the base; `None` for those that are gone.
    files: Mutex<BTreeMap<PathBuf, Option<Arc<Mutex<OverlayFile>>>>>,
}

/// A file and the pages of it that were written.
#[derive(Debug)]
struct OverlayFile {
    /// Absent for a file that was created here.
    base: Option<Box<dyn StorageBackend>>,
    /// What of the base still counts; a file that is cut and grows again reads zeros.
    base_len: u64,
    len: u64,
    pages: HashMap<u64, Box<[u8]>>,
}

impl OverlayDisk {
    pub(super) fn new(base: Arc<dyn Disk>) -> Self {
        Self { base, files: Mutex::default() }
    }

    /// The size of the file below.
    pub(super) fn base_file_bytes(&self, path: &Path) -> io::Result<u64> {
        self.base.file_bytes(path)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<Arc<Mutex<OverlayFile>>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of that name.
    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<OverlayFile>>> {
        match self.files().get(path) {
            Some(Some(file)) => return Ok(file.clone()),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let base = self.base.open(path, Access::Read)?;
        let len = base.len()?;
        let file = OverlayFile { base: Some(base), base_len: len, len, pages: HashMap::new() };
        Ok(Arc::new(Mutex::new(file)))
    }
}

impl Disk for OverlayDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // Listing tells whether it is there; creating it would be a change.
        self.base.list(dir).map(drop)
    }

    fn lock(&self, dir: &Path) -> io::Result<Option<Box<dyn DirLock>>> {
        self.base.lock(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.files();
        let mut names = self.base.list(dir)?;
        names.retain(|name| !files.contains_key(&dir.join(name)));
        let here = files.iter().filter(|(path, file)| file.is_some() && path.parent() == Some(dir));
        names.extend(here.filter_map(|(path, _)| Some(path.file_name()?.to_str()?.to_owned())));
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StorageBackend>> {
        let file = match access {
            Access::Create => {
                let file = OverlayFile { base: None, base_len: 0, len: 0, pages: HashMap::new() };
                Arc::new(Mutex::new(file))
            }
            Access::Write | Access::Read => self.file(path)?,
        };
        if access != Access::Read {
            self.files().insert(path.to_owned(), Some(file.clone()));
        }
        Ok(Box::new(OverlayHandle { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files();
        files.insert(from.to_owned(), None);
        files.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.files().insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        // Nothing of it reaches a disk.
        Ok(Space { bytes: u64::MAX, free_bytes: u64::MAX })
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        let file = self.file(path)?;
        let len = file.lock().unwrap_or_else(PoisonError::into_inner).len;
        Ok(len)
    }
}

#[derive(Debug)]
struct OverlayHandle {
    file: Arc<Mutex<OverlayFile>>,
}

impl OverlayHandle {
    fn lock(&self) -> MutexGuard<'_, OverlayFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OverlayFile {
    /// Reads what the base has of a range; beyond its end there are zeros.
    fn read_base(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.base_len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        match &self.base {
            Some(base) if !there.is_empty() => base.read(offset, there),
            _ => Ok(()),
        }
    }
}

/// The parts of a range that lie in one page each: page, offset within it, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let within = (at % PAGE_BYTES as u64) as usize;
            let part = (PAGE_BYTES - within).min((end - at) as usize);
            let page = at / PAGE_BYTES as u64;
            at += part as u64;
            (page, within, part)
        })
    })
}

impl StorageBackend for OverlayHandle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.lock();
        if offset + out.len() as u64 > file.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.read_base(offset, out)?;
        if file.pages.is_empty() {
            return Ok(());
        }
        let mut at = 0;
        for (page, within, part) in parts(offset, out.len()) {
            if let Some(written) = file.pages.get(&page) {
                out[at..at + part].copy_from_slice(&written[within..within + part]);
            }
            at += part;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut file = self.lock();
        if len < file.len {
            file.base_len = file.base_len.min(len);
            let end = len.div_ceil(PAGE_BYTES as u64);
            file.pages.retain(|page, _| *page < end);
            let within = (len % PAGE_BYTES as u64) as usize;
            if within > 0
                && let Some(last) = file.pages.get_mut(&(end - 1))
            {
                last[within..].fill(0);
            }
        }
        file.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut file = self.lock();
        file.len = file.len.max(offset + data.len() as u64);
        let mut at = 0;
        for (page, within, part) in parts(offset, data.len()) {
            if !file.pages.contains_key(&page) {
                let mut bytes = vec![0; PAGE_BYTES].into_boxed_slice();
                file.read_base(page * PAGE_BYTES as u64, &mut bytes)?;
                file.pages.insert(page, bytes);
            }
            let bytes = file.pages.get_mut(&page).expect("it was put there if it was missing");
            bytes[within..within + part].copy_from_slice(&data[at..at + part]);
            at += part;
        }
        Ok(())
    }
}
