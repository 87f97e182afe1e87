//! What a plugin costs on a stage: nanoseconds a record of a whole stage (open, transform, assemble, commit, over a cluster
//! in memory), without a plugin, with identity, and with a filter that reads a field of JSON, in both forms of the contract,
//! written in Rust with the SDK, and with Redpanda's SDK.
//!
//! `cargo bench -p millstream-runtime --bench stage` builds the guests first. Each row is the best of some alternating
//! rounds, since whatever disturbs a round only makes it slower.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::environment::Environment;
use millstream_runtime::pipeline::Pipeline;
use millstream_runtime::runtime::Runtime;
use millstream_runtime::stage::RuntimeMetrics;
use millstream_runtime::stage::memory::MemoryCluster;
use prometheus_client::registry::Registry;

use support::{Job, ROUNDS, batch, components, redpanda, stage};

const ROUND_BYTES: usize = 64 * 1024 * 1024;

fn main() {
    let engine = PluginEngine::new(EngineConfig::default());
    let mut jobs = vec![Job::none()];
    jobs.extend(components(&engine));
    jobs.push(redpanda(&engine));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let runtime = runtime.expect("the runtime starts");
    println!(
        "{:<30} {:>8} {:>12} {:>14} {:>14}",
        "stage", "value B", "ns/record", "records/s", "over none ns"
    );
    for value_bytes in [100, 1024] {
        let mut best = vec![Duration::MAX; jobs.len()];
        let count = ROUND_BYTES / value_bytes;
        for _ in 0..ROUNDS {
            for (best, job) in best.iter_mut().zip(&jobs) {
                *best = (*best).min(runtime.block_on(round(value_bytes, count, job)));
            }
        }
        let per_record = |time: Duration| time.as_secs_f64() * 1e9 / count as f64;
        for (time, Job { name, .. }) in best.iter().zip(&jobs) {
            let ns = per_record(*time);
            let over = ns - per_record(best[0]);
            println!("{name:<30} {value_bytes:>8} {ns:>12.1} {:>14.0} {over:>14.1}", 1e9 / ns);
        }
    }
}

/// Time from the stage's start, with its plugins compiled, until all records are committed.
async fn round(value_bytes: usize, count: usize, job: &Job) -> Duration {
    let cluster = MemoryCluster::default();
    cluster.create_topic("in", 1);
    cluster.create_topic("out", 1);
    let (batch, per_batch) = batch(value_bytes);
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
        stages: vec![stage(Position::Stream, job)],
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
