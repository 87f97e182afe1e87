//! A frame can't make its reader allocate more than its length justifies, whatever it declares.
//!
//! One test in a binary of its own: the counter sees the whole process.

use millstream_wire::{
    AnyRequest, AnyResponse, ApiKey, DECODED_BYTES_MIN, DECODED_BYTES_PER_FRAME_BYTE, DecodeError, Reader,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// A growing array is copied, so old and new exist at once for a moment.
const GROWTH_FACTOR: usize = 2;

const FRAME_BYTES: usize = 1 << 17;

/// Peak of the heap during one call, above what was there before.
fn peak_bytes<T>(call: impl FnOnce() -> T) -> usize {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let value = call();
    let peak = HEAP.peak_usage();
    drop(value);
    peak.saturating_sub(before)
}

/// Checks a frame as the body of every message, and says how much memory it took at most.
fn check(frame: &[u8], what: &str) -> usize {
    let mut worst = 0;
    let limit = (frame.len() * DECODED_BYTES_PER_FRAME_BYTE).max(DECODED_BYTES_MIN) * GROWTH_FACTOR;
    for key in ApiKey::ALL {
        for version in key.versions() {
            let request = peak_bytes(|| AnyRequest::decode(&mut Reader::new(frame), *key, version));
            assert!(request <= limit, "{key}Request {version}, {what}: {request} bytes");
            let response = peak_bytes(|| AnyResponse::decode(&mut Reader::new(frame), *key, version));
            assert!(response <= limit, "{key}Response {version}, {what}: {response} bytes");
            worst = worst.max(request).max(response);
        }
    }
    worst
}

/// An array of the highest count that a frame of `length` bytes can claim, behind `prefix`, and
/// then the same byte over and over: elements as small as they come.
fn bomb(prefix: &[u8], count: u32, compact: bool, filler: u8, length: usize) -> Vec<u8> {
    let mut frame = prefix.to_vec();
    if compact {
        let mut rest = count + 1;
        while rest >= 0x80 {
            frame.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        frame.push(rest as u8);
    } else {
        frame.extend(count.to_be_bytes());
    }
    frame.resize(length, filler);
    frame
}

#[test]
fn no_frame_takes_more_memory_than_its_length_justifies() {
    // The counter works.
    assert!(peak_bytes(|| vec![0u8; FRAME_BYTES]) >= FRAME_BYTES);

    let mut worst = 0;
    for filler in [0, 1, 2, 0x7f, 0xff] {
        check(&vec![filler; 4096], "one byte over and over");
        for count in [u32::MAX >> 1, FRAME_BYTES as u32 / 3, FRAME_BYTES as u32 / 40] {
            for prefix_bytes in [0, 1, 2, 4, 8] {
                for compact in [false, true] {
                    let frame = bomb(&vec![0; prefix_bytes], count, compact, filler, FRAME_BYTES);
                    worst = worst.max(check(&frame, "a long array"));
                }
            }
        }
    }
    assert!(worst > 4 * FRAME_BYTES, "{worst}: the bombs do not get far enough to prove anything");

    // A metadata request of topics with one-byte names: honest, but dense. It stays readable.
    let dense = bomb(&[], 1000, true, 1, 8 * 1000);
    let decoded = AnyRequest::decode(&mut Reader::new(&dense), ApiKey::Metadata, 9);
    assert!(!matches!(decoded, Err(DecodeError::TooLarge { .. })), "{decoded:?}");

    // A short frame that declares gigabytes is refused before anything is allocated for it.
    let short = bomb(&[], 0x7fff_0000, true, 0, 20);
    let allocated = peak_bytes(|| {
        let decoded = AnyRequest::decode(&mut Reader::new(&short), ApiKey::Metadata, 9);
        assert!(matches!(decoded, Err(DecodeError::CountTooLarge { .. })), "{decoded:?}");
    });
    assert!(allocated <= 1024, "{allocated} bytes");
}
