//! Plugins that were uploaded: files named by the hash of their bytes, written once.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use millstream_runtime::limits::COMPONENT_BYTES_MAX;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginStoreError {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("plugin has {found} bytes, more than {COMPONENT_BYTES_MAX}")]
    TooLarge { found: usize },
    #[error("plugin's bytes hash to {found}, not to {expected}: was the upload cut or changed?")]
    Hash { expected: String, found: String },
    #[error("{0:?} is no sha-256 in lower-case hexadecimal")]
    NotAHash(String),
    #[error("plugin {0} was not uploaded")]
    Unknown(String),
}

/// A plugin that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StoredPlugin {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

pub(crate) struct PluginStore {
    dir: PathBuf,
}

impl PluginStore {
    pub(crate) fn open(dir: &Path) -> Result<Self, PluginStoreError> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Keeps the bytes; `sha256` is what they must hash to.
    pub(crate) fn put(&self, sha256: &str, bytes: &[u8]) -> Result<(), PluginStoreError> {
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(PluginStoreError::TooLarge { found: bytes.len() });
        }
        let path = self.path(sha256)?;
        let found = hash(bytes);
        if found != sha256 {
            return Err(PluginStoreError::Hash { expected: sha256.to_owned(), found });
        }
        if path.exists() {
            return Ok(());
        }
        // Synced before it has its name: a file under a hash is whole, also after a crash.
        let part = path.with_extension("part");
        let write = || {
            let mut file = fs::File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().map_err(failed("write plugin", &path))
    }

    pub(crate) fn get(&self, sha256: &str) -> Result<Vec<u8>, PluginStoreError> {
        let path = self.path(sha256)?;
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(PluginStoreError::Unknown(sha256.to_owned()))
            }
            read => read.map_err(failed("read plugin", &path)),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<StoredPlugin>, PluginStoreError> {
        let fail = failed("list", &self.dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(sha256) = name.strip_suffix(".wasm") {
                let bytes = entry.metadata().map_err(&fail)?.len();
                found.push(StoredPlugin { sha256: sha256.to_owned(), bytes });
            }
        }
        found.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        Ok(found)
    }

    /// The file of a hash, which is checked because it comes from outside and becomes a path.
    fn path(&self, sha256: &str) -> Result<PathBuf, PluginStoreError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match sha256.len() == 64 && sha256.bytes().all(hex) {
            true => Ok(self.dir.join(format!("{sha256}.wasm"))),
            false => Err(PluginStoreError::NotAHash(sha256.to_owned())),
        }
    }
}

/// The sha-256 of bytes, in lower-case hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PluginStoreError + 'a {
    move |source| PluginStoreError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_kept_under_their_hash_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = PluginStore::open(dir.path()).unwrap();
        let sha256 = hash(b"plugin");
        store.put(&sha256, b"plugin").unwrap();
        store.put(&sha256, b"plugin").unwrap();
        assert_eq!(store.get(&sha256).unwrap(), b"plugin");
        assert_eq!(store.list().unwrap(), [StoredPlugin { sha256: sha256.clone(), bytes: 6 }]);
        assert!(matches!(store.put(&sha256, b"other"), Err(PluginStoreError::Hash { .. })));
        assert!(matches!(store.get(&hash(b"other")), Err(PluginStoreError::Unknown(_))));
        for name in ["", "../../etc/passwd", &sha256.to_uppercase(), &sha256[1..]] {
            assert!(matches!(store.get(name), Err(PluginStoreError::NotAHash(_))), "{name}");
        }
    }
}
