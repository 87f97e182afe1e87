//! Where each field of a batch's header lies, and the numbers that the format gives a meaning.

use core::ops::Range;

/// The only version of the format that is spoken here.
pub const MAGIC: i8 = 2;
/// Size of a batch without its records section.
pub const HEADER_BYTES: usize = 61;
/// `base_offset` and `batch_length`: what lies before the bytes that `batch_length` counts.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The part of a batch that a broker rewrites when it appends: see `RecordBatch::patched_prefix`.
pub const PATCHED_PREFIX_BYTES: usize = 16;

/// The producer is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer is not idempotent.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The producer is not idempotent, or the batch is a control batch.
pub const NO_SEQUENCE: i32 = -1;
/// The record carries no timestamp.
pub const NO_TIMESTAMP: i64 = -1;
/// No leader has taken the batch yet.
pub const NO_LEADER_EPOCH: i32 = -1;

pub(crate) const BASE_OFFSET: Range<usize> = 0..8;
pub(crate) const BATCH_LENGTH: Range<usize> = 8..12;
pub(crate) const PARTITION_LEADER_EPOCH: Range<usize> = 12..16;
pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC: Range<usize> = 17..21;
/// The CRC covers everything from here to the end.
pub(crate) const CRC_COVERS_FROM: usize = 21;
pub(crate) const ATTRIBUTES: Range<usize> = 21..23;
pub(crate) const LAST_OFFSET_DELTA: Range<usize> = 23..27;
pub(crate) const BASE_TIMESTAMP: Range<usize> = 27..35;
pub(crate) const MAX_TIMESTAMP: Range<usize> = 35..43;
pub(crate) const PRODUCER_ID: Range<usize> = 43..51;
pub(crate) const PRODUCER_EPOCH: Range<usize> = 51..53;
pub(crate) const BASE_SEQUENCE: Range<usize> = 53..57;
pub(crate) const RECORDS_COUNT: Range<usize> = 57..61;

const _: () = assert!(RECORDS_COUNT.end == HEADER_BYTES);
const _: () = assert!(BATCH_LENGTH.end == LENGTH_PREFIX_BYTES);
const _: () = assert!(PARTITION_LEADER_EPOCH.end == PATCHED_PREFIX_BYTES);

/// The `N` bytes of a field. The callers hold at least `field.end` bytes: that is what their types stand for.
pub(crate) fn field<const N: usize>(bytes: &[u8], field: Range<usize>) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[field]);
    value
}
