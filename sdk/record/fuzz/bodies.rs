//! What the fuzz targets do with an input, apart so that `tests/hostile.rs` runs it on stable as well.

use millstream_record::{
    BatchBuilder, Compression, ControlRecordType, EndTransactionMarker, HEADER_BYTES, RecordBatch,
    RecordBatchMut, RecordBody, RecordIter, decompress as decompress_into,
};

const LIMIT_BYTES: usize = 1 << 18;

/// Batches off the wire: every getter, every check, every patch.
pub(crate) fn batch_parse(input: &[u8]) {
    let mut batches = RecordBatch::batches(input);
    let mut taken = 0;
    while let Some(Ok(batch)) = batches.next() {
        taken += batch.size_in_bytes();
        check_batch(batch);
    }
    assert_eq!(taken + batches.rest().len(), input.len());
    assert!(batches.next().is_none(), "the iterator goes on after its end");
}

/// An uncompressed records section: what is read is written again, and then the same.
pub(crate) fn records_iter(input: &[u8]) {
    let mut builder = BatchBuilder::new(usize::MAX).base_timestamp(0);
    let mut source = Vec::new();
    for record in RecordIter::new(input) {
        let Ok(record) = record else { break };
        assert_eq!(RecordBody::parse(record.body.as_bytes()), Ok(record.body));
        assert!(record.raw.ends_with(record.body.as_bytes()));
        assert_eq!(record.headers.len(), record.headers.clone().count());
        let _ = EndTransactionMarker::parse(&record);
        let _ = ControlRecordType::parse(record.key);
        builder
            .append(record.timestamp_delta, record.key, record.value, record.headers.clone())
            .expect("the limit is far");
        source.push(record);
    }
    if source.is_empty() {
        return;
    }
    let bytes = builder.finish().expect("there is a record");
    let batch = RecordBatch::new(&bytes).expect("what is built is a batch");
    assert_eq!(batch.validate_client_header(), Ok(()));
    assert_eq!(batch.validate_records(batch.records_section()), Ok(()));
    let mut rebuilt = RecordIter::new(batch.records_section());
    for expected in source {
        let record = rebuilt.next().expect("as many records").expect("each of them valid");
        assert_eq!((record.key, record.value), (expected.key, expected.value));
        assert_eq!(batch.timestamp_of(&record), expected.timestamp_delta);
        assert!(record.headers.eq(expected.headers));
    }
    assert!(rebuilt.next().is_none());
}

/// A compressed section: the first byte chooses the codec, the second the limit.
pub(crate) fn decompress(input: &[u8]) {
    let [codec, limit, section @ ..] = input else { return };
    let codec = Compression::ALL[usize::from(*codec) % Compression::ALL.len()];
    let limit = LIMIT_BYTES >> (limit % 19);
    let mut out = vec![0xa5];
    match decompress_into(codec, section, limit, &mut out) {
        Ok(()) => assert!(out.len() <= 1 + limit, "{} bytes exceed {limit}", out.len()),
        Err(_) => assert_eq!(out, [0xa5], "an error leaves something behind"),
    }
    // A Vec at most doubles, and starts with a few bytes.
    assert!(out.capacity() <= 2 * limit + 64, "{} bytes allocated for {limit}", out.capacity());
}

fn check_batch(batch: RecordBatch<'_>) {
    let _ = batch.verify_crc();
    let header = batch.validate_header();
    assert!(header.is_ok() || batch.validate_client_header().is_err(), "a client may send what nobody may");
    if header.is_ok() {
        assert!(batch.base_offset() <= batch.last_offset() && batch.last_offset() < batch.next_offset());
    }
    let _ = (batch.crc(), batch.magic(), batch.last_sequence(), batch.producer_epoch());

    let mut patched = batch.bytes().to_vec();
    let mut patch = RecordBatchMut::new(&mut patched).expect("a batch's bytes are a batch");
    patch.set_base_offset(7);
    patch.set_partition_leader_epoch(8);
    patch.set_append_time(9);
    let expected = [&batch.append_time_header(7, 8, 9)[..], batch.records_section()].concat();
    assert_eq!(patched, expected);
    assert_eq!(patched[..16], batch.patched_prefix(7, 8));
    assert!(patched.len() >= HEADER_BYTES);
    let patched = RecordBatch::new(&patched).expect("it has the same length");
    assert_eq!(patched.verify_crc(), Ok(()));

    if let Ok(section) = batch.uncompressed_records(LIMIT_BYTES) {
        assert!(section.len() <= LIMIT_BYTES);
        let valid = batch.validate_records(&section).is_ok();
        let found = RecordIter::new(&section).take_while(Result::is_ok).count();
        assert!(!valid || i64::from(batch.records_count().max(0)) == found as i64);
    }
}
