//! What each plugin of a stage takes, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::metrics::Labels;
use super::usage::CallUsage;

type Seconds = Counter<f64, AtomicU64>;

/// Those of all plugins of a node.
#[derive(Clone)]
pub(super) struct UsageFamilies {
    calls: Family<Labels, Histogram, fn() -> Histogram>,
    failed_calls: Family<Labels, Counter>,
    records_in: Family<Labels, Counter>,
    records_out: Family<Labels, Counter>,
    cpu: Family<Labels, Seconds>,
    throttled: Family<Labels, Seconds>,
    memory: Family<Labels, Gauge>,
    instances: Family<Labels, Gauge>,
}

impl Default for UsageFamilies {
    fn default() -> Self {
        let call_seconds = || Histogram::new(exponential_buckets(0.000_01, 4.0, 10));
        Self {
            calls: Family::new_with_constructor(call_seconds),
            failed_calls: Family::default(),
            records_in: Family::default(),
            records_out: Family::default(),
            cpu: Family::default(),
            throttled: Family::default(),
            memory: Family::default(),
            instances: Family::default(),
        }
    }
}

impl UsageFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "plugin_call",
            "Time of a plugin's calls",
            Unit::Seconds,
            self.calls.clone(),
        );
        registry.register("plugin_failed_calls", "Calls that ended with an error", self.failed_calls.clone());
        registry.register("plugin_records_in", "Records of a plugin's calls", self.records_in.clone());
        registry.register("plugin_records_out", "What they returned", self.records_out.clone());
        let help = "Processor time of a plugin's calls";
        registry.register_with_unit("plugin_cpu", help, Unit::Seconds, self.cpu.clone());
        let help = "How long a plugin has waited because of cpu_percent_max";
        registry.register_with_unit("plugin_throttled", help, Unit::Seconds, self.throttled.clone());
        let help = "Memory of a plugin's instances";
        registry.register_with_unit("plugin_memory", help, Unit::Bytes, self.memory.clone());
        registry.register("plugin_instances", "Instances that live", self.instances.clone());
    }

    /// Those of one plugin of a stage, whose labels come first.
    pub(super) fn of(&self, stage: &Labels, plugin: &str) -> UsageMetrics {
        let labels = labels_of(stage, plugin);
        UsageMetrics {
            calls: self.calls.get_or_create_owned(&labels),
            failed_calls: self.failed_calls.get_or_create_owned(&labels),
            records_in: self.records_in.get_or_create_owned(&labels),
            records_out: self.records_out.get_or_create_owned(&labels),
            cpu: self.cpu.get_or_create_owned(&labels),
            throttled: self.throttled.get_or_create_owned(&labels),
            memory: self.memory.get_or_create_owned(&labels),
            instances: self.instances.get_or_create_owned(&labels),
        }
    }

    pub(super) fn remove(&self, stage: &Labels, plugin: &str) {
        let labels = labels_of(stage, plugin);
        self.calls.remove(&labels);
        for family in [&self.failed_calls, &self.records_in, &self.records_out] {
            family.remove(&labels);
        }
        for family in [&self.cpu, &self.throttled] {
            family.remove(&labels);
        }
        for family in [&self.memory, &self.instances] {
            family.remove(&labels);
        }
    }
}

fn labels_of(stage: &Labels, plugin: &str) -> Labels {
    [stage.clone(), vec![("plugin", plugin.to_owned())]].concat()
}

/// Those of one plugin of a stage.
pub(super) struct UsageMetrics {
    calls: Histogram,
    failed_calls: Counter,
    records_in: Counter,
    records_out: Counter,
    cpu: Seconds,
    pub(super) throttled: Seconds,
    memory: Gauge,
    instances: Gauge,
}

impl UsageMetrics {
    pub(super) fn count(&self, call: &CallUsage) {
        self.calls.observe(call.time.as_secs_f64());
        self.cpu.inc_by(call.cpu.as_secs_f64());
        match call.records {
            Some((records_in, records_out)) => {
                self.records_in.inc_by(records_in as u64);
                self.records_out.inc_by(records_out as u64);
            }
            None => {
                self.failed_calls.inc();
            }
        }
    }

    /// Instances and their memory come and go.
    pub(super) fn change(&self, instances: i64, memory_bytes: i64) {
        self.instances.inc_by(instances);
        self.memory.inc_by(memory_bytes);
    }
}

#[cfg(test)]
impl UsageMetrics {
    pub(super) fn unseen() -> Self {
        UsageFamilies::default().of(&Labels::new(), "")
    }
}
