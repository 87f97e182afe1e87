//! Plugins that were uploaded: files named by the hash of their bytes, written once, and beside each its signature.
//!
//! A plugin is uploaded before the pipeline that names it is applied. Until then it is unused, and of the unused ones
//! the latest are kept, within limits: nobody fills the disk by uploading.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millstream_runtime::engine::{LoadError, PluginEngine};
use millstream_runtime::limits::COMPONENT_BYTES_MAX;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::signature::{Signature, SignatureError, signature_path};

/// What unused plugins may take of the disk.
const UNUSED_BYTES_MAX: u64 = 512 * 1024 * 1024;
const UNUSED_COUNT_MAX: usize = 256;
const SUFFIX: &str = ".wasm";
/// Of files that are being written.
const PART_SUFFIX: &str = ".part";

#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginStoreError {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the plugin has more than the {COMPONENT_BYTES_MAX} bytes that one may have")]
    TooLarge,
    #[error(transparent)]
    NotAPlugin(#[from] LoadError),
    #[error("plugin's bytes hash to {found}, not to {expected}: were they cut or changed?")]
    Hash { expected: String, found: String },
    #[error("{0:?} is no sha-256 in lower-case hexadecimal")]
    NotAHash(String),
    #[error("plugin {0} was not uploaded")]
    Unknown(String),
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A plugin that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StoredPlugin {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

/// Which unused plugins stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unused {
    /// Nobody can be about to apply them.
    None,
    /// The latest, within the limits.
    Recent,
}

pub(crate) struct PluginStore {
    dir: PathBuf,
}

impl PluginStore {
    pub(crate) fn open(dir: &Path) -> Result<Self, PluginStoreError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let fail = failed("clear", dir);
        for entry in fs::read_dir(dir).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            // A crash interrupted an upload.
            if entry.file_name().to_string_lossy().ends_with(PART_SUFFIX) {
                fs::remove_file(entry.path()).map_err(&fail)?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Keeps the bytes, if they may be a plugin; `sha256` is what they must hash to. It counts as uploaded at `now_ms`,
    /// also if it is there already. A signature takes the place of one that was there; without one, that stays.
    pub(crate) fn put(
        &self,
        sha256: &str,
        bytes: &[u8],
        signature: Option<&Signature>,
        now_ms: i64,
    ) -> Result<(), PluginStoreError> {
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(PluginStoreError::TooLarge);
        }
        let path = self.path(sha256)?;
        check_hash(bytes, sha256)?;
        PluginEngine::check(bytes)?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms.unsigned_abs());
        let fail = failed("write plugin", &path);
        match fs::File::open(&path) {
            Ok(file) => file.set_modified(now).map_err(fail)?,
            Err(_) => self.write(&path, bytes, now).map_err(fail)?,
        }
        let Some(signature) = signature else { return Ok(()) };
        // Behind its plugin: there is no signature without one.
        let path = signature_path(&path);
        self.write(&path, signature.to_text().as_bytes(), now).map_err(failed("write signature", &path))
    }

    /// What came with the plugin of that hash.
    pub(crate) fn signature(&self, sha256: &str) -> Result<Option<Signature>, PluginStoreError> {
        let path = signature_path(&self.path(sha256)?);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(Signature::parse(&read.map_err(failed("read signature", &path))?)?)),
        }
    }

    /// Synced before it has its name: a file under a hash is whole, also after a crash. Each upload writes a file of
    /// its own, so that two of the same plugin don't meet.
    fn write(&self, path: &Path, bytes: &[u8], now: SystemTime) -> io::Result<()> {
        let mut part = tempfile::Builder::new().suffix(PART_SUFFIX).tempfile_in(&self.dir)?;
        part.write_all(bytes)?;
        part.as_file().set_modified(now)?;
        part.as_file().sync_all()?;
        part.persist(path)?;
        fs::File::open(&self.dir)?.sync_all()
    }

    /// The bytes, which are what was uploaded.
    pub(crate) fn get(&self, sha256: &str) -> Result<Vec<u8>, PluginStoreError> {
        let path = self.path(sha256)?;
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PluginStoreError::Unknown(sha256.to_owned()));
            }
            read => read.map_err(failed("read plugin", &path))?,
        };
        check_hash(&bytes, sha256)?;
        Ok(bytes)
    }

    /// Removes plugins that are not `used`, but for some of them. The hashes of those that stay come back.
    pub(super) fn sweep(
        &self,
        used: &BTreeSet<String>,
        unused: Unused,
    ) -> Result<BTreeSet<String>, PluginStoreError> {
        let (mut bytes_left, mut count_left) = match unused {
            Unused::None => (0, 0),
            Unused::Recent => (UNUSED_BYTES_MAX, UNUSED_COUNT_MAX),
        };
        let mut found = self.files()?;
        found.sort_by_key(|(_, modified)| std::cmp::Reverse(*modified));
        let mut kept = BTreeSet::new();
        for (StoredPlugin { sha256, bytes }, _) in found {
            if !used.contains(&sha256) {
                if bytes > bytes_left || count_left == 0 {
                    let path = self.dir.join(format!("{sha256}{SUFFIX}"));
                    // First, so that it never stays alone.
                    match fs::remove_file(signature_path(&path)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(failed("remove the signature of", &path)(error));
                        }
                        _ => fs::remove_file(&path).map_err(failed("remove", &path))?,
                    }
                    continue;
                }
                (bytes_left, count_left) = (bytes_left - bytes, count_left - 1);
            }
            kept.insert(sha256);
        }
        Ok(kept)
    }

    pub(crate) fn list(&self) -> Result<Vec<StoredPlugin>, PluginStoreError> {
        let mut found: Vec<_> = self.files()?.into_iter().map(|(plugin, _)| plugin).collect();
        found.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        Ok(found)
    }

    /// All plugins, and when each was uploaded last.
    fn files(&self) -> Result<Vec<(StoredPlugin, SystemTime)>, PluginStoreError> {
        let fail = failed("list", &self.dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(sha256) = name.strip_suffix(SUFFIX) else { continue };
            let metadata = match entry.metadata() {
                // Swept in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(&fail)?,
            };
            let plugin = StoredPlugin { sha256: sha256.to_owned(), bytes: metadata.len() };
            found.push((plugin, metadata.modified().map_err(&fail)?));
        }
        Ok(found)
    }

    /// The file of a hash, which is checked because it comes from outside and becomes a path.
    fn path(&self, sha256: &str) -> Result<PathBuf, PluginStoreError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match sha256.len() == 64 && sha256.bytes().all(hex) {
            true => Ok(self.dir.join(format!("{sha256}{SUFFIX}"))),
            false => Err(PluginStoreError::NotAHash(sha256.to_owned())),
        }
    }
}

/// The sha-256 of bytes, in lower-case hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_hash(bytes: &[u8], expected: &str) -> Result<(), PluginStoreError> {
    let found = hash(bytes);
    match found == expected {
        true => Ok(()),
        false => Err(PluginStoreError::Hash { expected: expected.to_owned(), found }),
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PluginStoreError + 'a {
    move |source| PluginStoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::PrivateKey;

    const FILTER: &str = env!("GUEST_FILTER");

    /// A component that differs from others by its number: custom sections are for anyone.
    fn plugin(number: u8) -> (String, Vec<u8>) {
        let mut bytes = fs::read(FILTER).unwrap();
        bytes.extend([0, 3, 1, b'n', number]);
        (hash(&bytes), bytes)
    }

    fn store() -> (tempfile::TempDir, PluginStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = PluginStore::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn plugins_are_kept_under_their_hash_and_nothing_else() {
        let (dir, store) = store();
        let (sha256, bytes) = plugin(0);
        store.put(&sha256, &bytes, None, 1).unwrap();
        store.put(&sha256, &bytes, None, 2).unwrap();
        assert_eq!(store.get(&sha256).unwrap(), bytes);
        let listed = StoredPlugin { sha256: sha256.clone(), bytes: bytes.len() as u64 };
        assert_eq!(store.list().unwrap(), [listed]);
        assert!(matches!(store.put(&sha256, b"other", None, 3), Err(PluginStoreError::Hash { .. })));
        assert!(matches!(store.get(&plugin(1).0), Err(PluginStoreError::Unknown(_))));
        for name in ["", "../../etc/passwd", &sha256.to_uppercase(), &sha256[1..]] {
            assert!(matches!(store.get(name), Err(PluginStoreError::NotAHash(_))), "{name}");
        }
        fs::write(dir.path().join(format!("{sha256}.wasm")), "damaged").unwrap();
        assert!(matches!(store.get(&sha256), Err(PluginStoreError::Hash { .. })));
    }

    /// Symptom: a megabyte of noise was kept as a plugin. Cause: only its hash was checked. Fix: what can be told without
    /// compiling is checked first.
    #[test]
    fn what_is_no_plugin_is_not_kept() {
        let (_dir, store) = store();
        for bytes in [&b"noise"[..], b"\0asm\x0d\0\x01\0"] {
            let refused = store.put(&hash(bytes), bytes, None, 1);
            assert!(matches!(refused, Err(PluginStoreError::NotAPlugin(_))), "{refused:?}");
        }
        assert_eq!(store.list().unwrap(), []);
    }

    /// Symptom: an upload of a plugin could fail, or leave a damaged file, while another client uploaded the same. Cause:
    /// both wrote one file before it got its name. Fix: each writes its own.
    #[test]
    fn the_same_plugin_may_come_from_many_at_once() {
        let (dir, store) = store();
        let (sha256, bytes) = plugin(0);
        std::thread::scope(|scope| {
            let put = || store.put(&sha256, &bytes, None, 1);
            let all: Vec<_> = (0..8).map(|_| scope.spawn(put)).collect();
            all.into_iter().for_each(|one| one.join().unwrap().unwrap());
        });
        assert_eq!(store.get(&sha256).unwrap(), bytes);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half-written stays");
    }

    /// Symptom: plugins filled the disk. Cause: none was ever removed. Fix: those that no pipeline names go, but for the
    /// latest.
    #[test]
    fn unused_plugins_are_removed_oldest_first() {
        let (dir, store) = store();
        let plugins: Vec<_> = (0..3).map(plugin).collect();
        for (uploaded_ms, (sha256, bytes)) in (1000..).step_by(1000).zip(&plugins) {
            store.put(sha256, bytes, None, uploaded_ms).unwrap();
        }
        // Uploaded again, the first is the latest.
        store.put(&plugins[0].0, &plugins[0].1, None, 9000).unwrap();
        let sparse = |number: usize, bytes: u64| {
            let path = dir.path().join(format!("{}.wasm", plugins[number].0));
            fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
            fs::File::open(path).unwrap().set_modified(uploaded(number)).unwrap();
        };
        sparse(0, UNUSED_BYTES_MAX);
        let hashes = |numbers: &[usize]| numbers.iter().map(|n| plugins[*n].0.clone()).collect();
        let used: BTreeSet<_> = hashes(&[1]);
        assert_eq!(store.sweep(&used, Unused::Recent).unwrap(), hashes(&[0, 1]));
        assert_eq!(store.sweep(&used, Unused::None).unwrap(), used);
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn a_signature_is_kept_with_its_plugin_and_goes_with_it() {
        let (dir, store) = store();
        let (sha256, bytes) = plugin(0);
        let signatures = [(); 2].map(|()| PrivateKey::generate().unwrap().sign(&sha256));
        store.put(&sha256, &bytes, None, 1).unwrap();
        assert_eq!(store.signature(&sha256).unwrap(), None);
        for signature in &signatures {
            store.put(&sha256, &bytes, Some(signature), 2).unwrap();
            store.put(&sha256, &bytes, None, 3).unwrap();
            assert_eq!(store.signature(&sha256).unwrap().as_ref(), Some(signature));
        }
        assert_eq!(store.list().unwrap().len(), 1, "a signature is no plugin");
        let used = BTreeSet::from([sha256.clone()]);
        store.sweep(&used, Unused::None).unwrap();
        assert!(store.signature(&sha256).unwrap().is_some());
        fs::write(dir.path().join(format!("{sha256}.wasm.sig")), "damaged").unwrap();
        assert!(matches!(store.signature(&sha256), Err(PluginStoreError::Signature(_))));
        store.sweep(&BTreeSet::new(), Unused::None).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn uploaded(number: usize) -> SystemTime {
        let ms = if number == 0 { 9000 } else { 1000 * (number as u64 + 1) };
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }
}
