//! The list of trusted keys: a line for each, with its name and the base64 of the public key. `#` begins a comment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{PUBLIC_KEY_LENGTH, VerifyingKey};

use super::KeyId;
use crate::regular_file;

const KEYS_MAX: usize = 256;
const FILE_BYTES_MAX: usize = 64 * 1024;
const NAME_BYTES_MAX: usize = 100;

/// Keys by their ids, with their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TrustedKeys(BTreeMap<KeyId, (String, VerifyingKey)>);

/// Why a list can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("read the trusted keys in {}: {reason}", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{}, line {line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: &'static str },
    #[error("{} has more than {FILE_BYTES_MAX} bytes or {KEYS_MAX} keys", path.display())]
    TooMany { path: PathBuf },
}

impl TrustedKeys {
    pub(crate) fn read(path: &Path) -> Result<Self, KeysError> {
        let failed = |reason: String| KeysError::Read { path: path.to_owned(), reason };
        let text = regular_file::read(path, FILE_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
        if text.len() > FILE_BYTES_MAX {
            return Err(KeysError::TooMany { path: path.to_owned() });
        }
        let text = String::from_utf8(text).map_err(|error| failed(error.to_string()))?;
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |reason| KeysError::Line { path: path.to_owned(), line: number, reason };
            keys.add(line).map_err(wrong)?;
            if keys.0.len() > KEYS_MAX {
                return Err(KeysError::TooMany { path: path.to_owned() });
            }
        }
        Ok(keys)
    }

    pub(super) fn find(&self, id: &KeyId) -> Option<(&str, &VerifyingKey)> {
        self.0.get(id).map(|(name, key)| (name.as_str(), key))
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, key) = line.split_once(char::is_whitespace).ok_or("write NAME KEY")?;
        if !is_key_name(name) {
            return Err("a name has 1 to 100 letters, digits, \".\", \"_\", \"@\" and \"-\"");
        }
        let bytes = BASE64_STANDARD.decode(key.trim()).ok();
        let bytes: Option<[u8; PUBLIC_KEY_LENGTH]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or("the key is not the base64 of 32 bytes")?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| "the key is no Ed25519 public key")?;
        // Anybody could sign for it.
        if key.is_weak() {
            return Err("the key is weak: make another with `millstream plugin keygen`");
        }
        if self.0.values().any(|(other, _)| other == name) {
            return Err("the name is there already");
        }
        match self.0.insert(KeyId::of(&key), (name.to_owned(), key)) {
            None => Ok(()),
            Some(_) => Err("the key is there already, under another name"),
        }
    }
}

pub(crate) fn is_key_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_legal)
}
