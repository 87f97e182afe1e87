//! The one place that names bincode: the broker's own Raft and metadata values, on disk and between brokers.
//!
//! Never for bytes from a client or a plugin. A value travels as
//!
//! ```text
//! version (1 byte) | kind (1 byte) | CRC-32C of the body (4 bytes, little-endian) | body (bincode, standard)
//! ```
//!
//! so that another encoding can take bincode's place under another version, a value is never read as one of another
//! kind, and a torn one is told from a valid one. Golden bytes hold the encoding still.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The encoding that is written.
pub const VERSION: u8 = 1;

/// The largest value, in either direction; what is declared beyond it is refused before it is allocated.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

const HEADER_BYTES: usize = 6;

/// A type that is encoded at the top level.
pub trait Encoded: Serialize + DeserializeOwned {
    /// Told apart from every other type's; never used for another.
    const KIND: u8;
}

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the value has {0} bytes, more than {VALUE_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the value can't be encoded")]
    Body(#[source] bincode::error::EncodeError),
}

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the value is cut off at {0} bytes")]
    Truncated(usize),
    #[error("the value has {0} bytes, more than {VALUE_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the value has version {0}, this program knows {VERSION}")]
    Version(u8),
    #[error("the value is of kind {found}, not {expected}")]
    Kind { expected: u8, found: u8 },
    #[error("the value's checksum doesn't match")]
    Checksum,
    #[error("the value can't be decoded")]
    Body(#[source] bincode::error::DecodeError),
    #[error("the value is followed by {0} bytes")]
    TrailingBytes(usize),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

pub fn encode<T: Encoded>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![0; HEADER_BYTES];
    bincode::serde::encode_into_std_write(value, &mut bytes, config()).map_err(EncodeError::Body)?;
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    if body.len() > VALUE_BYTES_MAX {
        return Err(EncodeError::TooLarge(body.len()));
    }
    header[0] = VERSION;
    header[1] = T::KIND;
    header[2..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    Ok(bytes)
}

pub fn decode<T: Encoded>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (header, body) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or(DecodeError::Truncated(bytes.len()))?;
    let [version, kind, crc @ ..] = *header;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if kind != T::KIND {
        return Err(DecodeError::Kind { expected: T::KIND, found: kind });
    }
    if body.len() > VALUE_BYTES_MAX {
        return Err(DecodeError::TooLarge(body.len()));
    }
    if crc32c::crc32c(body) != u32::from_le_bytes(crc) {
        return Err(DecodeError::Checksum);
    }
    let (value, read) = bincode::serde::decode_from_slice(body, config()).map_err(DecodeError::Body)?;
    match body.len() - read {
        0 => Ok(value),
        rest => Err(DecodeError::TrailingBytes(rest)),
    }
}

/// For `#[serde(with = "crate::codec::bytes")]`: a byte string in one piece, not byte by byte.
pub mod bytes {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        text: String,
        list: Vec<Option<i32>>,
        #[serde(with = "super::bytes")]
        bytes: Vec<u8>,
    }

    impl Encoded for Sample {
        const KIND: u8 = 250;
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Other;

    impl Encoded for Other {
        const KIND: u8 = 251;
    }

    fn sample() -> Sample {
        Sample { number: 70_000, text: "a".to_owned(), list: vec![None, Some(-2)], bytes: vec![1, 2, 3] }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&sample()).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01fa4268d791fc7011010001610200010303010203");
        assert_eq!(decode::<Sample>(&bytes).unwrap(), sample());
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(decode::<Sample>(bytes).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_damaged_is_told() {
        let good = encode(&sample()).unwrap();
        check(&[], "the value is cut off at 0 bytes");
        check(&good[..5], "the value is cut off at 5 bytes");
        check(&good[..good.len() - 1], "the value's checksum doesn't match");
        check(&[&good[..], b"x"].concat(), "the value's checksum doesn't match");
        check(&encode(&Other).unwrap(), "the value is of kind 251, not 250");
        let mut newer = good.clone();
        newer[0] = 2;
        check(&newer, "the value has version 2, this program knows 1");
        for at in HEADER_BYTES..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 0x10;
            check(&flipped, "the value's checksum doesn't match");
        }
    }

    /// A body under a checksum that fits it.
    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![VERSION, Sample::KIND];
        bytes.extend(crc32c::crc32c(body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_declared_length_allocates_nothing() {
        // A string of 2^63 bytes, a list of 2^63 elements, a byte string of 2^40.
        let huge = |n: u64| [&[253][..], &n.to_le_bytes()].concat();
        check(&sealed(&[&[0][..], &huge(1 << 63)].concat()), "the value can't be decoded");
        check(&sealed(&[&[0, 0][..], &huge(1 << 63)].concat()), "the value can't be decoded");
        check(&sealed(&[&[0, 0, 0][..], &huge(1 << 40)].concat()), "the value can't be decoded");
        check(&sealed(&[0, 0, 0, 0, 9]), "the value is followed by 1 bytes");
    }
}
