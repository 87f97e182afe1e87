//! Opening files that lie below a directory, and no others: the kernel resolves the path and refuses whatever leads out,
//! `..` and links among it. Whoever can write there can't point elsewhere, not even between a check and its use.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Opens a regular file to be read. `path` is relative to `dir`.
pub(super) fn open_beneath(dir: &Path, path: &Path) -> io::Result<File> {
    let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Opening a pipe would wait for whoever writes to it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(dir, path, flags, Mode::empty(), resolve)?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("dir");
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(home.path().join("outside"), "no").unwrap();
        fs::write(dir.join("sub/inside"), "yes").unwrap();
        symlink("sub/inside", dir.join("link-inside")).unwrap();
        symlink("../outside", dir.join("link-outside")).unwrap();
        symlink(home.path().join("outside"), dir.join("link-absolute")).unwrap();
        symlink("..", dir.join("link-up")).unwrap();
        for (path, is_open) in [
            ("sub/inside", true),
            ("sub/../sub/inside", true),
            ("link-inside", true),
            ("link-outside", false),
            ("link-absolute", false),
            ("link-up/outside", false),
            ("../outside", false),
            ("sub/../../outside", false),
            ("sub", false),
            ("absent", false),
            ("", false),
        ] {
            assert_eq!(open_beneath(&dir, Path::new(path)).is_ok(), is_open, "{path:?}");
        }
        let absolute = home.path().join("outside");
        assert!(open_beneath(&dir, &absolute).is_err());
    }
}
