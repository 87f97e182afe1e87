//! Batches of Apache Kafka's own code and of librdkafka are read, and built again byte for byte. How they were
//! made, and how Kafka's code reads ours: `golden/README.md`.

#![expect(clippy::unwrap_used, reason = "a test's preparations fail by panicking, like the test")]

use std::path::{Path, PathBuf};

use millstream_record::{
    BatchBuilder, Compression, ControlRecordType, EndTransactionMarker, Header, NO_PRODUCER_ID, RecordBatch,
    RecordBatchMut, RecordIter, TimestampType,
};

const RECORDS: i32 = 20;
const BASE_OFFSET: i64 = 42;
const LEADER_EPOCH: i32 = 3;
const APPEND_TIME: i64 = TIMESTAMP + 100 * 100;
const TIMESTAMP: i64 = 1_700_000_000_000;
const LIMIT_BYTES: usize = 1 << 20;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("bin");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

// GoldenBatches.java computes the same.

fn timestamp(i: i32) -> i64 {
    TIMESTAMP + if i == 3 { -5 } else { i64::from(i * i) }
}

fn key(i: i32) -> Option<Vec<u8>> {
    (i % 4 != 0).then(|| format!("key-{i}").into_bytes())
}

fn value(i: i32) -> Option<Vec<u8>> {
    let value = if i % 7 == 3 { format!("line {i}; ").repeat(1000) } else { format!("value-{i}") };
    (i % 5 != 0).then(|| value.into_bytes())
}

fn header_value(i: i32) -> [u8; 2] {
    [0xff, u8::try_from(i).unwrap()]
}

fn headers(i: i32, value: &[u8]) -> Vec<Header<'_>> {
    let all = [Header { key: b"h0", value: None }, Header { key: b"h1", value: Some(value) }];
    all[..usize::try_from(i % 3).unwrap()].to_vec()
}

fn build(compression: Compression, append_time: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 16)
        .base_offset(BASE_OFFSET)
        .partition_leader_epoch(LEADER_EPOCH)
        .producer(4000, 2, 17)
        .compression(compression);
    if let Some(append_time) = append_time {
        builder = builder.append_time(append_time);
    }
    for i in 0..RECORDS {
        let header_value = header_value(i);
        let (key, value) = (key(i), value(i));
        builder.append(timestamp(i), key.as_deref(), value.as_deref(), headers(i, &header_value)).unwrap();
    }
    builder.finish().unwrap()
}

fn marker(committed: bool) -> Vec<u8> {
    let marker = EndTransactionMarker { committed, coordinator_epoch: 9 };
    let mut batch = marker.to_batch(TIMESTAMP, 4000, 2);
    let mut patch = RecordBatchMut::new(&mut batch).unwrap();
    patch.set_base_offset(BASE_OFFSET);
    patch.set_partition_leader_epoch(LEADER_EPOCH);
    batch
}

fn check_java(name: &str, compression: Compression, append_time: Option<i64>) {
    let bytes = golden(name);
    let batch = RecordBatch::new(&bytes).unwrap();
    assert_eq!(batch.verify_crc(), Ok(()), "{name}");
    assert_eq!(batch.validate_header(), Ok(()), "{name}");
    assert_eq!(batch.compression(), Ok(compression), "{name}");
    assert_eq!((batch.base_offset(), batch.partition_leader_epoch()), (BASE_OFFSET, LEADER_EPOCH));
    assert_eq!((batch.last_offset(), batch.next_offset()), (61, 62));
    assert_eq!((batch.producer_id(), batch.producer_epoch()), (4000, 2));
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (17, 36));
    assert_eq!(batch.base_timestamp(), TIMESTAMP);
    assert_eq!(batch.max_timestamp(), append_time.unwrap_or(timestamp(19)));
    assert!(!batch.is_transactional() && !batch.is_control() && !batch.has_delete_horizon());
    let section = batch.uncompressed_records(LIMIT_BYTES).unwrap();
    assert_eq!(batch.validate_records(&section), Ok(()), "{name}");
    for (i, record) in (0..).zip(RecordIter::new(&section)) {
        let record = record.unwrap();
        assert_eq!(batch.offset_of(&record), BASE_OFFSET + i64::from(i));
        assert_eq!(batch.timestamp_of(&record), append_time.unwrap_or(timestamp(i)));
        assert_eq!(record.key.map(<[u8]>::to_vec), key(i));
        assert_eq!(record.value.map(<[u8]>::to_vec), value(i));
        assert_eq!(record.headers.collect::<Vec<_>>(), headers(i, &header_value(i)));
    }
}

fn check_librdkafka(compression: Compression) {
    let bytes = golden(&format!("librdkafka-{compression}"));
    let batch = RecordBatch::new(&bytes).unwrap();
    assert_eq!(batch.verify_crc(), Ok(()), "{compression}");
    assert_eq!(batch.validate_client_header(), Ok(()), "{compression}");
    assert_eq!(batch.compression(), Ok(compression));
    assert_eq!((batch.base_offset(), batch.records_count()), (1, RECORDS));
    assert_eq!(batch.producer_id() != NO_PRODUCER_ID, compression == Compression::None);
    let section = batch.uncompressed_records(LIMIT_BYTES).unwrap();
    assert_eq!(batch.validate_records(&section), Ok(()), "{compression}");
    for (i, record) in (0..).zip(RecordIter::new(&section)) {
        let record = record.unwrap();
        assert!((batch.base_timestamp()..=batch.max_timestamp()).contains(&batch.timestamp_of(&record)));
        assert_eq!(record.key.map(<[u8]>::to_vec), Some(format!("key-{i}").into_bytes()));
        assert_eq!(record.value.map(<[u8]>::to_vec), Some(format!("line {i}; ").repeat(40).into_bytes()));
        assert_eq!(record.headers.last_of(b"h0").and_then(|header| header.value), Some(&b"zero"[..]));
        assert_eq!(record.headers.last_of(b"h1").map(|header| header.value), Some(Some(&b""[..])));
        assert_eq!(record.headers.last_of(b"h2"), None);
    }
}

#[test]
fn java_batches_are_read() {
    for compression in Compression::ALL {
        check_java(&format!("java-{compression}"), compression, None);
    }
    check_java("java-zstd-22", Compression::Zstd, None);
    check_java("java-append-time", Compression::None, Some(APPEND_TIME));
}

#[test]
fn librdkafka_batches_are_read() {
    for compression in Compression::ALL {
        check_librdkafka(compression);
    }
}

#[test]
fn java_batches_are_built_again() {
    assert_eq!(build(Compression::None, None), golden("java-none"));
    assert_eq!(build(Compression::None, Some(APPEND_TIME)), golden("java-append-time"));
    assert_eq!(marker(false), golden("java-abort"));
    assert_eq!(marker(true), golden("java-commit"));
}

#[test]
fn java_markers_are_read() {
    for (name, committed) in [("java-abort", false), ("java-commit", true)] {
        let bytes = golden(name);
        let batch = RecordBatch::new(&bytes).unwrap();
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!(batch.validate_header(), Ok(()));
        let record = RecordIter::new(batch.records_section()).next().unwrap().unwrap();
        let kind = if committed { ControlRecordType::Commit } else { ControlRecordType::Abort };
        assert_eq!(ControlRecordType::parse(record.key), Ok(kind));
        let expected = EndTransactionMarker { committed, coordinator_epoch: 9 };
        assert_eq!(EndTransactionMarker::parse(&record), Ok(expected));
    }
}

#[test]
fn append_time_turns_one_golden_batch_into_the_other() {
    let expected = golden("java-append-time");
    let mut batch = golden("java-none");
    let source = RecordBatch::new(&batch).unwrap();
    let header = source.append_time_header(BASE_OFFSET, LEADER_EPOCH, APPEND_TIME);
    assert_eq!(header[..], expected[..header.len()]);
    assert_eq!(source.timestamp_type(), TimestampType::CreateTime);
    RecordBatchMut::new(&mut batch).unwrap().set_append_time(APPEND_TIME);
    assert_eq!(batch, expected);
}

#[test]
fn the_patched_prefix_leaves_the_checksum_valid() {
    let bytes = golden("java-lz4");
    let prefix = RecordBatch::new(&bytes).unwrap().patched_prefix(1 << 40, 77);
    let patched = [&prefix[..], &bytes[prefix.len()..]].concat();
    let mut in_place = bytes;
    let mut patch = RecordBatchMut::new(&mut in_place).unwrap();
    patch.set_base_offset(1 << 40);
    patch.set_partition_leader_epoch(77);
    assert_eq!(patched, in_place);
    let batch = RecordBatch::new(&patched).unwrap();
    assert_eq!(batch.verify_crc(), Ok(()));
    assert_eq!((batch.base_offset(), batch.partition_leader_epoch()), (1 << 40, 77));
}

#[test]
fn another_producer_leaves_the_records_alone() {
    let plain = golden("java-lz4");
    let source = RecordBatch::new(&plain).unwrap();
    let header = source.producer_header(7, 3, 1000);
    let changed = [&header[..], source.records_section()].concat();
    let batch = RecordBatch::new(&changed).unwrap();
    assert_eq!(batch.verify_crc(), Ok(()));
    assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (7, 3, 1000));
    let back = batch.producer_header(source.producer_id(), source.producer_epoch(), source.base_sequence());
    assert_eq!([&back[..], source.records_section()].concat(), plain);
}

#[test]
fn ours_are_written_for_java_to_read() {
    let mut batches: Vec<_> =
        Compression::ALL.into_iter().map(|codec| (codec.name(), build(codec, None))).collect();
    batches.extend([("abort", marker(false)), ("commit", marker(true))]);
    for (name, bytes) in &batches {
        assert_eq!(RecordBatch::new(bytes).unwrap().verify_crc(), Ok(()), "{name}");
    }
    let Some(dir) = std::env::var_os("MILLSTREAM_GOLDEN_OUT").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&dir).unwrap();
    for (name, bytes) in batches {
        std::fs::write(dir.join(name).with_extension("bin"), bytes).unwrap();
    }
}
