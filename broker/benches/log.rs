//! What a synced commit costs, against writing and syncing the same bytes to a plain file.
//!
//! `cargo bench -p millstream-broker --bench log [-- DIR [SECONDS]]`. Runs alternate between the two,
//! so that the machine's moods hit both; only the ratio means anything.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::clock::{SharedClock, SystemClock};
use millstream_broker::ids::{LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition};
use millstream_broker::log::config::LogDirConfig;
use millstream_broker::log::dir::{LogDir, LogDirContext};
use millstream_broker::log::disk::FileDisk;
use millstream_broker::log::metrics::NoMetrics;
use millstream_broker::log::partition::Log;
use millstream_broker::log::testing::{batch_meta, client_batch};

/// What one commit holds, and of how many partitions.
struct Load {
    name: &'static str,
    partitions: i32,
    batches: usize,
    batch_bytes: usize,
}

const LOADS: [Load; 4] = [
    Load { name: "6 x 150 KB of 6 partitions", partitions: 6, batches: 6, batch_bytes: 150_000 },
    Load { name: "64 x 1 KB of 1,000 partitions", partitions: 1_000, batches: 64, batch_bytes: 1_000 },
    Load {
        name: "1,000 x 1 KB of 10,000 partitions",
        partitions: 10_000,
        batches: 1_000,
        batch_bytes: 1_000,
    },
    Load { name: "1 x 300 B of 1 partition", partitions: 1, batches: 1, batch_bytes: 240 },
];

/// Alternating runs of each side.
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let dir = arguments.first().map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let seconds = arguments.get(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(2.0);
    let run_time = Duration::from_secs_f64(seconds);
    let clock = SystemClock::shared();
    for load in &LOADS {
        let payload = vec![7u8; load.batch_bytes];
        let batch = client_batch(1, 0, None, &payload);
        for round in 0..ROUNDS {
            let scratch = tempfile::tempdir_in(&dir).expect("the directory can be written");
            let raw = raw_file(scratch.path(), &clock, run_time, load, &batch);
            let log_dir = in_log_dir(&scratch.path().join("log"), &clock, run_time, load, &batch);
            println!("{:34} round {round}  raw {raw}  log {log_dir}", load.name);
        }
    }
}

/// Commit times, and the bytes of all.
struct Measured {
    commits: Vec<Duration>,
    bytes: usize,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.commits.clone();
        sorted.sort();
        let total: Duration = sorted.iter().sum();
        let at =
            |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3;
        let rate = self.bytes as f64 / 1e6 / total.as_secs_f64();
        let commits = sorted.len() as f64 / total.as_secs_f64();
        write!(f, "{rate:6.1} MB/s {commits:6.0} commits/s p50 {:5.2} ms p99 {:6.2} ms", at(50), at(99))
    }
}

fn measure(clock: &SharedClock, run_time: Duration, bytes: usize, mut commit: impl FnMut()) -> Measured {
    let began = clock.monotonic();
    let mut commits = Vec::new();
    while commits.is_empty() || clock.monotonic() - began < run_time {
        let start = clock.monotonic();
        commit();
        commits.push(clock.monotonic() - start);
    }
    let bytes = bytes * commits.len();
    Measured { commits, bytes }
}

fn raw_file(dir: &Path, clock: &SharedClock, run_time: Duration, load: &Load, batch: &Bytes) -> Measured {
    let mut file = File::create(dir.join("raw")).expect("the directory can be written");
    let data = batch.repeat(load.batches);
    measure(clock, run_time, data.len(), || {
        file.write_all(&data).expect("the disk works");
        file.sync_data().expect("the disk works");
    })
}

fn in_log_dir(path: &Path, clock: &SharedClock, run_time: Duration, load: &Load, batch: &Bytes) -> Measured {
    let context =
        LogDirContext { clock: clock.clone(), disk: Arc::new(FileDisk), metrics: Arc::new(NoMetrics) };
    let dir = LogDir::open(path, LogDirConfig::default(), context).expect("an empty log dir opens");
    let topic_id = TopicId(clock.random_uuid());
    let logs: Vec<Arc<Log>> = (0..load.partitions)
        .map(|partition| TopicIdPartition { topic_id, partition: PartitionIndex(partition) })
        .map(|tp| dir.create_log(tp).expect("it is new"))
        .collect();
    dir.flush().expect("the disk works");
    let mut next = logs.iter().cycle();
    let measured = measure(clock, run_time, batch.len() * load.batches, || {
        for log in next.by_ref().take(load.batches) {
            let meta = batch_meta(batch, log.next_offset(), LeaderEpoch(0));
            log.append(batch.clone(), vec![meta]).expect("the log dir works");
        }
        dir.flush().expect("the disk works");
    });
    dir.close().expect("the disk works");
    measured
}
