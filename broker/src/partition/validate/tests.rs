//! Each thing that a batch can be refused for, and each that is left alone.

use std::collections::BTreeMap;

use millstream_record::{BatchBuilder, HEADER_BYTES, RecordBatchMut, compress, crc32c};

use super::*;
use crate::config::BrokerConfig;

const NOW: i64 = 1_700_000_000_000;

fn config(settings: &[(&str, &str)]) -> TopicConfig {
    let settings: BTreeMap<_, _> = settings.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    TopicConfig::effective(&settings, &BrokerConfig::default())
}

/// A batch of records with these keys.
fn batch(compression: Compression, keys: &[Option<&[u8]>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 20).compression(compression);
    for key in keys {
        builder.append(NOW, *key, Some(b"value"), []).unwrap();
    }
    builder.finish().unwrap()
}

fn plain() -> Vec<u8> {
    batch(Compression::None, &[None, None])
}

/// The batch with other bytes at `at`, under a checksum that is right.
fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(batch)
}

/// The batch with its length and checksum set right.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// What `validate` says to the batch: `None` if it takes it.
fn verdict(batch: Vec<u8>, settings: &[(&str, &str)]) -> Option<String> {
    validate(batch.into(), &config(settings), Origin::Client, NOW).err().map(|error| error.to_string())
}

#[track_caller]
fn check(batch: Vec<u8>, settings: &[(&str, &str)], expected: &str) {
    assert_eq!(verdict(batch, settings).as_deref().unwrap_or("taken"), expected);
}

#[test]
fn what_a_producer_sends_is_taken() {
    for compression in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        check(batch(compression, &[None, Some(b"key")]), &[], "taken");
        check(batch(compression, &[Some(b"key"), Some(b"")]), &[("cleanup.policy", "compact")], "taken");
    }
    let idempotent = BatchBuilder::new(1000).producer(7, 0, i32::MAX);
    let mut idempotent = idempotent;
    idempotent.append(NOW, None, None, []).unwrap();
    check(idempotent.finish().unwrap(), &[], "taken");
}

#[test]
fn bytes_that_are_no_batch_are_refused() {
    check(Vec::new(), &[], "batch is damaged: batch is incomplete: 0 of at least 61 bytes");
    let mut cut = plain();
    cut.pop();
    check(cut, &[], "batch is damaged: batch is incomplete: 84 of at least 85 bytes");
    let two = [plain(), plain()].concat();
    check(two, &[], "produce carries more than one record batch for a partition");
    check(patched(plain(), 16, &[1]), &[], "unsupported magic 1");
    let mut short = plain();
    short[8..12].copy_from_slice(&7_i32.to_be_bytes());
    check(short, &[], "invalid batch length 7");
    let mut flipped = plain();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(verdict(flipped, &[]).unwrap().starts_with("batch is damaged: batch has checksum"));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let counts = "records do not fit last offset delta";
    check(patched(plain(), 57, &3_i32.to_be_bytes()), &[], &format!("3 {counts} 1"));
    check(patched(plain(), 57, &(-1_i32).to_be_bytes()), &[], &format!("-1 {counts} 1"));
    check(patched(plain(), 57, &0_i32.to_be_bytes()), &[], &format!("0 {counts} 1"));
    check(patched(plain(), 23, &9_i32.to_be_bytes()), &[], &format!("2 {counts} 9"));
    let delta = patched(plain(), 23, &(-2_i32).to_be_bytes());
    check(delta, &[], "invalid offsets: base offset 0, last offset delta -2");
    check(patched(plain(), 21, &[0, 5]), &[], "unknown compression");
    check(patched(plain(), 21, &[0, 0x20]), &[], "clients may not write control records");
    check(patched(plain(), 21, &[0, 0x08]), &[], "clients may not set log append time");
    let transactional = patched(plain(), 21, &[0, 0x10]);
    check(transactional, &[], "invalid producer: id -1, epoch -1, sequence -1");
    let mut producer = patched(plain(), 43, &7_i64.to_be_bytes());
    check(producer.clone(), &[], "invalid producer: id 7, epoch -1, sequence -1");
    producer = patched(producer, 51, &0_i16.to_be_bytes());
    check(producer.clone(), &[], "invalid producer: id 7, epoch 0, sequence -1");
    producer = patched(producer, 53, &0_i32.to_be_bytes());
    check(producer.clone(), &[], "taken");
    check(patched(producer, 21, &[0, 0x10]), &[], "batch belongs to a transaction that isn't open");
}

#[test]
fn uncompressed_records_are_looked_at() {
    let mut more = plain();
    more.push(0);
    check(sealed(more), &[], "1 bytes after the last record");
    let one = batch(Compression::None, &[None]);
    let lie = patched(patched(one.clone(), 57, &2_i32.to_be_bytes()), 23, &1_i32.to_be_bytes());
    check(lie, &[], "1 records instead of 2");
    // The record's own length, one too many.
    let mut long = one;
    long[HEADER_BYTES] += 2;
    assert!(verdict(sealed(long), &[]).unwrap().starts_with("record 0: "));
}

#[test]
fn a_compacted_topic_wants_keys_and_says_which_are_missing() {
    let compacted = config(&[("cleanup.policy", "compact")]);
    for compression in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let bytes = batch(compression, &[None, Some(b"key"), None]);
        let error = validate(bytes.into(), &compacted, Origin::Client, NOW).unwrap_err();
        let places: Vec<i32> = error.into_refusals().iter().map(|refusal| refusal.index).collect();
        assert_eq!(places, [0, 2], "{compression}");
    }
    let keyless = vec![None; 2 * REFUSALS_MAX];
    let error =
        validate(batch(Compression::Zstd, &keyless).into(), &compacted, Origin::Client, NOW).unwrap_err();
    assert_eq!(error.into_refusals().len(), REFUSALS_MAX);
}

#[test]
fn only_a_compacted_topic_opens_what_is_compressed() {
    let closed = batch(Compression::Gzip, &[None]);
    let mut garbage = closed.clone();
    garbage.truncate(HEADER_BYTES);
    garbage.extend_from_slice(b"no gzip at all");
    let garbage = sealed(garbage);
    check(garbage.clone(), &[], "taken");
    check(garbage, &[("cleanup.policy", "compact")], "corrupt gzip data: invalid stream");
    for (batch, policy, expected) in [
        (&closed, "delete", false),
        (&closed, "compact", true),
        (&closed, "compact,delete", true),
        (&plain(), "compact", false),
        (&closed[..40].to_vec(), "compact", false),
    ] {
        assert_eq!(must_decompress(batch, &config(&[("cleanup.policy", policy)])), expected);
    }
}

#[test]
fn what_expands_too_far_is_refused() {
    let mut section = Vec::new();
    compress(Compression::Zstd, &vec![0; OPENED_BYTES_MAX + 1], &mut section).unwrap();
    let mut bomb = batch(Compression::Zstd, &[Some(b"key")]);
    bomb.truncate(HEADER_BYTES);
    bomb.extend_from_slice(&section);
    check(sealed(bomb), &[("cleanup.policy", "compact")], "uncompressed records exceed 67108864 bytes");
}

#[test]
fn size_counts_as_it_is_on_the_wire() {
    let bytes = batch(Compression::Zstd, &[Some(&[0; 10_000])]);
    let fits = bytes.len().to_string();
    check(bytes.clone(), &[("max.message.bytes", &fits)], "taken");
    let short = (bytes.len() - 1).to_string();
    let expected = format!("batch has {fits} bytes, more than max.message.bytes = {short}");
    check(bytes.clone(), &[("max.message.bytes", &short)], &expected);
    let coordinator = config(&[("max.message.bytes", &short)]);
    validate(bytes.into(), &coordinator, Origin::Coordinator, NOW).unwrap();
}

#[test]
fn timestamps_stay_within_their_limits() {
    let at = |timestamp| {
        let mut builder = BatchBuilder::new(1000);
        builder.append(timestamp, None, None, []).unwrap();
        builder.finish().unwrap()
    };
    let hour = 3_600_000;
    let outside = |timestamp| {
        format!(
            "timestamp {timestamp} is outside the limits that message.timestamp.*.max.ms sets around {NOW}"
        )
    };
    check(at(NOW + hour), &[], "taken");
    check(at(NOW + hour + 1), &[], &outside(NOW + hour + 1));
    check(at(i64::MAX), &[], &outside(i64::MAX));
    check(at(0), &[], "taken");
    check(at(-1), &[], "taken");
    let before = [("message.timestamp.before.max.ms", "1000")];
    check(at(NOW - 1000), &before, "taken");
    check(at(NOW - 1001), &before, &outside(NOW - 1001));
    check(at(i64::MAX), &[("message.timestamp.type", "LogAppendTime")], "taken");
}

#[test]
fn the_broker_stamps_a_batch_as_its_header_then_says() {
    let stamped = validate(
        plain().into(),
        &config(&[("message.timestamp.type", "LogAppendTime")]),
        Origin::Client,
        NOW + 5,
    )
    .unwrap();
    assert_eq!((stamped.append_time_ms, stamped.meta.max_timestamp), (Some(NOW + 5), NOW + 5));
    let mut expected = plain();
    RecordBatchMut::new(&mut expected).unwrap().set_append_time(NOW + 5);
    // The leader epoch is the leader's to set.
    let (stamped, expected) = (&stamped.bytes[16..], &expected[16..]);
    assert_eq!(stamped, expected);
}
