//! Modules that were built with Redpanda's SDK for data transforms, as stages over a cluster in memory: what their users
//! write runs unchanged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, Header, RecordBatch, RecordIter, decompress};
use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::environment::Environment;
use millstream_runtime::grants::Grants;
use millstream_runtime::inline::{InlineAnswer, InlineBatch};
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::pipeline::{
    DirPlugins, Pipeline, TopicCatalogue, TopicSpec, Validated, World, parse, validate,
};
use millstream_runtime::runtime::Runtime;
use millstream_runtime::stage::memory::MemoryCluster;
use millstream_runtime::stage::{
    OnError, RetryPolicy, RuntimeMetrics, StageFailure, StagePlugin, StageSpec, StageState,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

const IDENTITY: &str = env!("GUEST_REDPANDA_IDENTITY");
const MAPPER: &str = env!("GUEST_REDPANDA_MAPPER");
const HOSTILE: &str = env!("GUEST_REDPANDA_HOSTILE");
/// A component of our own SDK that does the same.
const OUR_IDENTITY: &str = env!("GUEST_IDENTITY");

const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster with the topics `in`, `out`, `other` and `dead` of one partition, and the runtime on it.
struct Fixture {
    cluster: MemoryCluster,
    runtime: Runtime<MemoryCluster>,
    engine: PluginEngine,
}

/// A record as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

impl Fixture {
    fn new() -> Self {
        let cluster = MemoryCluster::default();
        ["in", "out", "other", "dead"].iter().for_each(|topic| cluster.create_topic(topic, 1));
        let metrics = RuntimeMetrics::register(&mut Registry::default());
        let handle = tokio::runtime::Handle::current();
        let runtime =
            Runtime::new(cluster.clone(), metrics, SystemClock::shared(), Environment::default(), handle);
        let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
        Self { cluster, runtime, engine }
    }

    fn stage(&self, plugins: &[&str], config: &str) -> StageSpec {
        let plugin = |path: &&str| StagePlugin {
            name: "module".to_owned(),
            plugin: Arc::new(
                self.engine.load(&std::fs::read(path).expect("the guest is there")).expect("it is a plugin"),
            ),
            version: 0,
            grants: Grants::default(),
            previous: None,
            config: config.to_owned(),
            limits: PluginLimits { call_timeout_ms: 500, ..PluginLimits::default() },
        };
        StageSpec {
            pipeline: "test".to_owned(),
            name: "stage".to_owned(),
            position: Position::Stream,
            runner: None,
            from: vec!["in".into()],
            plugins: plugins.iter().map(plugin).collect(),
            canary: None,
            to: vec!["out".into(), "other".into()],
            group: "test.stage".to_owned(),
            parallelism: 1,
            on_error: OnError::Stop,
            retry: RetryPolicy::default(),
            compression: Compression::None,
        }
    }

    async fn apply(&self, stage: StageSpec) {
        let pipeline = Pipeline {
            name: "test".to_owned(),
            topics: Vec::new(),
            inlines: Vec::new(),
            stages: vec![stage],
        };
        self.runtime.apply(&pipeline).await;
    }

    async fn until_committed(&self, next_offset: i64) {
        let reached = |cluster: &MemoryCluster| {
            cluster.committed("test.stage", "in", 0).is_some_and(|offset| offset.next_offset >= next_offset)
        };
        let waited = tokio::time::timeout(DEADLINE, self.cluster.until(reached)).await;
        assert!(waited.is_ok(), "{:?}", self.runtime.status());
    }

    async fn until_failed(&self) -> StageFailure {
        let failed = async {
            loop {
                if let StageState::Failed(failure) = self.runtime.status()[0].state.clone() {
                    return failure;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, failed).await.expect("the stage fails in time")
    }

    fn read(&self, topic: &str) -> Vec<Seen> {
        self.cluster.read(topic, 0).iter().flat_map(seen).collect()
    }

    fn values(&self, topic: &str) -> Vec<String> {
        self.read(topic).into_iter().map(|record| record.value.unwrap_or_default()).collect()
    }
}

/// The topic `in`, and no other.
struct OneTopic;

impl TopicCatalogue for OneTopic {
    fn partitions_of(&self, topic: &str) -> Option<i32> {
        (topic == "in").then_some(1)
    }

    fn names(&self) -> Vec<String> {
        vec!["in".to_owned()]
    }

    fn is_internal(&self, _topic: &str) -> bool {
        false
    }

    fn is_view(&self, _topic: &str) -> bool {
        false
    }

    fn config_of(&self, _topic: &str, _key: &str) -> Option<String> {
        None
    }

    fn check_new(&self, _topic: &TopicSpec) -> Result<(), String> {
        Ok(())
    }
}

/// What a check of this pipeline finds, whose plugins' files have absolute paths.
async fn validated(pipeline: String) -> Validated {
    let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
    let check = move || {
        let spec = parse("p.yaml", &pipeline).expect("it is well-formed");
        let (plugins, clock) = (DirPlugins { dir: PathBuf::new() }, SystemClock::shared());
        let environment = Environment::default();
        let world = World { topics: &OneTopic, others: &[], environment: &environment };
        validate(&spec, &engine, &plugins, &world, &clock, &CancellationToken::new())
    };
    tokio::task::spawn_blocking(check).await.expect("it does not panic")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn seen(batch: &Bytes) -> Vec<Seen> {
    let batch = RecordBatch::new(batch).expect("a whole batch");
    batch.verify_crc().expect("its own checksum");
    let mut section = Vec::new();
    match batch.compression().expect("a known codec") {
        Compression::None => section.extend_from_slice(batch.records_section()),
        compression => {
            decompress(compression, batch.records_section(), 1 << 20, &mut section).expect("it is that codec")
        }
    }
    let record = |record: millstream_record::Record<'_>| Seen {
        timestamp: batch.timestamp_of(&record),
        key: record.key.map(text),
        value: record.value.map(text),
        headers: record.headers.map(|header| (text(header.key), header.value.map(text))).collect(),
    };
    RecordIter::new(&section).map(|found| record(found.expect("a record"))).collect()
}

/// Records without a key, with timestamps from 1000 on.
fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for (timestamp, value) in (1000..).zip(values) {
        builder.append(timestamp, None, Some(value.as_bytes()), []).expect("there is room");
    }
    builder.finish().expect("it has records").into()
}

/// With and without keys, values, headers, and their values; compressed.
fn mixed() -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20).compression(Compression::Zstd);
    let headers = [Header { key: b"h", value: Some(b"x") }, Header { key: b"none", value: None }];
    let mut append = |timestamp, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]| {
        builder.append(timestamp, key, value, headers.iter().copied()).expect("there is room");
    };
    append(1000, Some(b"k"), Some(b"a,,>b"), &headers);
    append(1001, None, Some(b"c"), &[]);
    append(1002, Some(b"gone"), None, &headers);
    append(1003, Some(b""), Some(b""), &[]);
    builder.finish().expect("it has records").into()
}

#[tokio::test]
async fn identity_keeps_all_of_a_record() {
    for plugins in [&[IDENTITY][..], &[IDENTITY, OUR_IDENTITY, IDENTITY]] {
        let fixture = Fixture::new();
        fixture.cluster.append("in", 0, &mixed());
        fixture.cluster.append("in", 0, &batch(&["later"]));
        fixture.apply(fixture.stage(plugins, "null")).await;
        fixture.until_committed(5).await;
        let mut expected = fixture.read("in");
        assert_eq!(fixture.read("out"), expected);
        // The instance waits meanwhile, and goes on.
        tokio::time::sleep(Duration::from_millis(600)).await;
        fixture.cluster.append("in", 0, &batch(&["much later"]));
        fixture.until_committed(6).await;
        expected.extend(seen(&batch(&["much later"])));
        assert_eq!(fixture.read("out"), expected);
        fixture.runtime.shutdown().await;
        assert_eq!(fixture.runtime.status()[0].state, StageState::Stopped);
    }
}

#[tokio::test]
async fn records_are_split_dropped_changed_and_routed() {
    let fixture = Fixture::new();
    fixture.cluster.append("in", 0, &mixed());
    fixture.apply(fixture.stage(&[MAPPER], r#"{"SEPARATOR": ","}"#)).await;
    fixture.until_committed(4).await;
    let own = [("h", Some("x")), ("none", None)];
    let added = [("source", Some("in")), ("nothing", None)];
    let record = |timestamp, key: Option<&str>, value: Option<&str>, headers: &[(&str, Option<&str>)]| Seen {
        timestamp,
        key: key.map(str::to_owned),
        value: value.map(str::to_owned),
        headers: headers.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect(),
    };
    let expected = [
        record(1000, Some("k"), Some("A"), &[own, added].concat()),
        record(1001, None, Some("C"), &added),
        record(1002, Some("gone"), None, &own),
    ];
    assert_eq!(fixture.read("out"), expected);
    let routed = record(1000, Some("k"), Some(">B"), &[own, added].concat());
    assert_eq!(fixture.read("other"), [routed]);
    fixture.runtime.shutdown().await;
}

/// Its SDK makes a panic of an error that a user's function returns.
#[tokio::test]
async fn what_the_users_function_says_is_why_the_stage_stops() {
    let crashes = [
        ("fail", "trap", "transforming record failed: Told(\"told to fail\")"),
        ("panic", "trap", "told to panic"),
        ("exit", "trap", "it exited with status 3"),
        ("unknown topic", "trap", "transforming record failed: Write(Unknown(-3))"),
        ("loop", "timeout", "did not answer within 500 ms"),
        ("eat memory", "memory_limit", "more than its 67108864 bytes"),
        ("flood outputs", "invalid_output", "more than 1152 outputs for one batch"),
    ];
    for (value, kind, reason) in crashes {
        let fixture = Fixture::new();
        fixture.cluster.append("in", 0, &batch(&["a"]));
        fixture.cluster.append("in", 0, &batch(&["b", value]));
        fixture.apply(fixture.stage(&[HOSTILE], "null")).await;
        let failure = fixture.until_failed().await;
        assert_eq!((failure.kind, failure.offset), (kind, Some(1)), "{}", failure.reason);
        assert!(failure.reason.contains(reason), "{}", failure.reason);
        assert_eq!(fixture.values("out"), ["a"], "nothing of the batch is written");
        // With another plugin it goes on where it was.
        fixture.apply(fixture.stage(&[IDENTITY], "null")).await;
        fixture.until_committed(3).await;
        assert_eq!(fixture.values("out"), ["a", "b", value]);
        fixture.runtime.shutdown().await;
    }
}

/// Of what a module prints in one go, the host takes a part, and its standard library comes back with the rest.
#[tokio::test]
async fn a_module_may_print_much() {
    let fixture = Fixture::new();
    fixture.cluster.append("in", 0, &batch(&["print much"]));
    fixture.apply(fixture.stage(&[HOSTILE], "null")).await;
    fixture.until_committed(1).await;
    assert_eq!(fixture.values("out"), ["print much"]);
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn records_that_crash_a_module_are_found_and_put_aside() {
    let fixture = Fixture::new();
    fixture.cluster.append("in", 0, &batch(&["a", "fail", "b", "c", "panic", "d"]));
    let stage = fixture.stage(&[HOSTILE], "null");
    fixture.apply(StageSpec { on_error: OnError::DeadLetter("dead".into()), ..stage }).await;
    fixture.until_committed(6).await;
    assert_eq!(fixture.values("out"), ["a", "b", "c", "d"]);
    let letters = fixture.read("dead");
    let reason = |letter: &Seen| {
        let reason = letter.headers.iter().find(|(name, _)| name == "millstream.error.reason");
        reason.and_then(|(_, reason)| reason.clone()).unwrap_or_default()
    };
    assert_eq!(letters.len(), 2);
    assert!(reason(&letters[0]).contains("told to fail"), "{letters:?}");
    assert!(reason(&letters[1]).contains("told to panic"), "{letters:?}");
    fixture.runtime.shutdown().await;
}

/// On the way in and on the way out, it maps a batch as in a stage.
#[tokio::test]
async fn modules_stand_in_the_way_of_records() {
    let fixture = Fixture::new();
    let pipeline = format!(
        "pipeline: test\nplugins: {{module: {HOSTILE}}}\n\
         ingests: {{check: {{topic: in, plugin: module}}}}\nviews: {{in.seen: {{from: in, plugin: module}}}}\n"
    );
    let found = validated(pipeline).await;
    let pipeline = found.pipeline.unwrap_or_else(|| panic!("{:?}", found.problems));
    let applied = fixture.runtime.apply(&pipeline).await;
    assert_eq!(applied.started.len(), 2, "{applied:?}");
    let inlines = fixture.runtime.inlines("test");
    let positions: Vec<_> = inlines.iter().map(|inline| inline.spec().stage.position).collect();
    assert_eq!(positions, [Position::Ingest, Position::View]);
    for inline in inlines {
        let map = |values: &[&str]| {
            inline.map(InlineBatch { topic: "in".into(), partition: 0, batch: batch(values) })
        };
        let InlineAnswer::Records(kept) = map(&["a", "b"]).await.expect("it maps") else {
            panic!("a module hands over every record")
        };
        // Each without a key and headers.
        let bodies: Vec<_> = kept.records.iter().map(|record| kept.body(record)).collect();
        assert_eq!(bodies, [b"\x01\x02a\x00", b"\x01\x02b\x00"]);
        match (inline.spec().stage.position, map(&["c", "panic"]).await) {
            (Position::Ingest, Err(error)) => {
                assert_eq!(error.kind(), "trap");
                assert!(error.to_string().contains("told to panic"), "{error}");
            }
            // Its readers go on without the record.
            (Position::View, Ok(InlineAnswer::Records(kept))) => {
                assert_eq!((kept.records.len(), kept.rejected), (1, 1));
            }
            (position, answer) => panic!("{position:?}: {answer:?}"),
        }
        // The next instance.
        assert!(map(&["d"]).await.is_ok());
    }
    fixture.runtime.shutdown().await;
}

#[tokio::test]
async fn a_module_that_never_starts_is_found_by_a_check() {
    let pipeline = format!(
        "pipeline: test\n\
         plugins: {{module: {{file: {HOSTILE}, config: {{NEVER_START: 1}}, limits: {{init_timeout_ms: 200}}}}}}\n\
         ingests: {{check: {{topic: in, plugin: module}}}}\n"
    );
    let found = validated(pipeline).await;
    assert!(found.pipeline.is_none());
    let problems: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("did not answer within 200 ms"), "{problems:?}");
}
