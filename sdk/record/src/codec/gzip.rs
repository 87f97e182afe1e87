//! gzip: one or more members, as Java's `GZIPInputStream` reads them.

use std::io::{self, ErrorKind, Read, Write};
use std::vec::Vec;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{DecompressError, Output};
use crate::compression::Compression;

/// What is asked of the decoder at a time.
const STEP_BYTES: usize = 64 * 1024;

pub(super) fn decompress(input: &[u8], out: &mut Output<'_>) -> Result<(), DecompressError> {
    let mut decoder = MultiGzDecoder::new(input);
    // Records shrink by a half at least; growing by what has come out keeps the copying down after that.
    let mut step = input.len().saturating_mul(2).clamp(64, STEP_BYTES);
    loop {
        let at = out.bytes.len();
        // One byte beyond the limit, to tell an output that just fits from one that goes on.
        let room = step.min(out.remaining().saturating_add(1));
        out.bytes.resize(at + room, 0);
        let read = decoder.read(&mut out.bytes[at..]);
        out.bytes.truncate(at + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(()),
            Ok(_) if out.written() > out.limit => return Err(out.limit_exceeded()),
            Ok(_) => step = STEP_BYTES,
            Err(error) => return Err(corrupt(&error)),
        }
    }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

fn corrupt(error: &io::Error) -> DecompressError {
    let fault = match error.kind() {
        ErrorKind::UnexpectedEof => "cut short",
        _ => "invalid stream",
    };
    DecompressError::Corrupt { codec: Compression::Gzip, fault }
}
