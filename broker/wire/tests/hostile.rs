//! Runs the bodies of the fuzz targets on random and on damaged inputs, as far as a stable
//! toolchain can; `fuzz/` goes further.

#![expect(clippy::unwrap_used, reason = "a test may panic, also outside its #[test] function")]

use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/bodies.rs"]
mod bodies;

/// A golden message with some bytes changed, behind a header of its API and version.
fn damaged_request() -> impl Strategy<Value = Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/messages");
    let mut requests = Vec::new();
    for key in millstream_wire::ApiKey::ALL {
        let file = std::fs::read(golden.join(format!("{key}Request.bin"))).unwrap();
        let mut reader = millstream_wire::Reader::new(&file);
        while !reader.rest().is_empty() {
            let version = reader.read_i16("version").unwrap();
            reader.read_i8("filling").unwrap();
            let body = reader.read_bytes(false, "body").unwrap();
            let mut frame = i16::from(*key).to_be_bytes().to_vec();
            frame.extend(version.to_be_bytes());
            // Correlation id and a null client id.
            frame.extend([0, 0, 0, 7, 0xff, 0xff]);
            if key.request_header_version(version) == 2 {
                frame.push(0);
            }
            frame.extend(body.iter());
            requests.push(frame);
        }
    }
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(requests), damage, any::<prop::sample::Index>()).prop_map(
        |(mut frame, damage, cut)| {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            let length = frame.len() - cut.index(frame.len()) / 8;
            frame.truncate(length);
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_requests_are_survived(frame in damaged_request()) {
        bodies::decode_request(&frame);
        bodies::decode_response(&frame);
    }

    #[test]
    fn random_bytes_are_survived(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        bodies::decode_request(&input);
        bodies::decode_response(&input);
        bodies::decode_record(&input);
    }

    /// Small numbers make plausible keys, versions, counts and tags.
    #[test]
    fn plausible_bytes_are_survived(input in proptest::collection::vec(0u8..5, 0..300)) {
        bodies::decode_request(&input);
        bodies::decode_response(&input);
        bodies::decode_record(&input);
    }
}
