//! The fuzz targets' bodies, on inputs made here: random ones, and real batches with damage.

#![expect(clippy::unwrap_used, reason = "a test's preparations fail by panicking, like the test")]

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../fuzz/bodies.rs"]
mod bodies;

const HEADER_BYTES: usize = millstream_record::HEADER_BYTES;
/// Where the CRC lies: damage is repaired there, or it would end every check.
const CRC_COVERS_FROM: usize = 21;

fn golden() -> impl Strategy<Value = Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    files.sort();
    assert!(files.len() > 10, "the golden batches are missing");
    prop::sample::select(files).prop_map(|path| std::fs::read(path).unwrap())
}

fn damage() -> impl Strategy<Value = Vec<(Index, u8)>> {
    // Bytes with a meaning: the ends of varints, -1, the largest lengths.
    let byte = prop_oneof![any::<u8>(), prop::sample::select(&[0x00, 0x01, 0x7f, 0x80, 0xff][..])];
    vec((any::<Index>(), byte), 0..6)
}

fn damaged(mut bytes: Vec<u8>, damage: &[(Index, u8)]) -> Vec<u8> {
    if !bytes.is_empty() {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(input in vec(any::<u8>(), 0..600)) {
        bodies::batch_parse(&input);
        bodies::records_iter(&input);
        bodies::decompress(&input);
    }

    #[test]
    fn a_random_batch_with_a_plausible_frame(mut input in vec(any::<u8>(), HEADER_BYTES..400)) {
        let length = i32::try_from(input.len() - 12).unwrap();
        input[8..12].copy_from_slice(&length.to_be_bytes());
        input[16] = 2;
        bodies::batch_parse(&input);
    }

    #[test]
    fn a_damaged_batch(bytes in golden(), damage in damage(), cut in any::<Index>()) {
        let mut bytes = damaged(bytes, &damage);
        let crc = millstream_record::crc32c(&bytes[CRC_COVERS_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bodies::batch_parse(&bytes);
        bodies::batch_parse(&bytes[..cut.index(bytes.len())]);
        bodies::records_iter(&bytes[HEADER_BYTES..]);
    }

    #[test]
    fn a_damaged_section(bytes in golden(), damage in damage(), limit in any::<u8>(), codec in 0..5_u8) {
        let section = damaged(bytes[HEADER_BYTES..].to_vec(), &damage);
        // Mostly the section's own codec, at times another one.
        let own = bytes[22] & 0x07;
        for codec in [own, codec] {
            bodies::decompress(&[&[codec, limit], section.as_slice()].concat());
        }
    }
}
