//! LZ4 frames: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>.
//!
//! The frame is read here and only its blocks by lz4_flex, whose own frame reader takes a frame that is cut
//! short for a whole one, and allocates by the declared block size.

use std::hash::Hasher;
use std::io::{self, Write};
use std::vec::Vec;

use lz4_flex::block::{self, DecompressError as BlockError};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{DecompressError, Output};
use crate::compression::Compression;

const FRAME_MAGIC: u32 = 0x184d_2204;
/// 16 numbers that begin a frame to be skipped.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
const END_MARK: u32 = 0;
const UNCOMPRESSED_BIT: u32 = 1 << 31;
/// How far back a linked block refers.
const WINDOW_BYTES: usize = 64 * 1024;
/// The most that a byte of an LZ4 block stands for.
const EXPANSION_MAX: usize = 255;

pub(super) fn decompress(input: &[u8], out: &mut Output<'_>) -> Result<(), DecompressError> {
    let mut rest = input;
    while !rest.is_empty() {
        match take_u32(&mut rest)? {
            FRAME_MAGIC => take_frame(&mut rest, out)?,
            magic if magic & !0xf == SKIPPABLE_MAGIC => {
                let length = take_u32(&mut rest)?;
                take(&mut rest, length as usize)?;
            }
            _ => return Err(corrupt("wrong magic number")),
        }
    }
    Ok(())
}

/// Independent blocks of 64 KiB without checksums, which is what Java's reader asks for.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)?;
    Ok(())
}

struct Descriptor {
    linked_blocks: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_bytes_max: usize,
}

fn take_frame(rest: &mut &[u8], out: &mut Output<'_>) -> Result<(), DecompressError> {
    let descriptor = take_descriptor(rest)?;
    let frame_start = out.bytes.len();
    loop {
        let word = take_u32(rest)?;
        if word == END_MARK {
            break;
        }
        let block = take(rest, (word & !UNCOMPRESSED_BIT) as usize)?;
        if block.len() > descriptor.block_bytes_max {
            return Err(corrupt("block exceeds the declared size"));
        }
        if descriptor.block_checksums && take_u32(rest)? != checksum(block) {
            return Err(corrupt("wrong block checksum"));
        }
        if word & UNCOMPRESSED_BIT != 0 {
            out.extend(block)?;
        } else {
            let window_start = if descriptor.linked_blocks {
                frame_start.max(out.bytes.len().saturating_sub(WINDOW_BYTES))
            } else {
                out.bytes.len()
            };
            decompress_block(block, window_start, descriptor.block_bytes_max, out)?;
        }
    }
    let content = &out.bytes[frame_start..];
    if descriptor.content_size.is_some_and(|declared| declared != content.len() as u64) {
        return Err(corrupt("wrong content size"));
    }
    if descriptor.content_checksum && take_u32(rest)? != checksum(content) {
        return Err(corrupt("wrong content checksum"));
    }
    Ok(())
}

fn take_descriptor(rest: &mut &[u8]) -> Result<Descriptor, DecompressError> {
    let start = *rest;
    let [flags, sizes, ..] = *start else { return Err(corrupt("cut short")) };
    take(rest, 2)?;
    if flags >> 6 != 1 {
        return Err(corrupt("wrong version"));
    }
    if flags & 0x02 != 0 || sizes & 0x8f != 0 {
        return Err(corrupt("reserved bits are set"));
    }
    let block_bytes_max = match sizes >> 4 {
        4 => 64 * 1024,
        5 => 256 * 1024,
        6 => 1024 * 1024,
        7 => 4 * 1024 * 1024,
        _ => return Err(corrupt("invalid block size")),
    };
    let content_size = match flags & 0x08 {
        0 => None,
        _ => Some(u64::from(take_u32(rest)?) | u64::from(take_u32(rest)?) << 32),
    };
    if flags & 0x01 != 0 {
        return Err(DecompressError::Unsupported { codec: Compression::Lz4, feature: "dictionary" });
    }
    let descriptor = &start[..start.len() - rest.len()];
    let [_, expected, ..] = checksum(descriptor).to_le_bytes();
    if take(rest, 1)? != [expected] {
        return Err(corrupt("wrong header checksum"));
    }
    Ok(Descriptor {
        linked_blocks: flags & 0x20 == 0,
        block_checksums: flags & 0x10 != 0,
        content_checksum: flags & 0x04 != 0,
        content_size,
        block_bytes_max,
    })
}

fn decompress_block(
    block: &[u8],
    window_start: usize,
    block_bytes_max: usize,
    out: &mut Output<'_>,
) -> Result<(), DecompressError> {
    let at = out.bytes.len();
    let possible = block_bytes_max.min(block.len().saturating_mul(EXPANSION_MAX));
    let room = possible.min(out.remaining());
    out.bytes.resize(at + room, 0);
    let (before, output) = out.bytes.split_at_mut(at);
    match block::decompress_into_with_dict(block, output, &before[window_start..]) {
        Ok(written) => {
            out.bytes.truncate(at + written);
            Ok(())
        }
        Err(BlockError::OutputTooSmall { .. }) if room < possible => Err(out.limit_exceeded()),
        Err(BlockError::OutputTooSmall { .. }) => Err(corrupt("block exceeds the declared size")),
        Err(_) => Err(corrupt("invalid block")),
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, DecompressError> {
    let (bytes, after) = rest.split_first_chunk().ok_or(corrupt("cut short"))?;
    *rest = after;
    Ok(u32::from_le_bytes(*bytes))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecompressError> {
    let (bytes, after) = rest.split_at_checked(length).ok_or(corrupt("cut short"))?;
    *rest = after;
    Ok(bytes)
}

pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(bytes);
    // The hasher's answer is 32 bits wide, in the standard trait's 64.
    let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn corrupt(fault: &'static str) -> DecompressError {
    DecompressError::Corrupt { codec: Compression::Lz4, fault }
}
