//! The codecs of a records section. Only the broker's and the host's build has them.
//!
//! Decompression is bounded twice. The output never exceeds the caller's limit; and no buffer is made for a
//! size that the input declares, unless so much could really come out of an input of that length. Each codec
//! writes straight into the output, so there is no window beside it that an input could ask for; gzip's has
//! 32 KiB, always.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

#[cfg(test)]
mod tests;

use alloc::borrow::Cow;
use alloc::vec::Vec;

use thiserror::Error;

use crate::batch::RecordBatch;
use crate::compression::{Compression, UnknownCompression};

/// Why an input is not decompressed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecompressError {
    /// The batch's attributes name a codec that the format does not define.
    #[error(transparent)]
    UnknownCompression(#[from] UnknownCompression),
    /// More would come out than the caller takes.
    #[error("uncompressed records exceed {limit} bytes")]
    LimitExceeded {
        /// The caller's limit.
        limit: usize,
    },
    /// The input is not, or not wholly, what the codec writes.
    #[error("corrupt {codec} data: {fault}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What it has to say.
        fault: &'static str,
    },
    /// The input is well-formed, but asks for what nobody's producer uses.
    #[error("unsupported {codec} data: {feature}")]
    Unsupported {
        /// The codec.
        codec: Compression,
        /// What it asks for.
        feature: &'static str,
    },
}

/// Why an input is not compressed.
#[derive(Debug, Error)]
#[error("{codec} cannot compress")]
pub struct CompressError {
    /// The codec.
    pub codec: Compression,
    /// What it has to say.
    #[source]
    source: std::io::Error,
}

/// Appends the uncompressed `input` to `out`: at most `limit_bytes`, or an error and nothing.
pub fn decompress(
    compression: Compression,
    input: &[u8],
    limit_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let start = out.len();
    let mut output = Output { bytes: out, start, limit: limit_bytes };
    let result = match compression {
        Compression::None => output.extend(input),
        codec if input.is_empty() => Err(DecompressError::Corrupt { codec, fault: "empty" }),
        Compression::Gzip => gzip::decompress(input, &mut output),
        Compression::Snappy => snappy::decompress(input, &mut output),
        Compression::Lz4 => lz4::decompress(input, &mut output),
        Compression::Zstd => zstd::decompress(input, &mut output),
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends the compressed `input` to `out`, at the codec's usual level.
pub fn compress(compression: Compression, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    match compression {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => gzip::compress(input, out),
        Compression::Snappy => snappy::compress(input, out),
        Compression::Lz4 => lz4::compress(input, out),
        Compression::Zstd => zstd::compress(input, out),
    }
    .map_err(|source| CompressError { codec: compression, source })
}

impl<'a> RecordBatch<'a> {
    /// The records section without its compression: borrowed if it has none, else of at most `limit_bytes`.
    pub fn uncompressed_records(&self, limit_bytes: usize) -> Result<Cow<'a, [u8]>, DecompressError> {
        let section = self.records_section();
        match self.compression()? {
            Compression::None if section.len() > limit_bytes => {
                Err(DecompressError::LimitExceeded { limit: limit_bytes })
            }
            Compression::None => Ok(Cow::Borrowed(section)),
            compression => {
                let mut records = Vec::new();
                decompress(compression, section, limit_bytes, &mut records)?;
                Ok(Cow::Owned(records))
            }
        }
    }
}

/// What a codec writes into, and how much it may.
struct Output<'o> {
    bytes: &'o mut Vec<u8>,
    /// Where this output begins; what is before it is the caller's.
    start: usize,
    limit: usize,
}

impl Output<'_> {
    fn written(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn remaining(&self) -> usize {
        self.limit - self.written()
    }

    fn limit_exceeded(&self) -> DecompressError {
        DecompressError::LimitExceeded { limit: self.limit }
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), DecompressError> {
        if bytes.len() > self.remaining() {
            return Err(self.limit_exceeded());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
