//! What a fetch answers where there are batches and no record in them: an ingest hook or a view has dropped them all,
//! or compaction has.
//!
//! librdkafka takes such an answer for one whose limit cut off the first record. It doubles its limit each time, and at
//! 1 GiB tells the application that the message is too large. A marker of a transaction, which every client passes
//! over, tells it that nothing was cut off.

use bytes::Bytes;
use millstream_record::{
    EndTransactionMarker, HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, RecordBatch, RecordBatchMut,
};

use crate::broker::whole_batches;

/// The batches; where none has a record, a marker at the last of their offsets.
pub(super) fn marked_if_empty(chunks: Vec<Bytes>) -> Vec<Bytes> {
    // Nearly always the first has records.
    let has_records = |chunk: &Bytes| RecordBatch::size_of_first(chunk).is_ok_and(|size| size > HEADER_BYTES);
    if chunks.first().is_none_or(has_records) {
        return chunks;
    }
    let Ok(batches) = whole_batches(chunks.clone()) else { return chunks };
    let mut last = None;
    for batch in &batches {
        match RecordBatch::new(batch) {
            Ok(batch) if batch.records_count() == 0 => last = Some(batch),
            _ => return chunks,
        }
    }
    last.map_or(chunks, |last| vec![marker_at(&last).into()])
}

fn marker_at(last: &RecordBatch<'_>) -> Vec<u8> {
    // It ends nothing: it has no producer.
    let marker = EndTransactionMarker { committed: true, coordinator_epoch: 0 };
    let mut bytes = marker.to_batch(last.max_timestamp(), NO_PRODUCER_ID, NO_PRODUCER_EPOCH);
    let mut batch = RecordBatchMut::new(&mut bytes).expect("it was just built");
    batch.set_base_offset(last.last_offset());
    batch.set_partition_leader_epoch(last.partition_leader_epoch());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::BatchBuilder;

    fn batch(base_offset: i64, records: i32) -> Bytes {
        let mut builder = BatchBuilder::new(1000).base_offset(base_offset).partition_leader_epoch(3);
        for _ in 0..records {
            builder.append(7, None, Some(b"value"), []).unwrap();
        }
        builder.last_offset_delta(9).finish().unwrap().into()
    }

    #[test]
    fn an_answer_without_a_record_is_a_marker_at_its_end() {
        let marked = marked_if_empty(vec![batch(100, 0), batch(110, 0)]);
        let [marker] = &marked[..] else { panic!("{marked:?}") };
        let marker = RecordBatch::new(marker).unwrap();
        marker.verify_crc().unwrap();
        assert!(marker.is_control());
        assert_eq!((marker.base_offset(), marker.next_offset(), marker.records_count()), (119, 120, 1));
        assert_eq!((marker.partition_leader_epoch(), marker.producer_id()), (3, -1));
        // In pieces, as a log hands it out.
        let all = [batch(100, 0), batch(110, 0)].concat();
        let pieces = all.chunks(10).map(Bytes::copy_from_slice).collect();
        assert_eq!(marked_if_empty(pieces), marked);
    }

    #[test]
    fn any_record_is_enough() {
        for batches in [
            vec![],
            vec![batch(100, 1)],
            vec![batch(100, 0), batch(110, 1)],
            vec![batch(100, 1), batch(110, 0)],
            vec![Bytes::from_static(b"damaged")],
        ] {
            assert_eq!(marked_if_empty(batches.clone()), batches);
        }
    }
}
