//! What a plugin costs: nanoseconds a record of a whole stage (open, transform, assemble, commit, over a cluster in
//! memory), without a plugin and with identity in both forms, written in Rust with the SDK, and with Redpanda's SDK.
//!
//! `cargo bench -p millstream-runtime` builds the guests first. Each row is the best of some alternating rounds,
//! since whatever disturbs a round only makes it slower.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use millstream_record::{BatchBuilder, Compression};
use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::environment::Environment;
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::pipeline::Pipeline;
use millstream_runtime::plugin::Plugin;
use millstream_runtime::runtime::Runtime;
use millstream_runtime::stage::memory::MemoryCluster;
use millstream_runtime::stage::{OnError, RuntimeMetrics, StagePlugin, StageSpec};
use prometheus_client::registry::Registry;

const ROUNDS: usize = 5;
const BATCH_BYTES: usize = 128 * 1024;
const ROUND_BYTES: usize = 64 * 1024 * 1024;

fn main() {
    let engine = PluginEngine::new(EngineConfig::default());
    let plugin = |target: &str, crate_name: &str, file: &str| {
        Arc::new(engine.load(&guest(target, crate_name, file)).expect("the guest is a plugin"))
    };
    let component = |crate_name: &str| {
        let file = format!("{}.wasm", crate_name.replace('-', "_"));
        vec![plugin("wasm32-wasip2", crate_name, &file)]
    };
    let redpanda = plugin("wasm32-wasip1", "redpanda-identity", "redpanda-identity.wasm");
    let stages = [
        ("no plugin", Vec::new()),
        ("identity, transform-batch", component("identity")),
        ("identity, transform (typed)", component("identity-typed")),
        ("identity, Redpanda's SDK", vec![redpanda]),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let runtime = runtime.expect("the runtime starts");
    println!(
        "{:<30} {:>8} {:>12} {:>14} {:>14}",
        "stage", "value B", "ns/record", "records/s", "over none ns"
    );
    for value_bytes in [100, 1024] {
        let mut best = [Duration::MAX; 4];
        let count = ROUND_BYTES / value_bytes;
        for _ in 0..ROUNDS {
            for (best, (_, plugins)) in best.iter_mut().zip(&stages) {
                *best = (*best).min(runtime.block_on(round(value_bytes, count, plugins)));
            }
        }
        let per_record = |time: Duration| time.as_secs_f64() * 1e9 / count as f64;
        for (time, (name, _)) in best.iter().zip(&stages) {
            let ns = per_record(*time);
            let over = ns - per_record(best[0]);
            println!("{name:<30} {value_bytes:>8} {ns:>12.1} {:>14.0} {over:>14.1}", 1e9 / ns);
        }
    }
}

/// Time from the stage's start, with its plugins compiled, until all records are committed.
async fn round(value_bytes: usize, count: usize, plugins: &[Arc<Plugin>]) -> Duration {
    let cluster = MemoryCluster::default();
    cluster.create_topic("in", 1);
    cluster.create_topic("out", 1);
    let per_batch = BATCH_BYTES / value_bytes;
    let value = vec![b'x'; value_bytes];
    let mut batch = BatchBuilder::new(BATCH_BYTES * 2);
    for at in 0..per_batch {
        let key = (at as u64).to_be_bytes();
        batch.append(at as i64, Some(&key), Some(&value), []).expect("the batch has room");
    }
    let batch = batch.finish().expect("the batch has records").into();
    let batches = count.div_ceil(per_batch);
    (0..batches).for_each(|_| cluster.append("in", 0, &batch));

    let clock = SystemClock::shared();
    let metrics = RuntimeMetrics::register(&mut Registry::default());
    let handle = tokio::runtime::Handle::current();
    let stages = Runtime::new(cluster.clone(), metrics, Arc::clone(&clock), Environment::default(), handle);
    let pipeline = Pipeline {
        name: "bench".to_owned(),
        topics: Vec::new(),
        inlines: Vec::new(),
        stages: vec![stage(plugins)],
    };
    let end = (batches * per_batch) as i64;
    let before = clock.monotonic();
    stages.apply(&pipeline).await;
    let done = |cluster: &MemoryCluster| {
        cluster.committed("bench.copy", "in", 0).is_some_and(|offset| offset.next_offset == end)
    };
    cluster.until(done).await;
    let time = clock.monotonic() - before;
    stages.shutdown().await;
    time
}

fn stage(plugins: &[Arc<Plugin>]) -> StageSpec {
    let plugin = |plugin: &Arc<Plugin>| StagePlugin {
        name: "identity".to_owned(),
        plugin: Arc::clone(plugin),
        version: 0,
        previous: None,
        config: "null".to_owned(),
        limits: PluginLimits::default(),
    };
    StageSpec {
        pipeline: "bench".to_owned(),
        name: "copy".to_owned(),
        position: Position::Stream,
        runner: None,
        from: vec!["in".into()],
        plugins: plugins.iter().map(plugin).collect(),
        canary: None,
        to: vec!["out".into()],
        group: "bench.copy".to_owned(),
        parallelism: 1,
        on_error: OnError::Stop,
        compression: Compression::None,
    }
}

/// Builds one of the test guests.
fn guest(target: &str, name: &str, file: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "guest", "--target", target, "--manifest-path"])
        .arg(root.join("tests/guests").join(name).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&directory)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the guest builds");
    std::fs::read(directory.join(target).join("guest").join(file)).expect("the guest is where cargo puts it")
}
