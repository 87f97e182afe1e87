//! Sources and sinks over a cluster in memory: what a consumer plugin asks for, and what becomes of records that it can't
//! live with.

#[path = "runners/crashes.rs"]
mod crashes;
#[path = "runners/shares.rs"]
mod shares;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, RecordBatch, RecordIter};
use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::environment::Environment;
use millstream_runtime::grants::Grants;
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::pipeline::Pipeline;
use millstream_runtime::plugin::Plugin;
use millstream_runtime::runner::{RunnerKind, RunnerSpec};
use millstream_runtime::runtime::{Applied, Runtime};
use millstream_runtime::stage::letter_headers::{OFFSET, PLUGIN, REASON};
use millstream_runtime::stage::memory::MemoryCluster;
use millstream_runtime::stage::{
    OnError, PortError, RetryPolicy, RuntimeMetrics, StageFailure, StagePlugin, StageSpec, StageState,
    StageStatus, TapFate, TapFilter, TapSide, TopicPartition,
};
use prometheus_client::registry::Registry;

const RUNNER: &str = env!("GUEST_RUNNER");
const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster with the topics `in` of two partitions, and `other`, `out` and `dead` of one; the runtime on it.
struct Fixture {
    cluster: MemoryCluster,
    runtime: Runtime<MemoryCluster>,
    runner: Arc<Plugin>,
}

impl Fixture {
    fn new() -> Self {
        let cluster = MemoryCluster::default();
        for (topic, partitions) in [("in", 2), ("other", 1), ("out", 1), ("dead", 1)] {
            cluster.create_topic(topic, partitions);
        }
        let metrics = RuntimeMetrics::register(&mut Registry::default());
        let handle = tokio::runtime::Handle::current();
        let clock = SystemClock::shared();
        let runtime = Runtime::new(cluster.clone(), metrics, clock, Environment::default(), handle);
        let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
        let wasm = std::fs::read(RUNNER).expect("the guest is there");
        Self { cluster, runtime, runner: Arc::new(engine.load(&wasm).expect("it is a plugin")) }
    }

    /// A sink whose plugin does that.
    fn sink(&self, mode: &str, on_error: OnError) -> StageSpec {
        let plugin = StagePlugin {
            name: "runner".to_owned(),
            plugin: Arc::clone(&self.runner),
            version: 0,
            grants: Grants::default(),
            previous: None,
            config: format!("{{\"mode\": \"{mode}\"}}"),
            limits: PluginLimits::default(),
        };
        StageSpec {
            pipeline: "test".to_owned(),
            name: "sink".to_owned(),
            position: Position::Stream,
            runner: Some(RunnerSpec { kind: RunnerKind::Sink }),
            from: vec!["in".into(), "other".into()],
            plugins: vec![plugin],
            canary: None,
            to: vec!["out".into()],
            group: "g".to_owned(),
            parallelism: 1,
            on_error,
            retry: RetryPolicy::default(),
            compression: Compression::None,
        }
    }

    /// It may take a hundredth of a core.
    fn slow_sink(&self, mode: &str) -> StageSpec {
        let mut sink = self.sink(mode, OnError::Stop);
        sink.plugins[0].limits =
            PluginLimits { call_timeout_ms: 60_000, cpu_percent_max: 1, ..PluginLimits::default() };
        sink
    }

    async fn until_throttled(&self) {
        self.until("it is throttled", |fixture| fixture.status().plugins[0].usage.throttled_us > 0).await;
    }

    async fn apply(&self, sink: StageSpec) -> Applied {
        let (name, inlines) = ("test".to_owned(), Vec::new());
        self.runtime.apply(&Pipeline { name, topics: Vec::new(), inlines, stages: vec![sink] }).await
    }

    fn append(&self, topic: &str, partition: i32, values: &[&str]) {
        self.cluster.append(topic, partition, &batch(values));
    }

    fn status(&self) -> StageStatus {
        self.runtime.status().remove(0)
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let held = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(DEADLINE, held).await;
        assert!(waited.is_ok(), "{what}: {:?}, out {:?}", self.status(), self.values("out"));
    }

    async fn until_out(&self, expected: &[&str]) {
        self.until("the outputs are there", |fixture| {
            let out = fixture.values("out");
            expected.iter().all(|value| out.iter().any(|found| found == value))
        })
        .await;
    }

    async fn until_committed(&self, partition: i32, next_offset: i64) {
        self.until("it is committed", |fixture| fixture.committed(partition) == Some(next_offset)).await;
    }

    fn committed(&self, partition: i32) -> Option<i64> {
        self.cluster.committed("g", "in", partition).map(|offset| offset.next_offset)
    }

    /// What is committed is counted a moment later.
    async fn until_counted(&self, records_in: u64, records_rejected: u64) -> StageStatus {
        self.until("it is counted", |fixture| {
            let status = fixture.status();
            (status.records_in, status.records_rejected) == (records_in, records_rejected)
        })
        .await;
        self.status()
    }

    async fn until_failed(&self) -> StageFailure {
        self.until("it fails", |fixture| matches!(fixture.status().state, StageState::Failed(_))).await;
        match self.status().state {
            StageState::Failed(failure) => failure,
            state => panic!("{state:?}"),
        }
    }

    fn values(&self, topic: &str) -> Vec<String> {
        self.records(topic).into_iter().map(|(value, _)| value).collect()
    }

    /// Values and headers.
    fn records(&self, topic: &str) -> Vec<(String, Vec<(String, String)>)> {
        self.cluster.read(topic, 0).iter().flat_map(records).collect()
    }
}

fn batch(values: &[&str]) -> Bytes {
    let mut batch = BatchBuilder::new(usize::MAX);
    values
        .iter()
        .for_each(|value| batch.append(1000, None, Some(value.as_bytes()), []).expect("a batch has room"));
    batch.finish().expect("it has records").into()
}

/// Its checksum is wrong.
fn damaged(values: &[&str]) -> Bytes {
    let mut damaged = batch(values).to_vec();
    let last = damaged.len() - 2;
    damaged[last] ^= 1;
    damaged.into()
}

fn records(batch: &Bytes) -> Vec<(String, Vec<(String, String)>)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let batch = RecordBatch::new(batch).expect("it is a batch");
    let section = batch.uncompressed_records(usize::MAX).expect("it can be read");
    let each = RecordIter::new(&section).map(|record| {
        let (_, value, headers) = record.expect("it can be read").body.fields();
        (text(value), headers.map(|header| (text(Some(header.key)), text(header.value))).collect())
    });
    each.collect()
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

#[tokio::test]
async fn a_record_that_the_plugin_rejects_follows_the_policy() {
    for on_error in [OnError::Skip, OnError::DeadLetter("dead".into()), OnError::Stop] {
        let fixture = Fixture::new();
        // The letter is written again where the commit fails in which it was.
        fixture.cluster.fail_commits([PortError::Unavailable("not now".to_owned())]);
        fixture.append("in", 0, &["a", "bad", "b"]);
        fixture.apply(fixture.sink("reject", on_error.clone())).await;
        if on_error == OnError::Stop {
            let failure = fixture.until_failed().await;
            assert_eq!((failure.kind, failure.offset), ("rejected", Some(1)), "{failure:?}");
            assert!(failure.reason.contains("it says so"), "{failure:?}");
            assert!(fixture.committed(0).is_none_or(|next| next <= 1));
            continue;
        }
        fixture.until_committed(0, 3).await;
        fixture.until_out(&["a", "b"]).await;
        assert!(!fixture.values("out").contains(&"bad".to_owned()));
        let status = fixture.until_counted(3, 1).await;
        assert_eq!(status.last_rejection.as_deref(), Some("it says so"));
        let letters = fixture.records("dead");
        assert_eq!(letters.len(), usize::from(on_error != OnError::Skip), "{letters:?}");
        for (value, headers) in letters {
            assert_eq!((value.as_str(), header(&headers, REASON)), ("bad", "it says so"));
            assert_eq!(header(&headers, OFFSET), "1");
        }
        fixture.runtime.shutdown().await;
    }
}

/// Nothing from the first one on is committed, although the plugin goes on.
#[tokio::test]
async fn a_second_rejection_does_not_move_the_place_where_the_sink_stops() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a", "bad", "b", "bad", "c"]);
    fixture.append("in", 1, &["bad", "d"]);
    fixture.apply(fixture.sink("reject-all", OnError::Stop)).await;
    let failure = fixture.until_failed().await;
    assert_eq!((failure.kind, failure.partition, failure.offset), ("rejected", Some(0), Some(1)));
    assert!(fixture.committed(0).is_none_or(|next| next <= 1), "{:?}", fixture.committed(0));
    assert!(fixture.committed(1).is_none_or(|next| next == 0), "{:?}", fixture.committed(1));
    fixture.runtime.shutdown().await;
}

/// Nobody can read it, so it is no reason to stand still where records may be put aside.
#[tokio::test]
async fn a_batch_that_can_not_be_opened_follows_the_policy() {
    for on_error in [OnError::Skip, OnError::DeadLetter("dead".into()), OnError::Stop] {
        let fixture = Fixture::new();
        fixture.append("in", 0, &["a"]);
        fixture.cluster.append("in", 0, &damaged(&["b", "c"]));
        fixture.append("in", 0, &["d"]);
        fixture.apply(fixture.sink("copy", on_error.clone())).await;
        if on_error == OnError::Stop {
            let failure = fixture.until_failed().await;
            assert_eq!((failure.kind, failure.partition, failure.offset), ("input", Some(0), Some(1)));
            assert_eq!(fixture.values("out"), ["a"]);
            continue;
        }
        fixture.until_committed(0, 4).await;
        assert_eq!(fixture.values("out"), ["a", "d"]);
        fixture.until_counted(4, 2).await;
        let letters = fixture.records("dead");
        assert_eq!(letters.len(), usize::from(on_error != OnError::Skip));
        for (_, headers) in letters {
            assert_eq!(header(&headers, OFFSET), "1");
            assert_eq!(header(&headers, "millstream.error.batch.records"), "2");
        }
        fixture.runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_partition_is_paused_and_resumed() {
    let fixture = Fixture::new();
    fixture.apply(fixture.sink("pause", OnError::Stop)).await;
    fixture.append("in", 0, &["pause 1"]);
    fixture.until_out(&["pause 1: true"]).await;
    fixture.append("in", 1, &["x"]);
    // Several polls, none of which brings what lies in the paused partition.
    for value in ["a", "b", "c"] {
        fixture.append("in", 0, &[value]);
        fixture.until_out(&[value]).await;
    }
    assert!(!fixture.values("out").contains(&"x".to_owned()));
    assert_eq!(fixture.committed(1), None);
    // One that is not this member's can't be paused.
    fixture.append("in", 0, &["pause 7", "resume 1"]);
    fixture.until_out(&["pause 7: false", "resume 1: true", "x"]).await;
    fixture.until_committed(1, 1).await;
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn a_plugin_subscribes_to_some_of_its_topics_and_the_next_one_has_them_all() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["not asked for"]);
    fixture.append("other", 0, &["a"]);
    fixture.apply(fixture.sink("subscribe-other", OnError::Stop)).await;
    fixture.until_out(&["a"]).await;
    fixture.append("other", 0, &["b"]);
    fixture.until_out(&["b"]).await;
    assert_eq!((fixture.values("out").len(), fixture.committed(0)), (2, None));
    fixture.apply(fixture.sink("copy", OnError::Stop)).await;
    fixture.until_out(&["not asked for"]).await;
    assert_eq!(fixture.values("out"), ["a", "b", "not asked for"]);
    fixture.apply(fixture.sink("subscribe-foreign", OnError::Stop)).await;
    let failure = fixture.until_failed().await;
    assert!(failure.reason.contains("\"no-such-topic\" is none of the \"from\""), "{failure:?}");
}

#[tokio::test]
async fn what_is_never_committed_is_delivered_again_and_foreign_partitions_are_not_sought() {
    let fixture = Fixture::new();
    fixture.append("in", 0, &["a", "b"]);
    fixture.apply(fixture.sink("never-commit", OnError::Stop)).await;
    fixture.until_out(&["a", "b"]).await;
    assert_eq!(fixture.committed(0), None);
    let swapped = fixture.apply(fixture.sink("copy", OnError::Stop)).await;
    assert_eq!(swapped.swapped, ["sink"]);
    fixture.until_committed(0, 2).await;
    assert_eq!(fixture.values("out"), ["a", "b", "a", "b"]);
    fixture.apply(fixture.sink("seek-foreign", OnError::Stop)).await;
    fixture.until_out(&["owned false"]).await;
    fixture.runtime.shutdown().await;
}

/// It waits for an hour, and ends at once when it is told to.
#[tokio::test]
async fn a_long_poll_ends_when_the_plugin_is_to_stop() {
    let fixture = Fixture::new();
    fixture.apply(fixture.sink("long-poll", OnError::Stop)).await;
    fixture.append("in", 0, &["a"]);
    fixture.until_committed(0, 1).await;
    // It polls again by now, or will do so.
    let swapped = tokio::time::timeout(DEADLINE, fixture.apply(fixture.sink("copy", OnError::Stop))).await;
    assert_eq!(swapped.expect("nobody waits for the poll").swapped, ["sink"]);
    fixture.append("in", 0, &["b"]);
    fixture.until_committed(0, 2).await;
    fixture.apply(fixture.sink("long-poll", OnError::Stop)).await;
    fixture.append("in", 0, &["c"]);
    fixture.until_committed(0, 3).await;
    tokio::time::timeout(DEADLINE, fixture.runtime.shutdown()).await.expect("nobody waits for the poll");
    assert_eq!(fixture.status().state, StageState::Stopped);
}

/// Symptom: a node waited 30 s and longer for a sink or a source whose last commit got no answer. Cause: only the plugin was
/// bounded when it was told to stop, not what was written for it. Fix: both have the same time.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_commit_that_hangs() {
    let fixture = Fixture::new();
    fixture.apply(fixture.sink("copy", OnError::Stop)).await;
    fixture.append("in", 0, &["a"]);
    fixture.until_committed(0, 1).await;
    fixture.cluster.hold_commits();
    fixture.append("in", 0, &["b"]);
    fixture.until("a commit hangs", |fixture| fixture.cluster.held() > 0).await;
    tokio::time::timeout(DEADLINE, fixture.runtime.shutdown()).await.expect("nobody waits for the commit");
    assert_eq!((fixture.committed(0), fixture.values("out")), (Some(1), vec!["a".to_owned()]));
}
