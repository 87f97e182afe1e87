//! What a plugin costs in front of a topic and behind its readers: nanoseconds a record, from handing a batch over to its
//! answer. Without a plugin there is nothing to ask. The node builds a changed batch anew, which is not in here; one that
//! stays as it is, it takes as it came.
//!
//! `cargo bench -p millstream-runtime --bench inline` builds the guests first. Each row is the best of some alternating
//! rounds.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::environment::Environment;
use millstream_runtime::inline::{InlineBatch, InlineSpec, OnFailure};
use millstream_runtime::pipeline::Pipeline;
use millstream_runtime::runtime::Runtime;
use millstream_runtime::stage::RuntimeMetrics;
use millstream_runtime::stage::memory::MemoryCluster;
use prometheus_client::registry::Registry;

use support::{Job, ROUNDS, batch, components, redpanda, stage};

const BATCHES: usize = 200;

fn main() {
    let engine = PluginEngine::new(EngineConfig::default());
    let mut jobs = components(&engine);
    jobs.push(redpanda(&engine));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let runtime = runtime.expect("the runtime starts");
    println!(
        "{:<8} {:<30} {:>8} {:>12} {:>14}",
        "position", "plugin", "value B", "ns/record", "batch us p99"
    );
    for (position, name) in [(Position::Ingest, "ingest"), (Position::View, "view")] {
        for value_bytes in [100, 1024] {
            let mut best = vec![(Duration::MAX, Duration::MAX); jobs.len()];
            for _ in 0..ROUNDS {
                for (best, job) in best.iter_mut().zip(&jobs) {
                    *best = (*best).min(runtime.block_on(round(position, value_bytes, job)));
                }
            }
            let records = (BATCHES * batch(value_bytes).1) as f64;
            for ((time, p99), job) in best.iter().zip(&jobs) {
                let ns = time.as_secs_f64() * 1e9 / records;
                println!("{name:<8} {:<30} {value_bytes:>8} {ns:>12.1} {:>14}", job.name, p99.as_micros());
            }
        }
    }
}

/// Time for all batches, one after the other; and of a single one, the 99th percentile.
async fn round(position: Position, value_bytes: usize, job: &Job) -> (Duration, Duration) {
    let clock = SystemClock::shared();
    let metrics = RuntimeMetrics::register(&mut Registry::default());
    let handle = tokio::runtime::Handle::current();
    let cluster = MemoryCluster::default();
    let running = Runtime::new(cluster, metrics, clock.clone(), Environment::default(), handle);
    let inline = InlineSpec {
        stage: stage(position, job),
        name: "in".to_owned(),
        budget: Duration::from_secs(30),
        on_failure: OnFailure::Refuse,
    };
    let pipeline =
        Pipeline { name: "bench".to_owned(), topics: Vec::new(), inlines: vec![inline], stages: Vec::new() };
    running.apply(&pipeline).await;
    let inline = running.inlines("bench").remove(0);
    let (batch, _) = batch(value_bytes);
    let asked = || InlineBatch { topic: "in".into(), partition: 0, batch: batch.clone() };
    inline.map(asked()).await.expect("the plugin answers");
    let mut times = Vec::with_capacity(BATCHES);
    let began = clock.monotonic();
    for _ in 0..BATCHES {
        let before = clock.monotonic();
        inline.map(asked()).await.expect("the plugin answers");
        times.push(clock.monotonic() - before);
    }
    let time = clock.monotonic() - began;
    running.shutdown().await;
    times.sort_unstable();
    (time, times[BATCHES * 99 / 100])
}
