//! What instances cost that do nothing: how many start in a second, and what memory each has, with many of them alive.
//!
//! `cargo bench -p millstream-runtime --bench instances` builds the guests first.

#![expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::plugin::{Instance, InstanceConfig, Lent, LogLevel, PluginLog, StageNames};

use support::components;

const INSTANCES: u32 = 2000;

struct Silent;

impl PluginLog for Silent {
    fn line(&self, _: LogLevel, _: &str) {}
}

fn main() {
    let engine = PluginEngine::new(EngineConfig { instances_max: INSTANCES, ..EngineConfig::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("the runtime starts");
    let clock = SystemClock::shared();
    println!("{:<32} {:>10} {:>12} {:>16}", "plugin", "instances", "starts/s", "memory each KiB");
    for job in components(&engine) {
        let plugin = job.plugin.expect("a component");
        let config = || InstanceConfig {
            config: job.config.to_owned(),
            limits: PluginLimits::default(),
            log: Arc::new(Silent),
            clock: Arc::clone(&clock),
            names: StageNames::default(),
            lent: Lent::default(),
        };
        // The first one maps the code.
        drop(runtime.block_on(Instance::start(&plugin, config())));
        let (before, began) = (rss_kib(), clock.monotonic());
        let alive: Vec<_> = (0..INSTANCES)
            .map(|_| runtime.block_on(Instance::start(&plugin, config())).expect("there is room"))
            .collect();
        let seconds = (clock.monotonic() - began).as_secs_f64();
        let each = rss_kib().saturating_sub(before) as f64 / f64::from(INSTANCES);
        println!("{:<32} {INSTANCES:>10} {:>12.0} {each:>16.0}", job.name, f64::from(INSTANCES) / seconds);
        drop(alive);
    }
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux counts memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it does so by process");
    line.trim().trim_end_matches(" kB").parse().expect("in kB")
}
