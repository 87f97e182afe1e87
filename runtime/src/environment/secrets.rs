//! Secrets: one file each, in a directory that the operator names. They are read whenever they are used, and nothing
//! that is written anywhere contains one.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beneath::open_beneath;

const SECRET_BYTES_MAX: u64 = 64 * 1024;
const NAME_BYTES_MAX: usize = 100;
/// Whoever is not the owner.
const OTHERS: u32 = 0o077;

/// The directory of the secrets; none where the node has none. Clones are the same.
#[derive(Debug, Clone)]
pub struct SecretsDir(Option<Arc<Path>>);

/// A secret. It shows itself to nobody but who asks for its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("this node has no secrets for plugins")]
    NoDir,
    #[error("{0:?} can't be the name of a secret")]
    Name(String),
    #[error("read it: {0}")]
    Read(#[from] io::Error),
    #[error("it has more than {SECRET_BYTES_MAX} bytes")]
    TooLarge,
}

impl SecretError {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NoDir => "name a directory in the node's plugin.secrets.dir, with a file for each secret",
            Self::Name(_) => {
                "use letters, digits, \"_\", \"-\" and \".\", which it may not begin with: it is a file's name"
            }
            Self::Read(_) => "put a file of that name into plugin.secrets.dir, readable to the node",
            Self::TooLarge => "put a shorter one in its place",
        }
    }
}

impl SecretsDir {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self(dir.map(Into::into))
    }

    /// The secret of that name, as it is now.
    pub(crate) fn read(&self, name: &str) -> Result<Secret, SecretError> {
        let file = self.open(name)?;
        let mut bytes = Vec::new();
        file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge);
        }
        // Editors leave it there.
        if bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        Ok(Secret(bytes))
    }

    /// Whether its owner alone can read it, if it is there.
    pub(super) fn is_private(&self, name: &str) -> Result<bool, SecretError> {
        let metadata = self.open(name)?.metadata()?;
        if metadata.len() > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge);
        }
        Ok(metadata.permissions().mode() & OTHERS == 0)
    }

    fn open(&self, name: &str) -> Result<File, SecretError> {
        let dir = self.0.as_deref().ok_or(SecretError::NoDir)?;
        if !is_secret_name(name) {
            return Err(SecretError::Name(name.to_owned()));
        }
        Ok(open_beneath(dir, Path::new(name))?)
    }
}

fn is_secret_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_legal)
}

impl Secret {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn secrets_are_files_of_the_directory_and_read_as_they_are_now() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("secrets");
        fs::create_dir(&dir).unwrap();
        fs::write(home.path().join("outside"), "no").unwrap();
        symlink("../outside", dir.join("linked")).unwrap();
        fs::write(dir.join("token"), "s3cret\r\n").unwrap();
        fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o644)).unwrap();
        let secrets = SecretsDir::new(Some(dir.clone()));
        assert_eq!(secrets.read("token").unwrap().as_bytes(), b"s3cret");
        assert!(!secrets.is_private("token").unwrap());
        fs::set_permissions(dir.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(secrets.is_private("token").unwrap());
        fs::write(dir.join("token"), "newer").unwrap();
        let secret = secrets.read("token").unwrap();
        assert_eq!(secret.as_bytes(), b"newer");
        assert_eq!(format!("{secret:?}"), "[secret]");
        for name in
            ["", ".", "..", ".hidden", "../outside", "a/b", "a\0b", "schl\u{fc}ssel", &"x".repeat(101)]
        {
            assert!(matches!(secrets.read(name), Err(SecretError::Name(_))), "{name:?}");
        }
        assert!(matches!(secrets.read("linked"), Err(SecretError::Read(_))));
        assert!(matches!(secrets.read("absent"), Err(SecretError::Read(_))));
        fs::write(dir.join("large"), vec![b'x'; 70_000]).unwrap();
        assert!(matches!(secrets.read("large"), Err(SecretError::TooLarge)));
        assert!(matches!(SecretsDir::new(None).read("token"), Err(SecretError::NoDir)));
    }
}
