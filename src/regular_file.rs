//! Reading files that somebody else may have put there: regular ones alone, and no more of them than is asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file to be read.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for whoever writes to it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// The file's bytes. Of one that has more than `bytes_max` one byte more, so that whoever limits it sees that.
pub(crate) fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// Symptom: a named pipe beside a plugin in the watched directory kept the node from seeing what else changed, and
    /// from stopping. Cause: opening it waits for whoever writes to it. Fix: nothing but regular files is read.
    #[test]
    fn only_regular_files_are_read_and_not_more_than_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "12345").unwrap();
        symlink("file", path("link")).unwrap();
        assert_eq!(read(&path("link"), 5).unwrap(), b"12345");
        assert_eq!(read(&path("file"), 3).unwrap(), b"1234");
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for other in [path("pipe"), path("."), "/dev/zero".into()] {
            let refused = read(&other, 3).unwrap_err().to_string();
            assert!(refused.contains("not a regular file"), "{refused}");
        }
        assert_eq!(read(&path("absent"), 3).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
