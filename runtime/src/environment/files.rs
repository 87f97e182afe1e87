//! Files that plugins may be granted: those below directories that the operator names.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::beneath::open_beneath;

/// Directories below which granted files may lie. Clones are the same.
#[derive(Debug, Clone)]
pub struct FileDirs(Arc<[PathBuf]>);

/// Why a file can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("this node lends no files to plugins")]
    NoDirs,
    #[error("the path {path:?} is below none of the directories that this node lends")]
    Elsewhere { path: String },
    #[error("the path {path:?} is empty, or goes up")]
    Path { path: String },
    #[error("open {path:?}: {source}")]
    Open { path: String, source: io::Error },
}

impl FileError {
    /// For a plugin, which does not learn where the file lies.
    pub(crate) fn without_path(&self) -> String {
        match self {
            Self::Open { source, .. } => source.to_string(),
            Self::NoDirs | Self::Elsewhere { .. } | Self::Path { .. } => {
                "this node does not lend it".to_owned()
            }
        }
    }

    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NoDirs => "name the file's directory in the node's plugin.files.dirs",
            Self::Elsewhere { .. } => {
                "move the file there, or name its directory in the node's plugin.files.dirs"
            }
            Self::Path { .. } => "name the file as it lies below a directory of plugin.files.dirs",
            Self::Open { .. } => "put the file there, or correct the path",
        }
    }
}

impl FileDirs {
    pub(super) fn new(dirs: Vec<PathBuf>) -> Self {
        Self(dirs.into())
    }

    /// Opens a file. A path that is not absolute is looked for in each of the directories.
    pub(crate) fn open(&self, path: &str) -> Result<File, FileError> {
        if self.0.is_empty() {
            return Err(FileError::NoDirs);
        }
        let named = Path::new(path);
        let goes_up = named.components().any(|component| component == Component::ParentDir);
        if path.is_empty() || goes_up {
            return Err(FileError::Path { path: path.to_owned() });
        }
        let mut error = FileError::Elsewhere { path: path.to_owned() };
        for dir in self.0.iter() {
            let below = if named.is_absolute() { named.strip_prefix(dir).ok() } else { Some(named) };
            let Some(below) = below else { continue };
            match open_beneath(dir, below) {
                Ok(file) => return Ok(file),
                Err(source) => error = FileError::Open { path: path.to_owned(), source },
            }
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::*;

    #[test]
    fn files_are_found_below_the_directories_alone() {
        let home = tempfile::tempdir().unwrap();
        let (a, b) = (home.path().join("a"), home.path().join("b"));
        for dir in [&a, &b] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(b.join("data.csv"), "1,2").unwrap();
        fs::write(home.path().join("other"), "no").unwrap();
        let dirs = FileDirs::new(vec![a, b.clone()]);
        let absolute = b.join("data.csv");
        for path in ["data.csv", absolute.to_str().unwrap()] {
            let mut text = String::new();
            dirs.open(path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "1,2");
        }
        let refused = |path: &str, expect: &str| {
            let error = dirs.open(path).unwrap_err().to_string();
            assert!(error.contains(expect), "{path}: {error}");
        };
        refused(home.path().join("other").to_str().unwrap(), "below none");
        refused("../other", "goes up");
        refused(b.join("../other").to_str().unwrap(), "goes up");
        refused("", "is empty");
        refused("absent", "open");
        assert!(matches!(FileDirs::new(Vec::new()).open("x"), Err(FileError::NoDirs)));
    }
}
