//! Snappy: raw, as librdkafka and others send it, or in the framing of snappy-java, as Java sends it.
//!
//! snappy-java's framing is a header (8 magic bytes, version, lowest compatible version) and chunks, each a
//! big-endian length and that many bytes of raw snappy. Streams may follow each other, header and all.

use std::io;
use std::vec::Vec;

use super::{DecompressError, Output};
use crate::compression::Compression;

const FRAMING_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const FRAMING_VERSION: i32 = 1;
const FRAMING_HEADER_BYTES: usize = 16;
/// What Java puts into a chunk.
const CHUNK_BYTES: usize = 32 * 1024;
/// The most that a byte of raw snappy stands for: a copy takes 3 bytes and yields 64.
const EXPANSION_MAX: usize = 22;

pub(super) fn decompress(input: &[u8], out: &mut Output<'_>) -> Result<(), DecompressError> {
    if !input.starts_with(&FRAMING_MAGIC) {
        return decompress_raw(input, out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(&FRAMING_MAGIC) {
            rest = rest.get(FRAMING_HEADER_BYTES..).ok_or(corrupt("header is cut short"))?;
            continue;
        }
        let (length, chunks) = rest.split_first_chunk::<4>().ok_or(corrupt("chunk length is cut short"))?;
        let length =
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| corrupt("negative chunk length"))?;
        let (chunk, after) = chunks.split_at_checked(length).ok_or(corrupt("chunk is cut short"))?;
        decompress_raw(chunk, out)?;
        rest = after;
    }
    Ok(())
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&FRAMING_MAGIC);
    out.extend_from_slice(&FRAMING_VERSION.to_be_bytes());
    out.extend_from_slice(&FRAMING_VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in input.chunks(CHUNK_BYTES) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(chunk.len()), 0);
        let length = encoder.compress(chunk, &mut out[at + 4..]).map_err(io::Error::other)?;
        let declared = i32::try_from(length).map_err(io::Error::other)?;
        out[at..at + 4].copy_from_slice(&declared.to_be_bytes());
        out.truncate(at + 4 + length);
    }
    Ok(())
}

fn decompress_raw(input: &[u8], out: &mut Output<'_>) -> Result<(), DecompressError> {
    let length = snap::raw::decompress_len(input).map_err(|_| corrupt("invalid length"))?;
    if length > input.len().saturating_mul(EXPANSION_MAX) {
        return Err(corrupt("declares more than it can hold"));
    }
    if length > out.remaining() {
        return Err(out.limit_exceeded());
    }
    let at = out.bytes.len();
    out.bytes.resize(at + length, 0);
    snap::raw::Decoder::new()
        .decompress(input, &mut out.bytes[at..])
        .map(|written| out.bytes.truncate(at + written))
        .map_err(|_| corrupt("invalid block"))
}

fn corrupt(fault: &'static str) -> DecompressError {
    DecompressError::Corrupt { codec: Compression::Snappy, fault }
}
