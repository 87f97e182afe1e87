//! A key to sign with. Its file is for its owner alone; nothing prints it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{SECRET_KEY_LENGTH, Signer as _, SigningKey};

use super::{KeyId, Signature, message};
use crate::regular_file;

const FORMAT: &str = "millstream-signing-key: 1";
const FILE_BYTES_MAX: u64 = 1024;
const OWNER_ONLY: u32 = 0o600;
/// Whoever is not the owner.
const OTHERS: u32 = 0o077;

pub(crate) struct PrivateKey(SigningKey);

#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivateKeyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("it is no key that `millstream plugin keygen` has made")]
    Malformed,
    #[error("others than its owner can read it: set its mode to 0600")]
    Readable,
}

impl PrivateKey {
    pub(crate) fn generate() -> Result<Self, PrivateKeyError> {
        let mut seed = [0; SECRET_KEY_LENGTH];
        getrandom::fill(&mut seed).map_err(PrivateKeyError::Random)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    pub(crate) fn read(path: &Path) -> Result<Self, PrivateKeyError> {
        let file = regular_file::open(path)?;
        if file.metadata()?.permissions().mode() & OTHERS != 0 {
            return Err(PrivateKeyError::Readable);
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        let text = String::from_utf8(text).map_err(|_| PrivateKeyError::Malformed)?;
        let key = text.strip_prefix(FORMAT).map(str::trim).and_then(|key| key.strip_prefix("key: "));
        let seed = key.and_then(|key| BASE64_STANDARD.decode(key).ok());
        let seed: Option<[u8; SECRET_KEY_LENGTH]> = seed.and_then(|seed| seed.try_into().ok());
        Ok(Self(SigningKey::from_bytes(&seed.ok_or(PrivateKeyError::Malformed)?)))
    }

    /// Writes a file that was not there before.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
        writeln!(file, "{FORMAT}\nkey: {}", BASE64_STANDARD.encode(self.0.as_bytes()))?;
        file.sync_all()
    }

    /// A line for the list of trusted keys.
    pub(crate) fn public_line(&self, name: &str) -> String {
        format!("{name} {}\n", BASE64_STANDARD.encode(self.0.verifying_key().as_bytes()))
    }

    pub(crate) fn id(&self) -> KeyId {
        KeyId::of(&self.0.verifying_key())
    }

    /// Vouches for the component of that hash.
    pub(crate) fn sign(&self, sha256: &str) -> Signature {
        let bytes = self.0.sign(&message(sha256)).to_bytes();
        Signature { key: self.id(), sha256: sha256.to_owned(), bytes }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.id())
    }
}
