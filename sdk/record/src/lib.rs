//! Kafka's record batch, version 2 (magic 2): the one implementation of the format in the house.
//!
//! ```text
//! batch   base_offset i64 | batch_length i32 | partition_leader_epoch i32 | magic i8 | crc u32
//!         | attributes i16 | last_offset_delta i32 | base_timestamp i64 | max_timestamp i64
//!         | producer_id i64 | producer_epoch i16 | base_sequence i32 | records_count i32
//!         | records section: compressed as a whole, as the attributes say
//! record  length | attributes i8 | timestamp_delta | offset_delta
//!         | key_length | key | value_length | value | headers_count | headers      <- the record's body
//! header  key_length | key | value_length | value
//! ```
//!
//! A batch's numbers are big-endian; a record's are zigzag varints, and a length of -1 is null. The CRC-32C
//! covers everything from `attributes` on, so a broker assigns `base_offset` and `partition_leader_epoch`
//! without touching it.
//!
//! Pure: no I/O, no `unsafe`, no allocation on the reading side. Without the features `std` and `codecs` it
//! is `no_std`, which is how guests compile it. Every byte that enters is taken for hostile: reading yields
//! errors, never panics, and nothing is allocated because the input merely declares a size.

#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

extern crate alloc;

pub mod varint;

mod batch;
mod builder;
mod compression;
mod control;
mod crc;
mod layout;
mod record;

#[cfg(feature = "codecs")]
mod codec;

pub use batch::{
    Attributes, BatchError, Batches, CrcMismatch, HeaderError, RecordBatch, RecordBatchMut, RecordsError,
    TimestampType,
};
pub use builder::{AppendError, BatchBuilder, BuildError};
#[cfg(feature = "codecs")]
pub use codec::{CompressError, DecompressError, compress, decompress};
pub use compression::{Compression, UnknownCompression};
pub use control::{ControlRecordError, ControlRecordType, EndTransactionMarker};
pub use crc::{crc32c, crc32c_append};
pub use layout::{HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, NO_SEQUENCE, PATCHED_PREFIX_BYTES};
pub use layout::{NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP};
pub use record::{Header, Headers, Record, RecordBody, RecordError, RecordFault, RecordIter};
