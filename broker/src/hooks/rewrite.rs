//! A batch in the making, in the place of one that a hook has looked at.

use bytes::Bytes;
use millstream_record::{AppendError, BatchBuilder, BuildError, Compression, RecordBatch, RecordBody};

use crate::log::batch::OPENED_BYTES_MAX;
use crate::log::batch::{finish_in_place, in_place_of};

/// Takes the records that stay, in their order. The offsets that the batch covers, its producer, its sequences, its
/// flags and its codec are those of the batch that it replaces, so neither the producer nor a reader can tell that
/// records are missing from it.
#[derive(Debug, Clone)]
pub struct Rewrite {
    builder: BatchBuilder,
    compression: Compression,
    last_offset_delta: i32,
    /// Which batch it replaces.
    of: (i64, u32),
}

/// Why a record is not kept. The batch in the making is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    #[error("record {index} is beyond the batch's last, {last}")]
    NoSuchRecord { index: i32, last: i32 },
    #[error("record {index} does not come after the one before")]
    OutOfOrder { index: i32 },
    #[error("the batch would take {needed} bytes, more than the {limit} that can be opened again")]
    TooLarge { needed: usize, limit: usize },
}

impl Rewrite {
    /// Of a batch whose header has been validated.
    pub(crate) fn of(batch: &RecordBatch<'_>) -> Option<Self> {
        Some(Self {
            builder: in_place_of(batch, OPENED_BYTES_MAX).ok()?,
            compression: batch.compression().ok()?,
            last_offset_delta: batch.last_offset_delta(),
            of: (batch.base_offset(), batch.crc()),
        })
    }

    /// Keeps a record of the batch, with this content and this timestamp. `index` is its offset, less the batch's
    /// first. Where the broker stamps the records, they keep the broker's timestamp.
    pub fn keep(&mut self, index: i32, timestamp: i64, body: RecordBody<'_>) -> Result<(), RewriteError> {
        if index > self.last_offset_delta {
            return Err(RewriteError::NoSuchRecord { index, last: self.last_offset_delta });
        }
        self.builder.append_body_at(index, timestamp, body).map_err(|error| match error {
            AppendError::OffsetDelta(index) => RewriteError::OutOfOrder { index },
            AppendError::Full { needed, limit } => RewriteError::TooLarge { needed, limit },
        })
    }

    /// How many records have been kept.
    pub fn records_count(&self) -> i32 {
        self.builder.records_count()
    }

    /// Whether [`finish`](Self::finish) takes more time than a network thread has.
    pub(crate) fn is_compressed(&self) -> bool {
        self.compression != Compression::None && !self.builder.is_empty()
    }

    /// The batch in the place of `replaced`, for which it must have been made.
    pub(crate) fn finish(self, replaced: &[u8]) -> Result<Bytes, BuildError> {
        let of = RecordBatch::new(replaced).map(|batch| (batch.base_offset(), batch.crc()));
        assert_eq!(of, Ok(self.of), "a hook answers with the rewrite that it was given for the batch");
        finish_in_place(self.builder).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::RecordIter;

    fn batch(compression: Compression, values: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(1 << 20)
            .base_offset(100)
            .partition_leader_epoch(3)
            .producer(7, 2, 40)
            .compression(compression);
        for (index, value) in values.iter().enumerate() {
            builder.append(1000 + index as i64, None, Some(value.as_bytes()), []).unwrap();
        }
        builder.finish().unwrap()
    }

    fn bodies(bytes: &[u8]) -> Vec<(i32, i64, Vec<u8>)> {
        let batch = RecordBatch::new(bytes).unwrap();
        let section = batch.uncompressed_records(OPENED_BYTES_MAX).unwrap();
        RecordIter::new(&section)
            .map(|record| record.unwrap())
            .map(|record| (record.offset_delta, batch.timestamp_of(&record), record.body.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn what_is_kept_stays_where_it_was() {
        for compression in Compression::ALL {
            let before = batch(compression, &["a", "b", "c", "d"]);
            let records = bodies(&before);
            let mut rewrite = Rewrite::of(&RecordBatch::new(&before).unwrap()).unwrap();
            for (index, timestamp, body) in [&records[1], &records[3]] {
                rewrite.keep(*index, *timestamp, RecordBody::parse(body).unwrap()).unwrap();
            }
            assert_eq!((rewrite.records_count(), rewrite.is_compressed()), (2, compression.id() != 0));
            let after = rewrite.finish(&before).unwrap();
            assert_eq!(bodies(&after), [records[1].clone(), records[3].clone()], "{compression}");
            let (old, new) = (RecordBatch::new(&before).unwrap(), RecordBatch::new(&after).unwrap());
            new.verify_crc().unwrap();
            new.validate_header().unwrap();
            assert_eq!((new.base_offset(), new.last_offset()), (100, 103));
            assert_eq!((new.producer_id(), new.producer_epoch(), new.base_sequence()), (7, 2, 40));
            assert_eq!((new.last_sequence(), new.partition_leader_epoch()), (old.last_sequence(), 3));
            assert_eq!(new.compression(), Ok(compression));
        }
    }

    #[test]
    fn a_batch_of_nothing_keeps_its_offsets_and_is_not_compressed() {
        let before = batch(Compression::Zstd, &["a", "b"]);
        let rewrite = Rewrite::of(&RecordBatch::new(&before).unwrap()).unwrap();
        assert!(!rewrite.is_compressed());
        let after = rewrite.finish(&before).unwrap();
        let after = RecordBatch::new(&after).unwrap();
        after.validate_header().unwrap();
        assert_eq!((after.records_count(), after.next_offset(), after.last_sequence()), (0, 102, 41));
        assert_eq!((after.records_section().len(), after.compression()), (0, Ok(Compression::None)));
    }

    #[test]
    fn flags_survive() {
        let mut builder = BatchBuilder::new(1000).producer(7, 2, 0).transactional(true).append_time(5000);
        builder.append(1, Some(b"k"), None, []).unwrap();
        builder.append(2, Some(b"k"), None, []).unwrap();
        let before = builder.delete_horizon(9000).finish().unwrap();
        let records = bodies(&before);
        let mut rewrite = Rewrite::of(&RecordBatch::new(&before).unwrap()).unwrap();
        rewrite.keep(1, 77, RecordBody::parse(&records[1].2).unwrap()).unwrap();
        let after = rewrite.finish(&before).unwrap();
        let (old, new) = (RecordBatch::new(&before).unwrap(), RecordBatch::new(&after).unwrap());
        assert_eq!(new.attributes(), old.attributes());
        assert!(new.is_transactional() && new.has_delete_horizon());
        assert_eq!((new.base_timestamp(), new.max_timestamp()), (9000, 5000));
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let before = batch(Compression::None, &["a", "b"]);
        let body = RecordBody::parse(&[1, 1, 0]).unwrap();
        let mut rewrite = Rewrite::of(&RecordBatch::new(&before).unwrap()).unwrap();
        assert_eq!(rewrite.keep(2, 0, body), Err(RewriteError::NoSuchRecord { index: 2, last: 1 }));
        assert_eq!(rewrite.keep(-1, 0, body), Err(RewriteError::OutOfOrder { index: -1 }));
        rewrite.keep(1, 0, body).unwrap();
        for index in [0, 1] {
            assert_eq!(rewrite.keep(index, 0, body), Err(RewriteError::OutOfOrder { index }));
        }
        // A null key, a long value, no headers.
        let mut large = vec![1];
        millstream_record::varint::put_varint(&mut large, OPENED_BYTES_MAX as i32);
        large.resize(large.len() + OPENED_BYTES_MAX, b'x');
        large.push(0);
        let mut rewrite = Rewrite::of(&RecordBatch::new(&before).unwrap()).unwrap();
        let refused = rewrite.keep(0, 0, RecordBody::parse(&large).unwrap());
        assert!(
            matches!(refused, Err(RewriteError::TooLarge { limit: OPENED_BYTES_MAX, .. })),
            "{refused:?}"
        );
        assert_eq!(rewrite.records_count(), 0);
    }
}
