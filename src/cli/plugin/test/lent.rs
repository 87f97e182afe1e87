//! What a case grants, written as an operator would.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use millstream_runtime::environment::Environment;
use tempfile::TempDir;

/// Secrets and files, for as long as a case runs.
pub(super) struct LentDir(TempDir);

impl LentDir {
    pub(super) fn new(
        secrets: &BTreeMap<String, String>,
        files: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let write = || -> io::Result<TempDir> {
            let dir = TempDir::new()?;
            for (folder, contents) in [("secrets", secrets), ("files", files)] {
                let folder = dir.path().join(folder);
                fs::create_dir(&folder)?;
                for (name, text) in contents {
                    fs::write(folder.join(name), text)?;
                }
            }
            Ok(dir)
        };
        write().map(Self).map_err(|error| format!("can't lend it secrets and files: {error}"))
    }

    pub(super) fn environment(&self) -> Environment {
        let dir = self.0.path();
        Environment::new(Some(dir.join("secrets")), vec![dir.join("files")])
    }
}
