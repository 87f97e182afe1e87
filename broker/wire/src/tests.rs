//! Properties of every message at every version.

mod entropy;
mod primitives;

use proptest::prelude::*;

use crate::{DecodeError, FrameWriter, Message};
use entropy::{Entropy, Sample};

#[allow(clippy::all, unused_variables, reason = "generated")]
mod samples {
    use super::{Entropy, Sample};

    include!(concat!(env!("OUT_DIR"), "/samples.rs"));
}

fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Vec<u8> {
    let mut writer = FrameWriter::new();
    message.encode(&mut writer, version).unwrap();
    let length = writer.len();
    let body = writer.into_body();
    assert_eq!(body.len(), length);
    body.into()
}

/// Positions to cut a message at: every one of a short message, and some of a long one.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / 16 + 1)
}

// Macros and not generic functions: the sample and what was decoded from a local buffer are the
// same type only up to its lifetime.
macro_rules! for_all {
    ($($message:path,)*) => {
        /// A sample survives writing and reading, and a part of its bytes is not a message.
        pub(super) fn round_trip(seed: &[u8]) {
            $(for version in <$message>::versions() {
                let sample = <$message>::sample(&mut Entropy::new(seed), version);
                let bytes = encode(&sample, version);
                let mut reader = Reader::new(&bytes);
                let decoded = <$message>::decode(&mut reader, version);
                assert_eq!(decoded.as_ref(), Ok(&sample), "{} {version}", <$message>::NAME);
                assert_eq!(reader.finish(), Ok(()), "{} {version}", <$message>::NAME);
                for length in cuts(bytes.len()) {
                    let cut = <$message>::decode(&mut Reader::new(&bytes[..length]), version);
                    assert_cut(cut.unwrap_err(), <$message>::NAME, version);
                }
            })*
        }

        /// Whatever the bytes are, reading ends, and what was read can be written and read again.
        pub(super) fn hostile(bytes: &[u8]) {
            $(for version in <$message>::versions() {
                if let Ok(message) = <$message>::decode(&mut Reader::new(bytes), version) {
                    let again = encode(&message, version);
                    let decoded = <$message>::decode(&mut Reader::new(&again), version);
                    assert_eq!(decoded, Ok(message), "{} {version}", <$message>::NAME);
                }
            })*
        }

        pub(super) fn unsupported() {
            $(for version in [<$message>::VERSION_MIN - 1, <$message>::VERSION_MAX + 1, i16::MIN, i16::MAX] {
                let message = <$message>::NAME;
                let decoded = <$message>::decode(&mut Reader::new(&[0; 64]), version);
                assert_eq!(decoded, Err(DecodeError::UnsupportedVersion { message, version }));
                let encoded = <$message>::default().encode(&mut FrameWriter::new(), version);
                assert_eq!(encoded, Err(EncodeError::UnsupportedVersion { message, version }));
            })*
        }
    };
}

fn assert_cut(error: DecodeError, name: &str, version: i16) {
    let expected = matches!(error, DecodeError::Truncated { .. } | DecodeError::CountTooLarge { .. });
    assert!(expected, "{name} {version}: {error}");
}

mod all {
    use super::{Entropy, Sample, assert_cut, cuts, encode};
    use crate::*;

    for_each_message!(for_all);
}

#[test]
fn defaults_survive_a_round_trip() {
    all::round_trip(&[]);
}

#[test]
fn versions_outside_the_range_are_refused() {
    all::unsupported();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn samples_survive_a_round_trip(seed in proptest::collection::vec(any::<u8>(), 0..400)) {
        all::round_trip(&seed);
    }

    #[test]
    fn hostile_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        all::hostile(&bytes);
    }

    /// Small numbers make plausible counts, lengths and tags, so that reading gets further.
    #[test]
    fn plausible_bytes_are_survived(bytes in proptest::collection::vec(0u8..4, 0..200)) {
        all::hostile(&bytes);
    }
}
