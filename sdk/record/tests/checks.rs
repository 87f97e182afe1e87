//! One field of a good batch is made bad at a time: each check says what it is for, and no other check does.

#![expect(clippy::unwrap_used, reason = "a test's preparations fail by panicking, like the test")]

use millstream_record::{
    AppendError, BatchBuilder, BatchError, BuildError, HeaderError, RecordBatch, RecordBatchMut, RecordBody,
    RecordError, RecordFault, RecordIter, RecordsError, UnknownCompression,
};

const BASE_OFFSET: usize = 0;
const BATCH_LENGTH: usize = 8;
const MAGIC: usize = 16;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORDS_COUNT: usize = 57;

/// Three records, from an idempotent producer.
fn good() -> Vec<u8> {
    let mut builder = BatchBuilder::new(1000).producer(5, 6, i32::MAX - 1);
    for value in [b"a", b"b", b"c"] {
        builder.append(1000, None, Some(value), []).unwrap();
    }
    builder.finish().unwrap()
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch
}

#[test]
fn a_good_batch_is_accepted() {
    let bytes = good();
    let batch = RecordBatch::new(&bytes).unwrap();
    assert_eq!(batch.validate_client_header(), Ok(()));
    assert_eq!(batch.validate_records(batch.records_section()), Ok(()));
    // The sequence goes round from the largest to 0.
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (i32::MAX - 1, 0));
}

#[test]
fn a_frame_that_is_none_is_refused() {
    let check = |bytes: &[u8], expect| assert_eq!(RecordBatch::new(bytes), Err(expect));
    let size = good().len();
    check(&[], BatchError::Incomplete { needed: 61, available: 0 });
    check(&good()[..16], BatchError::Incomplete { needed: 61, available: 16 });
    check(&good()[..size - 1], BatchError::Incomplete { needed: size, available: size - 1 });
    check(&with(MAGIC, &[1]), BatchError::UnsupportedMagic(1));
    check(&with(BATCH_LENGTH, &(-1_i32).to_be_bytes()), BatchError::InvalidLength(-1));
    check(&with(BATCH_LENGTH, &48_i32.to_be_bytes()), BatchError::InvalidLength(48));
    let needed = 12 + usize::try_from(i32::MAX).unwrap();
    check(&with(BATCH_LENGTH, &i32::MAX.to_be_bytes()), BatchError::Incomplete { needed, available: size });
    let mut twice = good().repeat(2);
    check(&twice, BatchError::TrailingBytes(size));
    assert!(matches!(RecordBatchMut::new(&mut twice), Err(BatchError::TrailingBytes(_))));
    twice.pop();
    let mut batches = RecordBatch::batches(&twice);
    assert!(batches.next().unwrap().is_ok());
    assert!(matches!(batches.next(), Some(Err(BatchError::Incomplete { .. }))));
    assert_eq!(batches.rest().len(), size - 1);
    assert!(batches.next().is_none());
}

fn check_header(bytes: &[u8], anyone: Result<(), HeaderError>, client: Result<(), HeaderError>) {
    let batch = RecordBatch::new(bytes).unwrap();
    assert_eq!(batch.validate_header(), anyone);
    assert_eq!(batch.validate_client_header(), client);
}

#[test]
fn bad_header_fields_are_refused() {
    let check = |at: usize, bytes: &[u8], error| check_header(&with(at, bytes), Err(error), Err(error));
    for codec in 5..8 {
        check(ATTRIBUTES, &[0, codec], HeaderError::Compression(UnknownCompression));
    }
    for base_offset in [-1, i64::MAX, i64::MAX - 2] {
        let error = HeaderError::Offsets { base_offset, last_offset_delta: 2 };
        check(BASE_OFFSET, &base_offset.to_be_bytes(), error);
    }
    let error = HeaderError::Offsets { base_offset: 0, last_offset_delta: -1 };
    check(LAST_OFFSET_DELTA, &(-1_i32).to_be_bytes(), error);
    for records_count in [-1, 4, i32::MAX] {
        let error = HeaderError::RecordsCount { records_count, last_offset_delta: 2 };
        check(RECORDS_COUNT, &records_count.to_be_bytes(), error);
    }
    let producer = |producer_id, producer_epoch, base_sequence| HeaderError::Producer {
        producer_id,
        producer_epoch,
        base_sequence,
    };
    check(PRODUCER_ID, &(-2_i64).to_be_bytes(), producer(-2, 6, i32::MAX - 1));
    check(PRODUCER_EPOCH, &(-1_i16).to_be_bytes(), producer(5, -1, i32::MAX - 1));
    check(BASE_SEQUENCE, &(-2_i32).to_be_bytes(), producer(5, 6, -2));
}

#[test]
fn a_transaction_needs_a_producer() {
    let mut bytes = with(ATTRIBUTES, &[0, 0x10]);
    check_header(&bytes, Ok(()), Ok(()));
    bytes[PRODUCER_ID..PRODUCER_ID + 14].fill(0xff);
    let error = HeaderError::Producer { producer_id: -1, producer_epoch: -1, base_sequence: -1 };
    check_header(&bytes, Err(error), Err(error));
    bytes[ATTRIBUTES + 1] = 0;
    check_header(&bytes, Ok(()), Ok(()));
}

#[test]
fn what_only_a_broker_may_write_is_refused_from_a_client() {
    let check = |at: usize, bytes: &[u8], error| check_header(&with(at, bytes), Ok(()), Err(error));
    check(ATTRIBUTES, &[0, 0x08], HeaderError::LogAppendTimeFromClient);
    check(ATTRIBUTES, &[0, 0x20], HeaderError::ControlFromClient);
    let error = HeaderError::Producer { producer_id: 5, producer_epoch: 6, base_sequence: -1 };
    check(BASE_SEQUENCE, &(-1_i32).to_be_bytes(), error);
    for records_count in [0, 2] {
        let error = HeaderError::RecordsCount { records_count, last_offset_delta: 2 };
        check(RECORDS_COUNT, &records_count.to_be_bytes(), error);
    }
    // Bits that the format does not define are tolerated.
    check_header(&with(ATTRIBUTES, &[0xff, 0x80]), Ok(()), Ok(()));
}

fn check_record(record: &[u8], fault: RecordFault) {
    let good: &[u8] = &[0x0e, 0, 0, 0, 0x01, 0x02, b'a', 0];
    let section = [good, record].concat();
    let mut records = RecordIter::new(&section);
    assert!(records.next().unwrap().is_ok());
    assert_eq!(records.next().unwrap().unwrap_err(), RecordError { index: 1, fault });
    assert_eq!(records.rest(), record);
    assert!(records.next().is_none());
}

#[test]
fn bad_records_are_refused() {
    check_record(&[0x0e, 0, 0, 0x02, 0x01, 0x02, b'b'], RecordFault::Truncated);
    check_record(&[0x80], RecordFault::Truncated);
    check_record(&[0x00], RecordFault::Truncated);
    check_record(&[0x01], RecordFault::InvalidLength(-1));
    check_record(&[0xfe, 0xff, 0xff, 0xff, 0x0f], RecordFault::Truncated);
    check_record(&[0xff, 0xff, 0xff, 0xff, 0x7f], RecordFault::VarintTooLong);
    // A key of -2 bytes, a value that leads out of the record, though not out of the section.
    check_record(&[0x0e, 0, 0, 0x02, 0x03, 0x02, b'b', 0], RecordFault::InvalidLength(-2));
    check_record(&[0x0e, 0, 0, 0x02, 0x01, 0x06, b'b', 0, 0, 0], RecordFault::Truncated);
    // Headers: -1 of them, more than there can be, one without a key, and a byte after the last.
    check_record(&[0x0e, 0, 0, 0x02, 0x01, 0x02, b'b', 0x01], RecordFault::HeadersCount(-1));
    check_record(&[0x10, 0, 0, 0x02, 0x01, 0x02, b'b', 0x02, 0], RecordFault::HeadersCount(1));
    check_record(&[0x12, 0, 0, 0x02, 0x01, 0x02, b'b', 0x02, 0x01, 0], RecordFault::InvalidLength(-1));
    check_record(&[0x10, 0, 0, 0x02, 0x01, 0x02, b'b', 0, 0], RecordFault::TrailingBytes(1));
}

#[test]
fn a_body_is_checked_before_it_is_one() {
    assert_eq!(RecordBody::parse(&[0x01, 0x02, b'a', 0]).map(|body| body.as_bytes().len()), Ok(4));
    assert_eq!(RecordBody::parse(&[0x01, 0x02, b'a']), Err(RecordFault::Truncated));
    assert_eq!(RecordBody::parse(&[0x01, 0x02, b'a', 0, 0]), Err(RecordFault::TrailingBytes(1)));
}

#[test]
fn offset_deltas_follow_each_other() {
    let bytes = good();
    let batch = RecordBatch::new(&bytes).unwrap();
    let mut section = batch.records_section().to_vec();
    let size = section.len() / 3;
    section[size + 3] = 0x04;
    let fault = RecordFault::OffsetDelta { expected: 1, found: 2 };
    assert_eq!(batch.validate_records(&section), Err(RecordsError::Record(RecordError { index: 1, fault })));
}

#[test]
fn a_batch_may_keep_offsets_whose_records_are_gone() {
    let source = good();
    let source = RecordBatch::new(&source).unwrap();
    let bodies: Vec<_> =
        RecordIter::new(source.records_section()).map(|record| record.unwrap().body).collect();
    let mut builder = BatchBuilder::new(1000).base_offset(100).base_timestamp(500).last_offset_delta(9);
    builder.append_body_at(3, 1000, bodies[0]).unwrap();
    let out_of_order = builder.append_body_at(3, 1000, bodies[1]);
    assert_eq!(out_of_order, Err(AppendError::OffsetDelta(3)));
    assert_eq!(builder.append_body_at(i32::MAX, 1000, bodies[1]), Err(AppendError::OffsetDelta(i32::MAX)));
    builder.append_body_at(7, 800, bodies[2]).unwrap();
    let bytes = builder.finish().unwrap();
    let batch = RecordBatch::new(&bytes).unwrap();
    assert_eq!((batch.records_count(), batch.last_offset()), (2, 109));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (500, 1000));
    let error = HeaderError::RecordsCount { records_count: 2, last_offset_delta: 9 };
    check_header(&bytes, Ok(()), Err(error));
    let found: Vec<_> = RecordIter::new(batch.records_section())
        .map(|record| record.unwrap())
        .map(|record| (batch.offset_of(&record), batch.timestamp_of(&record), record.value.unwrap()))
        .collect();
    assert_eq!(found, [(103, 1000, &b"a"[..]), (107, 800, b"c")]);
}

#[test]
fn a_batch_without_records_needs_offsets_to_keep() {
    assert!(matches!(BatchBuilder::new(1000).finish(), Err(BuildError::Empty)));
    let bytes = BatchBuilder::new(1000).base_offset(100).last_offset_delta(4).finish().unwrap();
    let batch = RecordBatch::new(&bytes).unwrap();
    assert_eq!((batch.records_count(), batch.next_offset()), (0, 105));
    assert_eq!(batch.validate_header(), Ok(()));
    assert_eq!(batch.validate_records(batch.records_section()), Ok(()));
    assert!(batch.validate_client_header().is_err());
}
