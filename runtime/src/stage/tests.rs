//! Stages over a cluster in memory, with well-behaved and hostile plugins.

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, RecordBatch, RecordIter};
use prometheus_client::registry::Registry;

use super::memory::MemoryCluster;
use super::*;
use crate::clock::{ManualClock, SharedClock, SystemClock};
use crate::engine::{EngineConfig, PluginEngine};
use crate::guests;
use crate::limits::PluginLimits;
use crate::pipeline::Pipeline;
use crate::runtime::{Applied, Runtime};

/// A cluster with a topic `in` of 2 partitions, `out` of 2, `wide` of 5, `dead` of 1, and the runtime on it.
struct Fixture {
    cluster: MemoryCluster,
    runtime: Runtime<MemoryCluster>,
    engine: PluginEngine,
}

impl Fixture {
    fn new() -> Self {
        Self::with_clock(SystemClock::shared())
    }

    fn with_clock(clock: SharedClock) -> Self {
        let cluster = MemoryCluster::default();
        for (topic, partitions) in [("in", 2), ("out", 2), ("wide", 5), ("dead", 1)] {
            cluster.create_topic(topic, partitions);
        }
        let metrics = RuntimeMetrics::register(&mut Registry::default());
        let handle = tokio::runtime::Handle::current();
        let runtime = Runtime::new(cluster.clone(), metrics, clock, handle);
        let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
        Self { cluster, runtime, engine }
    }

    fn stage(&self, guests: &[Vec<u8>]) -> StageSpec {
        let plugin = |(at, wasm): (usize, &Vec<u8>)| StagePlugin {
            name: format!("plugin{at}"),
            plugin: Arc::new(self.engine.load(wasm).unwrap()),
            config: "null".to_owned(),
            limits: PluginLimits { call_timeout_ms: 100, ..PluginLimits::default() },
        };
        StageSpec {
            pipeline: "test".to_owned(),
            name: "stage".to_owned(),
            from: vec!["in".into()],
            plugins: guests.iter().enumerate().map(plugin).collect(),
            to: vec!["out".into()],
            group: "test.stage".to_owned(),
            parallelism: 1,
            on_error: OnError::Stop,
            compression: Compression::None,
        }
    }

    async fn apply(&self, stages: Vec<StageSpec>) -> Applied {
        self.runtime.apply(&Pipeline { name: "test".to_owned(), topics: Vec::new(), stages }).await
    }

    fn append(&self, partition: i32, values: &[&str]) {
        self.cluster.append("in", partition, &batch(values, Compression::None));
    }

    async fn until_committed(&self, partition: i32, next_offset: i64) {
        let reached = |cluster: &MemoryCluster| {
            cluster
                .committed("test.stage", "in", partition)
                .is_some_and(|offset| offset.next_offset >= next_offset)
        };
        tokio::time::timeout(DEADLINE, self.cluster.until(reached))
            .await
            .expect("the stage gets there in time");
    }

    /// Waits for what no change of the cluster tells.
    async fn until(&self, condition: impl Fn() -> bool) {
        let held = async {
            while !condition() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, held).await.expect("it comes to that in time");
    }

    async fn until_failed(&self) -> StageFailure {
        let failed = async {
            loop {
                if let StageState::Failed(failure) = self.runtime.status()[0].state.clone() {
                    return failure;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, failed).await.expect("the stage fails in time")
    }
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// Records with the key `k<value>`.
fn batch(values: &[&str], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20).compression(compression);
    for (at, value) in values.iter().enumerate() {
        let key = format!("k{value}");
        builder.append(1000 + at as i64, Some(key.as_bytes()), Some(value.as_bytes()), []).unwrap();
    }
    builder.finish().unwrap().into()
}

/// Value, timestamp and number of headers of each record.
fn records(cluster: &MemoryCluster, topic: &str, partition: i32) -> Vec<(String, i64, usize)> {
    let mut found = Vec::new();
    for bytes in cluster.read(topic, partition) {
        let batch = RecordBatch::new(&bytes).unwrap();
        batch.verify_crc().unwrap();
        let mut section = batch.records_section().to_vec();
        if batch.compression().unwrap() != Compression::None {
            let compressed = std::mem::take(&mut section);
            millstream_record::decompress(batch.compression().unwrap(), &compressed, 1 << 20, &mut section)
                .unwrap();
        }
        for record in RecordIter::new(&section) {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap_or(b"null").to_vec()).unwrap();
            found.push((value, batch.timestamp_of(&record), record.headers.len()));
        }
    }
    found
}

fn values(cluster: &MemoryCluster, topic: &str, partition: i32) -> Vec<String> {
    records(cluster, topic, partition).into_iter().map(|(value, ..)| value).collect()
}

#[tokio::test]
async fn the_memory_port_keeps_the_contract() {
    let cluster = MemoryCluster::default();
    cluster.create_topic("source", 1);
    cluster.create_topic("target", 1);
    port_contract::check(&cluster, "source", "target").await;
}

#[tokio::test]
async fn records_keep_their_partition_order_and_timestamp() {
    for guests in [vec![], vec![guests::identity()], vec![guests::typed_identity(), guests::identity()]] {
        let fixture = Fixture::new();
        fixture.append(0, &["a", "b"]);
        fixture.append(0, &["c"]);
        fixture.append(1, &["x"]);
        fixture.apply(vec![fixture.stage(&guests)]).await;
        fixture.until_committed(0, 3).await;
        fixture.until_committed(1, 1).await;
        let expect = [("a", 1000), ("b", 1001), ("c", 1000)].map(|(value, at)| (value.to_owned(), at, 0));
        assert_eq!(records(&fixture.cluster, "out", 0), expect);
        assert_eq!(values(&fixture.cluster, "out", 1), ["x"]);
        fixture.append(1, &["y"]);
        fixture.until_committed(1, 2).await;
        fixture.runtime.shutdown().await;
        assert_eq!(values(&fixture.cluster, "out", 1), ["x", "y"]);
        let status = &fixture.runtime.status()[0];
        assert_eq!((status.records_in, status.records_out, status.lag), (5, 5, 0));
        assert_eq!(status.state, StageState::Stopped);
    }
}

#[tokio::test]
async fn compressed_batches_are_read_and_written() {
    let fixture = Fixture::new();
    for compression in Compression::ALL {
        fixture.cluster.append("in", 0, &batch(&[compression.name()], compression));
    }
    let stage = StageSpec { compression: Compression::Zstd, ..fixture.stage(&[guests::identity()]) };
    fixture.apply(vec![stage]).await;
    fixture.until_committed(0, 5).await;
    assert_eq!(values(&fixture.cluster, "out", 0), Compression::ALL.map(Compression::name));
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn other_partition_counts_spread_by_key_as_the_java_client_does() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..50).map(|at| at.to_string()).collect();
    fixture.append(0, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let stage = StageSpec { to: vec!["wide".into()], ..fixture.stage(&[]) };
    fixture.apply(vec![stage]).await;
    fixture.until_committed(0, 50).await;
    for partition in 0..5 {
        for value in values(&fixture.cluster, "wide", partition) {
            assert_eq!(partitioner::partition_of_key(format!("k{value}").as_bytes(), 5), partition);
        }
    }
    fixture.runtime.shutdown().await;
}

/// Topic and partition are the guest's to choose; the second plugin of a chain leaves them alone.
#[tokio::test]
async fn a_guest_chooses_topic_and_partition() {
    let fixture = Fixture::new();
    fixture.append(0, &["a", "b"]);
    // Record 0 to partition 3 of "wide"; record 1 as body "hi" with timestamp 5.
    let routing = guests::returning(b"\x06\x02\x08wide\x06\x09\x02\x0a\x0a\x01\x04hi\x00");
    let to = vec!["out".into(), "wide".into()];
    let stage = StageSpec { to, ..fixture.stage(&[routing, guests::identity()]) };
    fixture.apply(vec![stage]).await;
    fixture.until_committed(0, 2).await;
    assert_eq!(values(&fixture.cluster, "wide", 3), ["a"]);
    assert_eq!(records(&fixture.cluster, "out", 0), [("hi".to_owned(), 5, 0)]);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn a_partition_that_does_not_exist_stops_the_stage() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.apply(vec![fixture.stage(&[guests::returning(&[0x04, 0x02, 0x04])])]).await;
    let failure = fixture.until_failed().await;
    assert_eq!(failure.kind, "invalid_output");
    assert!(failure.reason.contains("partition 2 of topic \"out\", which has 2"), "{}", failure.reason);
}

/// The batch before is committed, the bad one is not, and applying again goes on with it.
#[tokio::test]
async fn a_plugin_that_fails_stops_before_its_batch() {
    let trap = "(if (i32.eq (local.get $count) (i32.const 2)) (then unreachable))";
    let endless = "(if (i32.eq (local.get $count) (i32.const 2)) (then (loop $again (br $again))))";
    let hungry = "(if (i32.eq (local.get $count) (i32.const 2)) (then (loop $again
        (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))";
    for (body, kind) in [(trap, "trap"), (endless, "timeout"), (hungry, "memory_limit")] {
        let fixture = Fixture::new();
        fixture.append(0, &["a"]);
        fixture.append(0, &["bad", "batch"]);
        fixture.append(0, &["c"]);
        let keep_first =
            "(i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))
            (call $ok (i32.const 2048) (i32.const 2))";
        let guest = guests::batch_guest(&format!("{body} {keep_first}"));
        fixture.apply(vec![fixture.stage(&[guest])]).await;
        let failure = fixture.until_failed().await;
        assert_eq!(
            (failure.kind, failure.offset, failure.partition),
            (kind, Some(1), Some(0)),
            "{}",
            failure.reason
        );
        assert_eq!(failure.plugin.as_deref(), Some("plugin0"));
        assert_eq!(values(&fixture.cluster, "out", 0), ["a"]);
        assert_eq!(fixture.cluster.committed("test.stage", "in", 0).unwrap().next_offset, 1);

        let applied = fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
        assert_eq!(applied.restarted, ["stage"]);
        fixture.until_committed(0, 4).await;
        assert_eq!(values(&fixture.cluster, "out", 0), ["a", "bad", "batch", "c"]);
        fixture.runtime.shutdown().await;
    }
}

/// Rejects record 1, keeps record 0.
fn rejecting() -> Vec<u8> {
    guests::batch_guest(
        "(i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))
         (call $reject (i32.const 2048) (i32.const 2) (i32.const 1))",
    )
}

#[tokio::test]
async fn a_rejected_record_follows_the_policy() {
    for (on_error, dead) in [(OnError::Skip, 0), (OnError::DeadLetter("dead".into()), 1)] {
        let fixture = Fixture::new();
        fixture.append(1, &["good", "bad"]);
        let stage = StageSpec { on_error, ..fixture.stage(&[guests::identity(), rejecting()]) };
        fixture.apply(vec![stage]).await;
        fixture.until_committed(1, 2).await;
        assert_eq!(values(&fixture.cluster, "out", 1), ["good"]);
        let letters = records(&fixture.cluster, "dead", 0);
        assert_eq!(letters, vec![("bad".to_owned(), 1001, 6); dead]);
        let status = &fixture.runtime.status()[0];
        assert_eq!((status.records_rejected, status.last_rejection.as_deref()), (1, Some("because")));
        fixture.runtime.shutdown().await;
    }
    let fixture = Fixture::new();
    fixture.append(1, &["good", "bad"]);
    fixture.apply(vec![fixture.stage(&[rejecting()])]).await;
    let failure = fixture.until_failed().await;
    assert_eq!(failure.kind, "rejected");
    assert!(failure.reason.contains("offset 1: because"), "{}", failure.reason);
    assert!(values(&fixture.cluster, "out", 1).is_empty());
}

#[tokio::test]
async fn a_retry_is_tried_again() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    let guest = guests::batch_guest_of(&guests::Guest {
        init: guests::AGREE,
        items: "(global $calls (mut i32) (i32.const 0))",
        transform: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (result i32) (i32.lt_u (global.get $calls) (i32.const 3))
                (then (call $err (i32.const 0))) (else (call $ok (i32.const 0) (i32.const 0))))",
    });
    fixture.apply(vec![fixture.stage(&[guest])]).await;
    fixture.until_committed(0, 1).await;
    assert_eq!(fixture.runtime.status()[0].state, StageState::Running);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn a_lost_port_is_opened_again_and_nothing_is_missing() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.cluster.fail_commits([
        PortError::Unavailable("the broker restarts".to_owned()),
        PortError::Fenced("the group has moved on".to_owned()),
    ]);
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    fixture.until_committed(0, 1).await;
    assert_eq!(fixture.cluster.opened(), 3);
    assert_eq!(values(&fixture.cluster, "out", 0), ["a"]);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn an_error_that_stays_fails_the_stage() {
    let fixture = Fixture::new();
    fixture.append(0, &["a"]);
    fixture.cluster.fail_commits([PortError::Fatal("the record is too large".to_owned())]);
    fixture.apply(vec![fixture.stage(&[])]).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.reason.as_str()), ("port", "the record is too large"));
}

#[tokio::test]
async fn revoked_partitions_are_committed_first_and_come_back() {
    let fixture = Fixture::new();
    for value in 0..50 {
        fixture.append(0, &[&value.to_string()]);
    }
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    fixture.until_committed(0, 1).await;
    fixture.cluster.revoke([TopicPartition { topic: "in".into(), partition: 0 }]);
    fixture.append(0, &["last"]);
    fixture.until_committed(0, 51).await;
    assert_eq!(values(&fixture.cluster, "out", 0).len(), 51);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn an_unchanged_stage_is_not_disturbed() {
    let fixture = Fixture::new();
    let other = |fixture: &Fixture| StageSpec {
        name: "other".to_owned(),
        group: "other".to_owned(),
        to: vec!["wide".into()],
        ..fixture.stage(&[])
    };
    let applied = fixture.apply(vec![fixture.stage(&[guests::identity()]), other(&fixture)]).await;
    assert_eq!(applied.started, ["stage", "other"]);
    fixture.append(0, &["a"]);
    fixture.until_committed(0, 1).await;
    let opened = fixture.cluster.opened();

    let stage = StageSpec { on_error: OnError::Skip, ..other(&fixture) };
    let applied = fixture.apply(vec![fixture.stage(&[guests::identity()]), stage]).await;
    assert_eq!((applied.unchanged, applied.restarted), (vec!["stage".to_owned()], vec!["other".to_owned()]));
    let removed = fixture.runtime.remove("test").await;
    assert_eq!(removed.removed, ["other", "stage"]);
    assert!(fixture.runtime.status().is_empty());
    assert!(fixture.cluster.opened() <= opened + 2);
}

/// Symptom: a stage stayed stopped for good, and applying its pipeline again called it unchanged. Cause: whoever applied it
/// was dropped after it had told the stage to stop, and only a failed stage was started anew. Fix: so is a stopped one.
#[tokio::test]
async fn a_stage_that_was_left_stopped_is_restarted() {
    let fixture = Fixture::new();
    let stage = || fixture.stage(&[guests::identity()]);
    fixture.apply(vec![stage()]).await;
    let changed = StageSpec { on_error: OnError::Skip, ..stage() };
    tokio::select! {
        biased;
        _ = fixture.apply(vec![changed]) => panic!("stopping takes longer"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(fixture.apply(vec![stage()]).await.restarted, ["stage"]);
    fixture.append(0, &["a"]);
    fixture.until_committed(0, 1).await;
}

#[tokio::test]
async fn garbage_in_a_topic_stops_the_stage_and_not_the_process() {
    let fixture = Fixture::new();
    let mut bytes = batch(&["a"], Compression::None).to_vec();
    *bytes.last_mut().unwrap() ^= 0xff;
    fixture.cluster.append("in", 0, &bytes.into());
    fixture.apply(vec![fixture.stage(&[])]).await;
    assert_eq!(fixture.until_failed().await.kind, "input");
}

/// Large records leave in batches of their own, many small ones in few.
#[tokio::test]
async fn outputs_are_cut_into_batches() {
    let fixture = Fixture::new();
    let large = "x".repeat(300 * 1024);
    for _ in 0..3 {
        fixture.append(0, &[&large]);
    }
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    fixture.until_committed(0, 3).await;
    assert_eq!(fixture.cluster.read("out", 0).len(), 3);
    fixture.runtime.shutdown().await;
}

/// Symptom: a plugin within all its limits took the broker's whole memory. Cause: a unit was closed between two
/// fetches only, and by its input: a fetch is tens of thousands of small batches, and a call returns megabytes.
/// Fix: a unit is closed between two batches, by whichever is larger of what was read and written.
#[tokio::test]
async fn a_plugin_that_makes_much_of_little_is_committed_in_pieces() {
    const MIB: usize = 1024 * 1024;
    let fixture = Fixture::new();
    for _ in 0..60 {
        fixture.append(0, &["x"]);
    }
    let mut stage = fixture.stage(&[guests::inflating(500_000)]);
    stage.plugins[0].limits =
        PluginLimits { call_timeout_ms: 10_000, output_bytes_max: MIB as u32, ..PluginLimits::default() };
    fixture.apply(vec![stage]).await;
    fixture.until_committed(0, 60).await;
    fixture.runtime.shutdown().await;
    let outputs = fixture.cluster.read("out", 0);
    let records: i32 = outputs.iter().map(|batch| RecordBatch::new(batch).unwrap().records_count()).sum();
    assert_eq!(records, 60);
    let largest = fixture.cluster.commit_bytes_max();
    assert!(largest <= 9 * MIB, "{largest} bytes in one commit");
}

/// Symptom: a node that was told to stop went on for as long as its plugins had work, and nothing of that was
/// committed before its end. Cause: the worker never yielded within a fetch, and handed over only behind it.
/// Fix: it yields between two batches, hands over what is older than a second, and ends behind the batch that it is
/// at.
#[tokio::test]
async fn a_busy_stage_commits_as_it_goes_and_stops_behind_its_batch() {
    const BATCHES: i64 = 2_000;
    let fixture = Fixture::new();
    for _ in 0..BATCHES {
        fixture.append(0, &["x"]);
    }
    let mut stage = fixture.stage(&[guests::busy(40_000_000)]);
    stage.plugins[0].limits = PluginLimits { call_timeout_ms: 10_000, ..PluginLimits::default() };
    fixture.apply(vec![stage]).await;
    fixture.until_committed(0, 1).await;
    // Less than it takes for a stage to be stopped the hard way, and then to lose what is not committed.
    let short = std::time::Duration::from_secs(4);
    tokio::time::timeout(short, fixture.runtime.shutdown()).await.expect("the stage stops soon");
    let committed = fixture.cluster.committed("test.stage", "in", 0).unwrap().next_offset;
    assert!(committed < BATCHES / 2, "{committed} batches were mapped before the stage stopped");
}

/// Symptom: the demo ended before its last results were there. Cause: what was read was counted before the commit,
/// what was written behind it, so that all seemed to be read and nothing to come of it. Fix: both are counted with
/// the commit, at once. A batch that is mapped again, since its commit failed, shows the same.
#[tokio::test]
async fn what_is_counted_is_committed() {
    let fixture = Fixture::new();
    fixture.append(0, &["a", "b"]);
    fixture.cluster.fail_commits([PortError::Unavailable("the broker restarts".to_owned())]);
    fixture.apply(vec![fixture.stage(&[guests::identity()])]).await;
    fixture.until_committed(0, 2).await;
    fixture.runtime.shutdown().await;
    let status = &fixture.runtime.status()[0];
    assert_eq!((status.records_in, status.records_out, status.batches_in, status.commits), (2, 2, 1, 1));
}

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

/// Symptom: a stage whose input topic was deleted went on as `running`. Cause: its topics were looked at again only
/// when records came. Fix: also when none come.
#[tokio::test]
async fn a_stage_whose_topic_is_gone_waits_for_it() {
    let clock = Arc::new(ManualClock::default());
    let fixture = Fixture::with_clock(Arc::clone(&clock) as SharedClock);
    fixture.append(0, &["a"]);
    fixture.apply(vec![fixture.stage(&[])]).await;
    fixture.until_committed(0, 1).await;
    assert_eq!(fixture.runtime.status()[0].state, StageState::Running);
    fixture.cluster.delete_topic("in");
    clock.advance(std::time::Duration::from_secs(11));
    let gone = StageState::Waiting { reason: "unavailable: topic \"in\" does not exist".to_owned() };
    fixture.until(|| fixture.runtime.status()[0].state == gone).await;
    fixture.cluster.create_topic("in", 2);
    fixture.append(0, &["a", "b"]);
    fixture.until_committed(0, 2).await;
    assert_eq!(fixture.runtime.status()[0].state, StageState::Running);
    assert_eq!(values(&fixture.cluster, "out", 0), ["a", "b"]);
    fixture.runtime.shutdown().await;
}

/// A stage that finds no room for its instances waits for others to leave it some.
#[tokio::test]
async fn a_stage_without_room_for_its_instance_waits() {
    let mut fixture = Fixture::new();
    fixture.engine = PluginEngine::new(EngineConfig { instances_max: 1, ..EngineConfig::default() });
    fixture.append(0, &["a"]);
    let named = |name: &str| {
        let stage = fixture.stage(&[guests::identity()]);
        StageSpec { name: name.to_owned(), group: name.to_owned(), ..stage }
    };
    let state = |name: &str| {
        let status = fixture.runtime.status().into_iter().find(|status| status.stage == name);
        status.unwrap().state
    };
    fixture.apply(vec![named("first")]).await;
    fixture.until(|| state("first") == StageState::Running).await;
    let first = |cluster: &MemoryCluster| cluster.committed("first", "in", 0).is_some();
    tokio::time::timeout(DEADLINE, fixture.cluster.until(first)).await.unwrap();
    fixture.apply(vec![named("first"), named("second")]).await;
    fixture
        .until(|| matches!(state("second"), StageState::Waiting { reason } if reason.contains("no room for another instance")))
        .await;
    fixture.apply(vec![named("second")]).await;
    let second = |cluster: &MemoryCluster| cluster.committed("second", "in", 0).is_some();
    tokio::time::timeout(DEADLINE, fixture.cluster.until(second)).await.unwrap();
    fixture.runtime.shutdown().await;
}
