//! What the benchmarks share: guests, batches, stages.
#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Compression};
use millstream_runtime::batch::Position;
use millstream_runtime::engine::PluginEngine;
use millstream_runtime::grants::Grants;
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::plugin::Plugin;
use millstream_runtime::stage::{OnError, RetryPolicy, StagePlugin, StageSpec};

pub(crate) const ROUNDS: usize = 5;
const BATCH_BYTES: usize = 128 * 1024;
/// Keeps every record of [`batch`].
const FILTER_CONFIG: &str = r#"{"field": "status", "gte": 400}"#;

/// What is measured.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) plugin: Option<Arc<Plugin>>,
    pub(crate) config: &'static str,
}

impl Job {
    pub(crate) fn none() -> Self {
        Self { name: "no plugin", plugin: None, config: "null" }
    }
}

/// Identity and a filter, in both forms of the contract.
pub(crate) fn components(engine: &PluginEngine) -> Vec<Job> {
    let job = |name, wasm: Vec<u8>, config| {
        let plugin = Arc::new(engine.load(&wasm).expect("the guest is a plugin"));
        Job { name, plugin: Some(plugin), config }
    };
    let component = |directory, name: &str, features: &[&str]| {
        guest("wasm32-wasip2", directory, name, features, &format!("{}.wasm", name.replace('-', "_")))
    };
    vec![
        job("identity, transform-batch", component("tests/guests", "identity", &[]), "null"),
        job("identity, transform (typed)", component("tests/guests", "identity-typed", &[]), "null"),
        job("JSON filter, transform-batch", component("plugins", "filter", &[]), FILTER_CONFIG),
        job(
            "JSON filter, transform (typed)",
            component("plugins", "filter", &["--features=typed"]),
            FILTER_CONFIG,
        ),
    ]
}

pub(crate) fn redpanda(engine: &PluginEngine) -> Job {
    let wasm = guest("wasm32-wasip1", "tests/guests", "redpanda-identity", &[], "redpanda-identity.wasm");
    let plugin = Arc::new(engine.load(&wasm).expect("the guest is a plugin"));
    Job { name: "identity, Redpanda's SDK", plugin: Some(plugin), config: "null" }
}

/// A batch of JSON objects of so many bytes each, and how many there are.
pub(crate) fn batch(value_bytes: usize) -> (Bytes, usize) {
    let (head, tail) = (r#"{"id":"0123456789abcdef","status":404,"text":""#, r#""}"#);
    let value = format!("{head}{}{tail}", "x".repeat(value_bytes - head.len() - tail.len()));
    let count = BATCH_BYTES / value_bytes;
    let mut batch = BatchBuilder::new(BATCH_BYTES * 2);
    for at in 0..count {
        let key = (at as u64).to_be_bytes();
        batch.append(at as i64, Some(&key), Some(value.as_bytes()), []).expect("the batch has room");
    }
    (batch.finish().expect("the batch has records").into(), count)
}

pub(crate) fn stage(position: Position, job: &Job) -> StageSpec {
    let plugin = |plugin: &Arc<Plugin>| StagePlugin {
        name: "plugin".to_owned(),
        plugin: Arc::clone(plugin),
        version: 0,
        grants: Grants::default(),
        previous: None,
        config: job.config.to_owned(),
        limits: PluginLimits::default(),
    };
    let to = if position == Position::Stream { "out" } else { "in" };
    StageSpec {
        pipeline: "bench".to_owned(),
        name: "copy".to_owned(),
        position,
        runner: None,
        from: vec!["in".into()],
        plugins: job.plugin.iter().map(plugin).collect(),
        canary: None,
        to: vec![to.into()],
        group: "bench.copy".to_owned(),
        parallelism: 1,
        on_error: OnError::Stop,
        retry: RetryPolicy::default(),
        compression: Compression::None,
    }
}

/// Builds a guest.
pub(crate) fn guest(target: &str, directory: &str, name: &str, features: &[&str], file: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "guest", "--target", target, "--manifest-path"])
        .arg(root.join(directory).join(name).join("Cargo.toml"))
        .args(features)
        .arg("--target-dir")
        .arg(&built)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the guest builds");
    std::fs::read(built.join(target).join("guest").join(file)).expect("the guest is where cargo puts it")
}
