//! Records that a plugin, or the topic they are for, does not take.

use super::*;

/// A record of `value` without a key.
fn keyless(value: &[u8], timestamp: i64, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(usize::MAX).compression(compression);
    builder.append(timestamp, None, Some(value), []).unwrap();
    builder.finish().unwrap().into()
}

/// The headers of the only record of a topic's only batch, and how long its value is.
fn letter(cluster: &MemoryCluster, topic: &str) -> (std::collections::BTreeMap<String, String>, usize) {
    let batches = cluster.read(topic, 0);
    assert_eq!(batches.len(), 1);
    let batch = RecordBatch::new(&batches[0]).unwrap();
    let section = batch.uncompressed_records(1 << 30).unwrap();
    let record = RecordIter::new(&section).next().unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = record.headers.map(|header| (text(header.key), text(header.value.unwrap())));
    (headers.collect(), record.value.unwrap().len())
}

/// Bytes that no codec makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Symptom: a record that was rejected stopped its stage for good, although bad records were to be dead-lettered.
/// Cause: with the headers that say why, a letter can be larger than its topic takes. Fix: its value is cut.
#[tokio::test]
async fn a_letter_fits_its_topic() {
    let fixture = Fixture::new();
    let value = noise(1_048_450);
    fixture.cluster.append("in", 1, &keyless(&value, 1000, Compression::None));
    let reject = guests::batch_guest("(call $reject (i32.const 2048) (i32.const 0) (i32.const 0))");
    let on_error = OnError::DeadLetter("dead".into());
    fixture.apply(vec![StageSpec { on_error, ..fixture.stage(&[reject]) }]).await;
    fixture.until_committed(1, 1).await;
    fixture.runtime.shutdown().await;
    let (headers, bytes) = letter(&fixture.cluster, "dead");
    assert_eq!(headers["millstream.error.truncated"], "1048450");
    assert_eq!((&*headers["millstream.error.partition"], &*headers["millstream.error.offset"]), ("1", "0"));
    assert_eq!(headers["millstream.error.timestamp"], "1000");
    let sha256 = &headers["millstream.error.plugin.sha256"];
    let version = headers["millstream.error.plugin"].strip_prefix("plugin0@").unwrap();
    assert!(sha256.len() == 64 && sha256.starts_with(version), "{headers:?}");
    assert!((1_000_000..value.len()).contains(&bytes), "{bytes} bytes are left");
}

/// Symptom: a plain copy failed for good at a record that had come compressed. Cause: it was written as the stage
/// compresses, by default not at all, and then was larger than the topic takes. Fix: a record that is too large
/// otherwise is compressed.
#[tokio::test]
async fn a_record_that_came_compressed_is_written_compressed() {
    let fixture = Fixture::new();
    fixture.append(0, &["before"]);
    fixture.cluster.append("in", 0, &keyless(&[b'x'; 3_000_000], 1000, Compression::Zstd));
    fixture.append(0, &["behind"]);
    fixture.apply(vec![fixture.stage(&[])]).await;
    fixture.until_committed(0, 3).await;
    fixture.runtime.shutdown().await;
    let found = fixture.cluster.read("out", 0);
    let found: Vec<_> = found.iter().map(|batch| RecordBatch::new(batch).unwrap()).collect();
    let codecs: Vec<_> = found.iter().map(|batch| batch.compression().unwrap()).collect();
    assert_eq!(codecs, [Compression::None, Compression::Zstd, Compression::None]);
    assert!(found[1].uncompressed_records(1 << 22).unwrap().len() > 3_000_000);
}

/// What the output topics take, and a record that they don't.
fn refused_records() -> [(TopicRules, Bytes, &'static str); 3] {
    let small = TopicRules { batch_bytes_max: 10_000, ..TopicRules::default() };
    let compacted = TopicRules { needs_keys: true, ..TopicRules::default() };
    let future = 4_102_444_800_000;
    [
        (small, keyless(&noise(20_000), 1000, Compression::None), "max.message.bytes"),
        (compacted, keyless(b"v", 1000, Compression::None), "cleanup.policy"),
        (TopicRules::default(), keyless(b"v", future, Compression::None), "message.timestamp.after.max.ms"),
    ]
}

/// Symptom: one record that the output topic does not take stopped the stage for good, whatever `on_error` said.
/// Cause: the broker was the first to look, and refuses the same with every attempt. Fix: the stage knows what its
/// topics take, and treats such a record as one that a plugin rejects.
#[tokio::test]
async fn a_record_that_its_topic_does_not_take_follows_the_policy() {
    for (rules, record, reason) in refused_records() {
        for on_error in [OnError::Skip, OnError::DeadLetter("dead".into()), OnError::Stop] {
            let fixture = Fixture::new();
            fixture.cluster.create_topic_with("out", 2, rules.clone());
            fixture.append(0, &["before"]);
            fixture.cluster.append("in", 0, &record);
            fixture.append(0, &["behind"]);
            let stage = StageSpec { on_error: on_error.clone(), ..fixture.stage(&[guests::identity()]) };
            fixture.apply(vec![stage]).await;
            if on_error == OnError::Stop {
                let failure = fixture.until_failed().await;
                assert_eq!((failure.kind, failure.offset), ("refused", Some(1)));
                assert!(failure.reason.contains(reason), "{}", failure.reason);
                assert_eq!(values(&fixture.cluster, "out", 0), ["before"]);
                continue;
            }
            fixture.until_committed(0, 3).await;
            fixture.runtime.shutdown().await;
            assert_eq!(values(&fixture.cluster, "out", 0), ["before", "behind"]);
            let status = &fixture.runtime.status()[0];
            assert_eq!((status.records_in, status.records_rejected), (3, 1));
            if let OnError::DeadLetter(_) = on_error {
                let (headers, _) = letter(&fixture.cluster, "dead");
                assert!(headers["millstream.error.reason"].contains(reason), "{headers:?}");
                assert!(!headers.contains_key("millstream.error.plugin"), "{headers:?}");
                assert!(!headers.contains_key("millstream.error.plugin.sha256"), "{headers:?}");
            }
        }
    }
}

/// Symptom: a batch that cannot be opened, such as one that grows beyond all bounds, stopped the stage whatever
/// `on_error` said. Cause: the policy was asked for rejected records only. Fix: also for whole batches.
#[tokio::test]
async fn a_batch_that_cannot_be_opened_follows_the_policy() {
    let bomb = keyless(&vec![0; crate::batch::UNCOMPRESSED_BYTES_MAX], 1000, Compression::Zstd);
    for (on_error, dead) in [(OnError::Skip, false), (OnError::DeadLetter("dead".into()), true)] {
        let fixture = Fixture::new();
        fixture.append(0, &["before"]);
        fixture.cluster.append("in", 0, &bomb);
        fixture.append(0, &["behind"]);
        fixture.apply(vec![StageSpec { on_error, ..fixture.stage(&[guests::identity()]) }]).await;
        fixture.until_committed(0, 3).await;
        fixture.runtime.shutdown().await;
        assert_eq!(values(&fixture.cluster, "out", 0), ["before", "behind"]);
        let status = &fixture.runtime.status()[0];
        assert_eq!((status.records_in, status.records_rejected), (3, 1));
        if dead {
            let (headers, bytes) = letter(&fixture.cluster, "dead");
            assert!(headers["millstream.error.reason"].contains("decompress"), "{headers:?}");
            assert_eq!((&*headers["millstream.error.batch.records"], bytes), ("1", bomb.len()));
        }
    }
}

/// Symptom: one record was both written and dead-lettered, or dead-lettered twice. Cause: what one plugin said of
/// its outputs was checked, but not what the next one said of the same record's. Fix: a record that is rejected
/// anywhere is one letter, and nothing else.
#[tokio::test]
async fn a_record_is_written_or_rejected_and_never_both() {
    // Two of record 0, one of record 1.
    let fan_out = guests::returning(&[0x00, 0x02, 0x00, 0x00, 0x00, 0x02]);
    let reject_first =
        "(i32.store8 (i32.const 2048) (i32.const 0x10)) (i32.store8 (i32.const 2049) (i32.const 4))
        (i32.store8 (i32.const 2050) (i32.const 4))
        (call $reject (i32.const 2048) (i32.const 3) (i32.const 0))";
    let reject_two = "(i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 6))
        (drop (call $reject (i32.const 2048) (i32.const 2) (i32.const 0)))
        (i32.store (i32.const 48) (i32.const 2))
        (i32.store (i32.const 76) (i32.const 1)) (i32.store (i32.const 80) (i32.const 1024))
        (i32.store (i32.const 84) (i32.const 7)) (i32.const 32)";
    for rejecting in [reject_first, reject_two] {
        let fixture = Fixture::new();
        fixture.append(0, &["a", "b"]);
        let on_error = OnError::DeadLetter("dead".into());
        let stage = fixture.stage(&[fan_out.clone(), guests::batch_guest(rejecting)]);
        fixture.apply(vec![StageSpec { on_error, ..stage }]).await;
        fixture.until_committed(0, 2).await;
        fixture.runtime.shutdown().await;
        assert_eq!(values(&fixture.cluster, "out", 0), ["b"]);
        assert_eq!(values(&fixture.cluster, "dead", 0), ["a"]);
        assert_eq!(fixture.runtime.status()[0].records_rejected, 1);
    }
}
