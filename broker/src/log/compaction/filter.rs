//! Which records of a batch stay, and the batch without the others.

use std::borrow::Cow;

use millstream_record::{Record, RecordBatch, RecordIter};

use crate::log::batch::{OPENED_BYTES_MAX, finish_in_place, in_place_of};

/// What a batch is filtered by.
pub(super) struct Filter {
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// Records from this offset on stay.
    pub(super) end: i64,
    /// Whether the batch stays also without records.
    pub(super) is_needed: bool,
}

pub(super) enum Filtered {
    /// It stays as it is.
    Whole,
    Rebuilt {
        bytes: Vec<u8>,
        /// Of its records, if there are any that have a time.
        max_timestamp: Option<i64>,
    },
    Dropped,
}

/// A batch whose records can be told apart, and lie where they say. A compressed batch of a topic that wasn't always
/// compacted was never opened before.
struct Opened<'a> {
    batch: RecordBatch<'a>,
    section: Cow<'a, [u8]>,
}

impl<'a> Opened<'a> {
    /// None of a control batch, which stays as it is, like one that can't be opened.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let batch = RecordBatch::new(bytes).ok().filter(|batch| !batch.is_control())?;
        let section = batch.uncompressed_records(OPENED_BYTES_MAX).ok()?;
        let mut next = 0;
        let mut count = 0;
        for record in RecordIter::new(&section) {
            let delta = record.ok()?.offset_delta;
            if delta < next || delta > batch.last_offset_delta() {
                return None;
            }
            (next, count) = (delta.checked_add(1)?, count + 1);
        }
        (batch.records_count() == count).then_some(Self { batch, section })
    }

    fn records(&self) -> impl Iterator<Item = Record<'_>> {
        RecordIter::new(&self.section).map(|record| record.expect("all of them were parsed before"))
    }
}

/// Hands out the records of a batch with their offsets, if they can be trusted.
pub(super) fn each_record(bytes: &[u8], mut each: impl FnMut(i64, &Record<'_>)) {
    let Some(opened) = Opened::new(bytes) else { return };
    for record in opened.records() {
        each(opened.batch.offset_of(&record), &record);
    }
}

/// Asks of each record with a key whether it goes, in the order of [`each_record`]; a record without a key is asked
/// for as if its key were empty, and has no place in a compacted log.
pub(super) fn filter(
    bytes: &[u8],
    rules: &Filter,
    mut is_superseded: impl FnMut(i64, &[u8]) -> bool,
) -> Filtered {
    let Some(opened) = Opened::new(bytes) else { return Filtered::Whole };
    let batch = &opened.batch;
    let horizon = batch.has_delete_horizon().then(|| batch.base_timestamp());
    let is_expired = horizon.is_some_and(|horizon| rules.now_ms >= horizon);
    let (mut kept, mut found, mut has_new_tombstone) = (Vec::new(), 0, false);
    for record in opened.records() {
        found += 1;
        let offset = batch.offset_of(&record);
        let goes = is_superseded(offset, record.key.unwrap_or_default()) || record.key.is_none();
        if offset < rules.end {
            let is_tombstone = record.value.is_none();
            if goes || (is_tombstone && is_expired) {
                continue;
            }
            has_new_tombstone |= is_tombstone && horizon.is_none();
        }
        kept.push(record);
    }
    // Also one that was empty before: what it was needed for may be over.
    if kept.is_empty() && !rules.is_needed && batch.last_offset() < rules.end {
        return Filtered::Dropped;
    }
    if kept.len() == found && !has_new_tombstone {
        return Filtered::Whole;
    }
    let new_horizon = has_new_tombstone.then(|| rules.now_ms.saturating_add(rules.delete_retention_ms));
    rebuild(batch, &kept, new_horizon).unwrap_or(Filtered::Whole)
}

/// The batch with these of its records, at the offsets that they have.
fn rebuild(batch: &RecordBatch<'_>, kept: &[Record<'_>], new_horizon: Option<i64>) -> Option<Filtered> {
    let mut builder = in_place_of(batch, usize::MAX).ok()?;
    if let Some(horizon) = new_horizon {
        builder = builder.delete_horizon(horizon);
    }
    for record in kept {
        builder.append_body_at(record.offset_delta, batch.timestamp_of(record), record.body).ok()?;
    }
    // Records without a time are as old as their batch was when it was appended, which the index knows.
    let max_timestamp = kept.iter().map(|record| batch.timestamp_of(record)).max().filter(|&time| time >= 0);
    Some(Filtered::Rebuilt { bytes: finish_in_place(builder).ok()?, max_timestamp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::{BatchBuilder, Compression};

    const DAY: i64 = 86_400_000;

    /// A batch at offset 100 of records with these keys; `-` in front makes a tombstone.
    fn batch(compression: Compression, keys: &[&str]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(1 << 20)
            .base_offset(100)
            .partition_leader_epoch(7)
            .producer(5, 1, 40)
            .compression(compression);
        for (index, key) in keys.iter().enumerate() {
            let (key, value) = match key.strip_prefix('-') {
                Some(key) => (key, None),
                None => (*key, Some(&b"value"[..])),
            };
            builder.append(1000 + index as i64, Some(key.as_bytes()), value, []).unwrap();
        }
        builder.finish().unwrap()
    }

    fn rules() -> Filter {
        Filter { now_ms: 5000, delete_retention_ms: DAY, end: i64::MAX, is_needed: false }
    }

    /// What is left: offset, key, timestamp.
    fn left(bytes: &[u8]) -> Vec<(i64, String, i64)> {
        let batch = RecordBatch::new(bytes).unwrap();
        batch.verify_crc().unwrap();
        batch.validate_header().unwrap();
        let mut found = Vec::new();
        each_record(bytes, |offset, record| {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            found.push((offset, key, batch.timestamp_of(record)));
        });
        found
    }

    fn rebuilt(filtered: Filtered) -> Vec<u8> {
        match filtered {
            Filtered::Rebuilt { bytes, .. } => bytes,
            Filtered::Whole => panic!("it stays as it is"),
            Filtered::Dropped => panic!("it goes"),
        }
    }

    #[test]
    fn what_stays_keeps_its_offset_and_its_time() {
        for compression in [Compression::None, Compression::Zstd, Compression::Lz4] {
            let bytes = batch(compression, &["a", "b", "a", "c"]);
            let kept = rebuilt(filter(&bytes, &rules(), |offset, key| key == b"a" && offset < 102));
            let expected = [(101, "b", 1001), (102, "a", 1002), (103, "c", 1003)];
            assert_eq!(left(&kept), expected.map(|(offset, key, time)| (offset, key.to_owned(), time)));
            let (old, new) = (RecordBatch::new(&bytes).unwrap(), RecordBatch::new(&kept).unwrap());
            assert_eq!((new.base_offset(), new.last_offset()), (old.base_offset(), old.last_offset()));
            assert_eq!((new.producer_id(), new.base_sequence()), (5, 40));
            assert_eq!((new.compression(), new.partition_leader_epoch()), (Ok(compression), 7));
        }
    }

    #[test]
    fn a_batch_of_nothing_goes_unless_it_is_needed() {
        let bytes = batch(Compression::None, &["a", "b"]);
        assert!(matches!(filter(&bytes, &rules(), |_, _| true), Filtered::Dropped));
        assert!(matches!(filter(&bytes, &rules(), |_, _| false), Filtered::Whole));
        let empty = rebuilt(filter(&bytes, &Filter { is_needed: true, ..rules() }, |_, _| true));
        assert_eq!(left(&empty), []);
        assert_eq!(RecordBatch::new(&empty).unwrap().next_offset(), 102);
        let before = Filter { end: 101, ..rules() };
        assert_eq!(left(&rebuilt(filter(&bytes, &before, |_, _| true))), [(101, "b".to_owned(), 1001)]);
    }

    #[test]
    fn a_tombstone_stays_for_its_time() {
        let bytes = batch(Compression::None, &["a", "-b"]);
        let marked = rebuilt(filter(&bytes, &rules(), |_, _| false));
        let view = RecordBatch::new(&marked).unwrap();
        assert_eq!((view.has_delete_horizon(), view.base_timestamp()), (true, 5000 + DAY));
        assert_eq!(left(&marked), [(100, "a".to_owned(), 1000), (101, "b".to_owned(), 1001)]);
        let early = Filter { now_ms: 5000 + DAY - 1, ..rules() };
        assert!(matches!(filter(&marked, &early, |_, _| false), Filtered::Whole));
        let late = Filter { now_ms: 5000 + DAY, ..rules() };
        assert_eq!(left(&rebuilt(filter(&marked, &late, |_, _| false))), [(100, "a".to_owned(), 1000)]);
        assert!(matches!(
            filter(&batch(Compression::None, &["-b"]), &rules(), |_, _| true),
            Filtered::Dropped
        ));
    }

    #[test]
    fn what_cannot_be_opened_stays() {
        let mut bytes = batch(Compression::Zstd, &["a"]);
        bytes.truncate(bytes.len() - 3);
        let length = (bytes.len() - 12) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(matches!(filter(&bytes, &rules(), |_, _| true), Filtered::Whole));
        assert!(matches!(filter(b"no batch", &rules(), |_, _| true), Filtered::Whole));
    }
}
