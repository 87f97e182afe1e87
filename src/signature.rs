//! Signatures of plugins: who vouches for a component, whoever uploads it.
//!
//! ```text
//! keygen ──> FILE (secret), FILE.pub (a line for the list of trusted keys)
//! sign   ──> COMPONENT.sig, which goes wherever the component goes
//! node   ──> looks at it when the component is uploaded, and whenever it is about to start it
//! ```
//!
//! What is signed is a text that nothing else signs, and the component's sha-256. A signature's file is
//!
//! ```text
//! millstream-plugin-signature: 1
//! key: 0123456789abcdef                the start of the sha-256 of the public key
//! sha256: (64 digits)                  of the component
//! signature: (base64 of 64 bytes)      Ed25519
//! ```

mod private_key;
mod trusted_keys;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{SIGNATURE_LENGTH, VerifyingKey};
use sha2::{Digest as _, Sha256};

pub(crate) use self::private_key::PrivateKey;
pub(crate) use self::trusted_keys::{KeysError, TrustedKeys, is_key_name};
use crate::regular_file;

/// The header of an upload: the base64 of the signature's file.
pub(crate) const SIGNATURE_HEADER: &str = "millstream-signature";
/// A signature's file has four short lines.
pub(crate) const SIGNATURE_BYTES_MAX: usize = 1024;
/// Behind the name of the component's file.
const SUFFIX: &str = ".sig";
const FORMAT: &str = "1";
const DOMAIN: &[u8] = b"millstream plugin signature 1\0";
const KEY_ID_BYTES: usize = 8;
const SHA256_DIGITS: usize = 64;

/// Which key it is: the start of the public key's sha-256, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId(String);

impl KeyId {
    fn of(key: &VerifyingKey) -> Self {
        Self(hex(&Sha256::digest(key.as_bytes())[..KEY_ID_BYTES]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A signature of a component. That it was read says nothing about whether it is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    key: KeyId,
    sha256: String,
    bytes: [u8; SIGNATURE_LENGTH],
}

/// Why a component is not taken for signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("the signature has {0} bytes, more than {SIGNATURE_BYTES_MAX}: it is another file")]
    TooLarge(usize),
    #[error(
        "the signature has the format {0:?}, this release knows {FORMAT}: sign the plugin with this release"
    )]
    Format(String),
    #[error("the signature is damaged at line {line}: sign the plugin again")]
    Malformed { line: usize },
    #[error("the signature is that of another file, with the sha-256 {0}: sign the plugin again")]
    OtherFile(String),
    #[error(
        "it is signed with the key {0}, which is not a trusted one: add it to plugin.signature.keys, or sign with another"
    )]
    UnknownKey(KeyId),
    #[error("the signature was not made by the key {0:?} that it names: sign the plugin again")]
    Wrong(String),
    #[error(
        "it has no signature, and plugin.signature.policy asks for one: `millstream plugin sign` makes it"
    )]
    Missing,
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl Signature {
    /// Reads the text of a signature's file, which must be as this release writes it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, SignatureError> {
        if text.len() > SIGNATURE_BYTES_MAX {
            return Err(SignatureError::TooLarge(text.len()));
        }
        let malformed = |line| SignatureError::Malformed { line };
        let text = std::str::from_utf8(text).map_err(|_| malformed(1))?;
        let mut lines = text.lines();
        let mut field = |line, name: &str| {
            let value = lines.next().and_then(|text| text.strip_prefix(name)?.strip_prefix(": "));
            value.ok_or_else(|| malformed(line))
        };
        match field(1, "millstream-plugin-signature")? {
            FORMAT => {}
            other => return Err(SignatureError::Format(other.to_owned())),
        }
        let (key, sha256) = (field(2, "key")?, field(3, "sha256")?);
        let bytes = BASE64_STANDARD.decode(field(4, "signature")?).map_err(|_| malformed(4))?;
        let bytes = bytes.try_into().map_err(|_| malformed(4))?;
        if !is_hex(key, KEY_ID_BYTES * 2) {
            return Err(malformed(2));
        }
        if !is_hex(sha256, SHA256_DIGITS) {
            return Err(malformed(3));
        }
        match lines.next() {
            None => Ok(Self { key: KeyId(key.to_owned()), sha256: sha256.to_owned(), bytes }),
            Some(_) => Err(malformed(5)),
        }
    }

    /// The text of its file.
    pub(crate) fn to_text(&self) -> String {
        let Self { key, sha256, bytes } = self;
        let bytes = BASE64_STANDARD.encode(bytes);
        format!("millstream-plugin-signature: {FORMAT}\nkey: {key}\nsha256: {sha256}\nsignature: {bytes}\n")
    }

    pub(crate) fn key(&self) -> &KeyId {
        &self.key
    }

    /// Whether it says that it is that of the component of that hash.
    pub(crate) fn check_file(&self, sha256: &str) -> Result<(), SignatureError> {
        match self.sha256 == sha256 {
            true => Ok(()),
            false => Err(SignatureError::OtherFile(self.sha256.clone())),
        }
    }

    /// The name of the trusted key that has signed the component of that hash.
    pub(crate) fn verify<'k>(
        &self,
        sha256: &str,
        trusted: &'k TrustedKeys,
    ) -> Result<&'k str, SignatureError> {
        self.check_file(sha256)?;
        let (name, key) = trusted.find(&self.key).ok_or(SignatureError::UnknownKey(self.key.clone()))?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.bytes);
        match key.verify_strict(&message(sha256), &signature) {
            Ok(()) => Ok(name),
            Err(_) => Err(SignatureError::Wrong(name.to_owned())),
        }
    }
}

/// Which signatures a node asks for.
#[derive(Debug, Clone)]
pub(crate) struct SignaturePolicy {
    /// The list of trusted keys, if every plugin must be signed with one of them.
    required: Option<PathBuf>,
}

impl SignaturePolicy {
    pub(crate) fn new(required: Option<PathBuf>) -> Self {
        Self { required }
    }

    pub(crate) fn is_required(&self) -> bool {
        self.required.is_some()
    }

    /// Whether a component with that hash and signature may be kept, and started. The list is read as it is now.
    pub(crate) fn check(&self, sha256: &str, signature: Option<&Signature>) -> Result<(), SignatureError> {
        let Some(keys) = &self.required else { return Ok(()) };
        let signature = signature.ok_or(SignatureError::Missing)?;
        signature.verify(sha256, &TrustedKeys::read(keys)?).map(drop)
    }

    /// Whether the list can be read.
    pub(crate) fn check_keys(&self) -> Result<(), KeysError> {
        self.required.as_deref().map_or(Ok(()), |keys| TrustedKeys::read(keys).map(drop))
    }
}

/// Where the signature of the component in that file lies.
pub(crate) fn signature_path(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

/// The signature's file of the component in that file, if there is one.
pub(crate) fn read_beside(component: &Path) -> io::Result<Option<Vec<u8>>> {
    match regular_file::read(&signature_path(component), SIGNATURE_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// What is signed.
fn message(sha256: &str) -> Vec<u8> {
    [DOMAIN, sha256.as_bytes()].concat()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
