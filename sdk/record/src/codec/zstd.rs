//! Zstandard, decoded in one call straight into the output.
//!
//! A streaming decoder makes a window of the size that the frame declares, and Java's producer declares up to
//! 128 MiB (level 22) for a batch of any size. In one call the output itself is the window, so that nothing
//! is allocated for it and no level has to be refused.

use std::io;
use std::vec::Vec;

use zstd::zstd_safe::{self, CParameter, ErrorCode, zstd_sys::ZSTD_ErrorCode};

use super::{DecompressError, Output};
use crate::compression::Compression;

/// Kafka's default level.
const LEVEL: i32 = 3;
/// The first guess at the output, as a multiple of the input; records seldom shrink more.
const EXPANSION_GUESS: usize = 8;
const GUESS_BYTES_MIN: usize = 4 * 1024;

pub(super) fn decompress(input: &[u8], out: &mut Output<'_>) -> Result<(), DecompressError> {
    let mut context = zstd_safe::DCtx::try_create().ok_or(corrupt("no memory for a context"))?;
    let at = out.bytes.len();
    let limit = out.remaining();
    // Never nothing: a frame may declare that it has no content, and another one follows it.
    let mut room = first_guess(input).max(GUESS_BYTES_MIN).min(limit);
    loop {
        out.bytes.resize(at + room, 0);
        match context.decompress(&mut out.bytes[at..], input) {
            Ok(written) => {
                out.bytes.truncate(at + written);
                return Ok(());
            }
            Err(code) if !is_too_small(code) => return Err(corrupt(zstd_safe::get_error_name(code))),
            Err(_) if room == limit => return Err(out.limit_exceeded()),
            // What has come out is decoded again: a third of the work on top, if it goes up to the limit.
            Err(_) => room = room.saturating_mul(4).min(limit),
        }
    }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut context = zstd_safe::CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    context.set_parameter(CParameter::CompressionLevel(LEVEL)).map_err(compress_error)?;
    let at = out.len();
    out.resize(at + zstd_safe::compress_bound(input.len()), 0);
    let written = context.compress2(&mut out[at..], input).map_err(compress_error)?;
    out.truncate(at + written);
    Ok(())
}

/// The declared size where it is within reason, which spares an honest input the second try.
fn first_guess(input: &[u8]) -> usize {
    let guess = input.len().saturating_mul(EXPANSION_GUESS).max(GUESS_BYTES_MIN);
    match zstd_safe::get_frame_content_size(input) {
        Ok(Some(declared)) => usize::try_from(declared).map_or(guess, |declared| declared.min(guess)),
        _ => guess,
    }
}

fn is_too_small(code: ErrorCode) -> bool {
    zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall)
}

fn compress_error(code: ErrorCode) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

fn corrupt(fault: &'static str) -> DecompressError {
    DecompressError::Corrupt { codec: Compression::Zstd, fault }
}
