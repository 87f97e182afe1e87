//! Directories whose names survive a power cut, whatever is in them.

use std::fs::File;
use std::io;
use std::path::Path;

/// Creates a directory, and those above it. A name is in the directory above, which has to be synced for it; so
/// far up as this process may read.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for above in dir.canonicalize()?.ancestors().skip(1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            Ok(()) => {}
            // What this process can't read it didn't create.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            // Some file systems have nothing to sync in a directory.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::create;

    #[test]
    fn directories_are_made_with_those_above_them() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b/c");
        create(&dir).unwrap();
        create(&dir).unwrap();
        assert!(dir.is_dir());
        std::fs::write(home.path().join("file"), "").unwrap();
        create(&home.path().join("file/dir")).unwrap_err();
    }
}
