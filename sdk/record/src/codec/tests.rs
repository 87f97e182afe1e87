//! Bombs, lies about sizes, and the variants of a format that other clients write.

use alloc::vec;
use alloc::vec::Vec;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{DecompressError, compress, decompress};
use crate::compression::Compression;

const LIMIT: usize = 1 << 20;

fn text(bytes: usize) -> Vec<u8> {
    (0..).flat_map(|i: u32| std::format!("line {i} {}\n", i * 7919 % 1013).into_bytes()).take(bytes).collect()
}

/// Decompresses, and checks that what was allocated is in proportion to the limit and the input.
fn check(codec: Compression, input: &[u8], expect: Result<&[u8], DecompressError>) {
    let mut out = Vec::new();
    let result = decompress(codec, input, LIMIT, &mut out);
    assert!(out.capacity() <= 2 * LIMIT, "{codec} allocated {}", out.capacity());
    assert_eq!(result.map(|()| out.as_slice()), expect, "{codec}");
}

fn corrupt(codec: Compression, fault: &'static str) -> DecompressError {
    DecompressError::Corrupt { codec, fault }
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 8 << 20];
    for codec in Compression::ALL {
        let mut bomb = Vec::new();
        compress(codec, &zeros, &mut bomb).unwrap();
        let mut out = Vec::new();
        let result = decompress(codec, &bomb, LIMIT, &mut out);
        assert_eq!(result, Err(DecompressError::LimitExceeded { limit: LIMIT }), "{codec}");
        assert!(out.is_empty() && out.capacity() <= 2 * LIMIT, "{codec} allocated {}", out.capacity());
    }
}

#[test]
fn large_sections_lead_back() {
    let input = text(3 << 20);
    for codec in Compression::ALL {
        let (mut compressed, mut out) = (Vec::new(), Vec::new());
        compress(codec, &input, &mut compressed).unwrap();
        decompress(codec, &compressed, input.len(), &mut out).unwrap();
        assert!(out == input, "{codec}");
    }
}

/// Symptom: decompressing never came back. Cause: a first zstd frame that declared no content made the first guess at the
/// output's size zero, and four times zero is zero; a second frame follows it, or the first can be skipped. Fix: a guess
/// has a minimum.
#[test]
fn a_first_zstd_frame_may_be_empty_or_skippable() {
    let frame = |bytes: &[u8]| {
        let mut frame = Vec::new();
        compress(Compression::Zstd, bytes, &mut frame).unwrap();
        frame
    };
    // RFC 8878, 3.1.2: a magic number, a length, and bytes for whoever knows what they are.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
    let large = text(100_000);
    for first in [frame(b""), skippable, [frame(b""), frame(b"")].concat()] {
        check(Compression::Zstd, &[&first[..], &frame(&large)].concat(), Ok(&large));
    }
    check(Compression::Zstd, &[frame(b"one "), frame(b""), frame(b"two")].concat(), Ok(b"one two"));
    let mut out = Vec::new();
    let bomb = [frame(b""), frame(&vec![0; 2 << 20])].concat();
    let limited = decompress(Compression::Zstd, &bomb, 0, &mut out);
    assert_eq!(limited, Err(DecompressError::LimitExceeded { limit: 0 }));
}

#[test]
fn an_empty_section_is_compressed_data_of_no_codec() {
    for codec in &Compression::ALL[1..] {
        check(*codec, &[], Err(corrupt(*codec, "empty")));
    }
    check(Compression::None, &[], Ok(&[]));
}

#[test]
fn gzip_members_follow_each_other() {
    let mut input = Vec::new();
    compress(Compression::Gzip, b"one ", &mut input).unwrap();
    compress(Compression::Gzip, b"two", &mut input).unwrap();
    check(Compression::Gzip, &input, Ok(b"one two"));
    input.pop();
    check(Compression::Gzip, &input, Err(corrupt(Compression::Gzip, "cut short")));
}

#[test]
fn snappy_comes_raw_and_framed() {
    let input = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    check(Compression::Snappy, &raw, Ok(&input));
    let mut framed = Vec::new();
    compress(Compression::Snappy, &input, &mut framed).unwrap();
    check(Compression::Snappy, &framed, Ok(&input));
    let twice = [framed.as_slice(), &framed].concat();
    check(Compression::Snappy, &twice, Ok(&[input.as_slice(), &input].concat()));
    framed.pop();
    check(Compression::Snappy, &framed, Err(corrupt(Compression::Snappy, "chunk is cut short")));
}

#[test]
fn snappy_lies_about_its_size() {
    // 4 GiB less one, declared by nothing at all.
    let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'x'];
    let expect = corrupt(Compression::Snappy, "declares more than it can hold");
    check(Compression::Snappy, &raw, Err(expect));
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    framed.extend_from_slice(&(-1_i32).to_be_bytes());
    check(Compression::Snappy, &framed, Err(corrupt(Compression::Snappy, "negative chunk length")));
    framed[16..].copy_from_slice(&i32::MAX.to_be_bytes());
    check(Compression::Snappy, &framed, Err(corrupt(Compression::Snappy, "chunk is cut short")));
}

fn lz4(info: FrameInfo, input: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(input).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    let input = text(600_000);
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for checks in [false, true] {
                let info = FrameInfo::new()
                    .block_size(size)
                    .block_mode(mode)
                    .block_checksums(checks)
                    .content_checksum(checks)
                    .content_size(checks.then_some(input.len() as u64));
                let frame = lz4(info, &input);
                check(Compression::Lz4, &frame, Ok(&input));
                let cut = &frame[..frame.len() - 1];
                check(Compression::Lz4, cut, Err(corrupt(Compression::Lz4, "cut short")));
            }
        }
    }
}

#[test]
fn lz4_frames_follow_each_other_and_the_second_has_no_window_into_the_first() {
    let linked = FrameInfo::new().block_mode(BlockMode::Linked);
    let skipped = [&0x184d_2a5f_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"any"].concat();
    let input = [lz4(linked.clone(), b"one "), skipped, lz4(linked, b"two")].concat();
    check(Compression::Lz4, &input, Ok(b"one two"));
    // A block that copies 4 bytes from 4 back: there is nothing that far back in its own frame.
    let header = &lz4(FrameInfo::new().block_mode(BlockMode::Linked), b"abcdefgh")[..7];
    let block = [0x00, 0x04, 0x00, 0x50, b'1', b'2', b'3', b'4', b'5'];
    let length = u32::try_from(block.len()).unwrap().to_le_bytes();
    let reaching = [header, &length, &block, &[0; 4]].concat();
    let input = [lz4(FrameInfo::new(), b"abcdefgh"), reaching].concat();
    check(Compression::Lz4, &input, Err(corrupt(Compression::Lz4, "invalid block")));
}

#[test]
fn lz4_damage_is_found_by_its_checksums() {
    let info = FrameInfo::new().block_checksums(true).content_checksum(true);
    let frame = lz4(info.clone(), b"incompressible");
    let damaged = |at: usize| {
        let mut frame = frame.clone();
        frame[at] ^= 1;
        frame
    };
    let check = |frame: &[u8], fault| check(Compression::Lz4, frame, Err(corrupt(Compression::Lz4, fault)));
    check(&damaged(0), "wrong magic number");
    check(&damaged(6), "wrong header checksum");
    check(&damaged(12), "wrong block checksum");
    check(&damaged(frame.len() - 1), "wrong content checksum");
    let mut sized = lz4(FrameInfo::new().content_size(Some(14)), b"incompressible");
    sized[6] = 15;
    let [_, header_checksum, ..] = super::lz4::checksum(&sized[4..14]).to_le_bytes();
    sized[14] = header_checksum;
    check(&sized, "wrong content size");
}

#[test]
fn zstd_lies_about_its_size_and_window() {
    // A window of 2^41 bytes, a content of 2^60, and one empty block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xf8];
    frame.extend_from_slice(&(1_u64 << 60).to_le_bytes());
    frame.extend_from_slice(&[0x01, 0x00, 0x00]);
    let mut out = Vec::new();
    let result = decompress(Compression::Zstd, &frame, LIMIT, &mut out);
    assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{result:?}");
    assert!(out.capacity() <= 16 * 1024, "{} bytes allocated", out.capacity());
}

#[test]
fn zstd_frames_follow_each_other() {
    let first = text(50_000);
    let mut input = Vec::new();
    compress(Compression::Zstd, &first, &mut input).unwrap();
    compress(Compression::Zstd, b"two", &mut input).unwrap();
    check(Compression::Zstd, &input, Ok(&[first.as_slice(), b"two"].concat()));
}
