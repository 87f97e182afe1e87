//! Modules in text form, which keep the ABI or break it. What the real SDK makes of it is shown in `tests/redpanda.rs`.

mod calls;
mod hostile;
mod modules;

use std::sync::Arc;
use std::time::Duration;

use crate::batch::tests::sample;
use crate::clock::SystemClock;
use crate::engine::{EngineConfig, PluginEngine};
use crate::limits::PluginLimits;
use crate::outputs::Transformed;
use crate::plugin::log::tests::Lines;
use crate::plugin::{Instance, InstanceConfig, Lent, PluginError, PluginLog, StageNames, StartError};

/// What every module of these tests begins with. A batch's header goes to 0 and on, its number of records to 8; a
/// record's bytes to 1024; the record `key null, value "v", no headers` lies at 512, `key "k", value null` at 520, the
/// option `topic other` at 528.
const PRELUDE: &str = r#"
  (import "redpanda_transform" "check_abi_version_2" (func $check_abi))
  (import "redpanda_transform" "read_batch_header"
    (func $read_batch_header (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "redpanda_transform" "read_next_record" (func $read_next_record (param i32 i32 i32 i32 i32) (result i32)))
  (import "redpanda_transform" "write_record" (func $write_record (param i32 i32) (result i32)))
  (import "redpanda_transform" "write_record_with_options" (func $write_to (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "\01\02v\00")
  (data (i32.const 520) "\02k\01\00")
  (data (i32.const 528) "\01\0aother")
  (func $batch (result i32)
    (call $read_batch_header (i32.const 0) (i32.const 8) (i32.const 12) (i32.const 16) (i32.const 20)
      (i32.const 24) (i32.const 32) (i32.const 40) (i32.const 48) (i32.const 52)))
  (func $record (result i32)
    (call $read_next_record (i32.const 60) (i32.const 64) (i32.const 72) (i32.const 1024) (i32.const 60000)))
  (func $value (result i32) (call $write_record (i32.const 512) (i32.const 4)))
  (func $expect (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
  (func $expect_long (param i64 i64) (if (i64.ne (local.get 0) (local.get 1)) (then unreachable)))
"#;

/// A module whose `main` has this body; `items` stand beside it.
fn module_with(items: &str, main: &str) -> Vec<u8> {
    let text = format!(
        "(module {PRELUDE} {items} (func (export \"_start\") (local $length i32) (call $check_abi) {main}))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn module(main: &str) -> Vec<u8> {
    module_with("", main)
}

/// A module that does this for each batch, after it has read its header.
fn for_batches(body: &str) -> Vec<u8> {
    module(&format!("(loop $batches (drop (call $batch)) {body} (br $batches))"))
}

/// A module that does this for each record, which it has read; its length is `$length`.
fn for_records(body: &str) -> Vec<u8> {
    module(&format!(
        "(loop $batches
           (drop (call $batch))
           (loop $records
             (if (i32.gt_s (local.tee $length (call $record)) (i32.const -1))
               (then {body} (br $records))))
           (br $batches))"
    ))
}

fn identity() -> Vec<u8> {
    for_records(
        "(call $expect (local.get $length) (call $write_record (i32.const 1024) (local.get $length)))",
    )
}

fn engine(instances_max: u32) -> PluginEngine {
    PluginEngine::new(EngineConfig { instances_max, ..EngineConfig::default() })
}

fn limits() -> PluginLimits {
    PluginLimits { call_timeout_ms: 1000, init_timeout_ms: 1000, ..PluginLimits::default() }
}

fn config(limits: PluginLimits, log: &Arc<Lines>) -> InstanceConfig {
    let topics = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
    InstanceConfig {
        config: "null".to_owned(),
        limits,
        log: Arc::clone(log) as Arc<dyn PluginLog>,
        clock: SystemClock::shared(),
        names: StageNames {
            plugin: "module".to_owned(),
            from: topics(&["orders"]),
            to: topics(&["out", "other"]),
        },
        lent: Lent::default(),
    }
}

async fn start_limited(wasm: &[u8], limits: PluginLimits) -> Result<Instance, StartError> {
    let plugin = engine(4).load(wasm).unwrap();
    Instance::start(&plugin, config(limits, &Arc::default())).await
}

async fn start(wasm: &[u8]) -> Result<Instance, StartError> {
    start_limited(wasm, limits()).await
}

/// Maps a batch of so many records.
async fn call(instance: &mut Instance, count: usize) -> Result<Transformed, PluginError> {
    let mut out = Transformed::default();
    instance.transform(&sample(count), &["out".into(), "other".into()], &mut out).await?;
    Ok(out)
}

/// Starts the module and maps a batch of three records.
async fn transform(wasm: &[u8]) -> Result<Transformed, PluginError> {
    call(&mut start(wasm).await.unwrap(), 3).await
}

/// Of each output the input record, the topic and the body.
fn outputs(out: &Transformed) -> Vec<(u32, Option<u16>, &[u8])> {
    let body = |output: &crate::outputs::OutputRecord| output.body.expect("it was written").of(&out.payload);
    out.outputs.iter().map(|output| (output.index, output.topic, body(output))).collect()
}
