//! Records with very many headers can't make the node take many times their size for plugins that get typed records.
//!
//! One test in a binary of its own: the counter sees the whole process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression, Header};
use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::environment::Environment;
use millstream_runtime::grants::Grants;
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::pipeline::Pipeline;
use millstream_runtime::runner::{RunnerKind, RunnerSpec};
use millstream_runtime::runtime::Runtime;
use millstream_runtime::stage::memory::MemoryCluster;
use millstream_runtime::stage::{OnError, RetryPolicy, RuntimeMetrics, StagePlugin, StageSpec};
use peak_alloc::PeakAlloc;
use prometheus_client::registry::Registry;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const DEADLINE: Duration = Duration::from_secs(120);
/// Two bytes each: typed, each would take the host 56.
const HEADERS: usize = 2 * 1024 * 1024;
const RECORD_BYTES: usize = HEADERS * 2;

/// One such record between two others.
fn batch() -> Bytes {
    let mut batch = BatchBuilder::new(usize::MAX).compression(Compression::Zstd);
    for (value, headers) in [("first", 0), ("large", HEADERS), ("last", 0)] {
        let headers = std::iter::repeat_n(Header { key: b"", value: None }, headers);
        batch.append(1000, None, Some(value.as_bytes()), headers).expect("a batch has room");
    }
    batch.finish().expect("it has records").into()
}

#[tokio::test]
async fn typed_records_take_no_more_than_their_plugin_may() {
    let engine = PluginEngine::new(EngineConfig { instances_max: 8, ..EngineConfig::default() });
    let identity = (env!("GUEST_IDENTITY_TYPED"), "null", None);
    let spec = RunnerSpec { kind: RunnerKind::Sink };
    let copy = (env!("GUEST_RUNNER"), "{\"mode\": \"copy\"}", Some(spec));
    for (guest, config, runner) in [identity, copy] {
        let cluster = MemoryCluster::default();
        ["in", "out", "dead"].iter().for_each(|topic| cluster.create_topic(topic, 1));
        let metrics = RuntimeMetrics::register(&mut Registry::default());
        let handle = tokio::runtime::Handle::current();
        let clock = SystemClock::shared();
        let runtime = Runtime::new(cluster.clone(), metrics, clock, Environment::default(), handle);
        let wasm = std::fs::read(guest).expect("the guest is there");
        let plugin = StagePlugin {
            name: "plugin".to_owned(),
            plugin: Arc::new(engine.load(&wasm).expect("it is a plugin")),
            version: 0,
            grants: Grants::default(),
            previous: None,
            config: config.to_owned(),
            limits: PluginLimits {
                call_timeout_ms: 60_000,
                memory_bytes_max: 16 * 1024 * 1024,
                ..PluginLimits::default()
            },
        };
        let stage = StageSpec {
            pipeline: "test".to_owned(),
            name: "stage".to_owned(),
            position: Position::Stream,
            runner,
            from: vec!["in".into()],
            plugins: vec![plugin],
            canary: None,
            to: vec!["out".into()],
            group: "g".to_owned(),
            parallelism: 1,
            on_error: OnError::DeadLetter("dead".into()),
            retry: RetryPolicy::default(),
            compression: Compression::None,
        };
        cluster.append("in", 0, &batch());
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        let pipeline = Pipeline {
            name: "test".to_owned(),
            topics: Vec::new(),
            inlines: Vec::new(),
            stages: vec![stage],
        };
        runtime.apply(&pipeline).await;
        let is_done = |cluster: &MemoryCluster| {
            cluster.committed("g", "in", 0).is_some_and(|committed| committed.next_offset == 3)
        };
        tokio::time::timeout(DEADLINE, cluster.until(is_done)).await.expect("nothing stands still");
        let peak = HEAP.peak_usage().saturating_sub(before);
        // The record, its copies on the way to the dead letter topic, and what the tests' cluster has of them.
        assert!(peak < 16 * RECORD_BYTES, "{guest}: {peak} bytes for a record of {RECORD_BYTES}");
        assert_eq!(cluster.read("dead", 0).len(), 1, "{guest}");
        runtime.shutdown().await;
    }
}
