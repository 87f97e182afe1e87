//! A disk in memory that fails as real ones do, and batches to put on it.
//!
//! For tests of this crate and of those above it; nothing in production uses it.

mod faulty_disk;

pub use faulty_disk::{Faults, FaultyDisk};

use bytes::Bytes;
use millstream_record::{HEADER_BYTES, RecordBatch, crc32c};

use super::batch::{BatchMeta, ProducerBatch};
use crate::ids::{LeaderEpoch, Offset};

/// Random numbers from a seed (splitmix64): no dependency, and the same everywhere.
#[derive(Debug, Clone)]
pub struct SeededRandom(u64);

impl SeededRandom {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which isn't 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A batch as a client would send it, with the right lengths and checksum: base offset 0, leader
/// epoch -1, and `payload` where the records would be.
pub fn client_batch(
    records: i32,
    max_timestamp: i64,
    producer: Option<ProducerBatch>,
    payload: &[u8],
) -> Bytes {
    let mut batch = vec![0u8; HEADER_BYTES];
    batch.extend_from_slice(payload);
    let length = batch.len() as u32;
    let (id, epoch, base_sequence) =
        producer.map_or((-1, -1, -1), |stamp| (stamp.id.0, stamp.epoch.0, stamp.base_sequence));
    batch[8..12].copy_from_slice(&(length - 12).to_be_bytes());
    batch[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&max_timestamp.to_be_bytes());
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    let checksum = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    Bytes::from(batch)
}

/// The facts of a [`client_batch`] that is appended at `base_offset`.
pub fn batch_meta(batch: &Bytes, base_offset: Offset, leader_epoch: LeaderEpoch) -> BatchMeta {
    let batch = RecordBatch::new(batch).expect("it was built as one");
    BatchMeta::new(&batch, base_offset, leader_epoch)
}
