//! Stages over a cluster in memory, with well-behaved and hostile plugins.

mod bad_records;
mod deployments;
mod failures;
mod taps;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, RecordBatch, RecordIter};
use prometheus_client::registry::Registry;

use super::memory::MemoryCluster;
use super::*;
use crate::batch::Position;
use crate::clock::{ManualClock, SharedClock, SystemClock};
use crate::engine::{EngineConfig, PluginEngine};
use crate::environment::Environment;
use crate::grants::Grants;
use crate::guests;
use crate::limits::PluginLimits;
use crate::pipeline::Pipeline;
use crate::runtime::{Applied, Runtime};

/// A cluster with a topic `in` of 2 partitions, `out` of 2, `wide` of 5, `dead` of 1, and the runtime on it.
struct Fixture {
    cluster: MemoryCluster,
    runtime: Runtime<MemoryCluster>,
    engine: PluginEngine,
    registry: Registry,
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
        let mut registry = Registry::default();
        let metrics = RuntimeMetrics::register(&mut registry);
        let handle = tokio::runtime::Handle::current();
        let runtime = Runtime::new(cluster.clone(), metrics, clock, Environment::default(), handle);
        let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
        Self { cluster, runtime, engine, registry }
    }

    /// What Prometheus gets.
    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    fn stage(&self, guests: &[Vec<u8>]) -> StageSpec {
        let plugin = |(at, wasm): (usize, &Vec<u8>)| StagePlugin {
            name: format!("plugin{at}"),
            plugin: Arc::new(self.engine.load(wasm).unwrap()),
            version: 0,
            grants: Grants::default(),
            previous: None,
            config: "null".to_owned(),
            limits: PluginLimits { call_timeout_ms: 100, ..PluginLimits::default() },
        };
        StageSpec {
            pipeline: "test".to_owned(),
            name: "stage".to_owned(),
            position: Position::Stream,
            runner: None,
            from: vec!["in".into()],
            plugins: guests.iter().enumerate().map(plugin).collect(),
            canary: None,
            to: vec!["out".into()],
            group: "test.stage".to_owned(),
            parallelism: 1,
            on_error: OnError::Stop,
            retry: RetryPolicy::default(),
            compression: Compression::None,
        }
    }

    async fn apply(&self, stages: Vec<StageSpec>) -> Applied {
        self.runtime
            .apply(&Pipeline { name: "test".to_owned(), topics: Vec::new(), inlines: Vec::new(), stages })
            .await
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

#[tokio::test]
async fn a_chain_reads_as_its_first_plugin_and_writes_as_its_last() {
    let fixture = Fixture::new();
    let principals = |guests: &[Vec<u8>]| {
        let stage = fixture.stage(guests);
        (stage.reads_as(), stage.writes_as())
    };
    let of = |reads: &str, writes: &str| (reads.to_owned(), writes.to_owned());
    let guest = guests::identity();
    assert_eq!(principals(&[]), of("User:stage/test/stage", "User:stage/test/stage"));
    let both = of("User:plugin/test/plugin0", "User:plugin/test/plugin1");
    assert_eq!(principals(&[guest.clone(), guest]), both);
}
