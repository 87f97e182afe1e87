//! What stages, and the plugins in them, show to Prometheus. Series go with what they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::plugin_metrics::PluginMetricFamilies;
use super::port::TopicPartition;
use super::spec::StageSpec;
use super::unit::UnitCounts;
use super::usage::PluginUsage;
use super::usage_metrics::UsageFamilies;

pub(super) type Labels = Vec<(&'static str, String)>;

/// The metrics of all stages of a node.
#[derive(Clone)]
pub struct RuntimeMetrics {
    records_in: Family<Labels, Counter>,
    records_out: Family<Labels, Counter>,
    records_rejected: Family<Labels, Counter>,
    bytes_in: Family<Labels, Counter>,
    bytes_out: Family<Labels, Counter>,
    batches_in: Family<Labels, Counter>,
    commits: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    lag: Family<Labels, Gauge>,
    swaps: Family<Labels, Histogram, fn() -> Histogram>,
    rollbacks: Family<Labels, Counter>,
    usages: UsageFamilies,
    /// What plugins count themselves.
    pub(super) of_plugins: PluginMetricFamilies,
    /// By pipeline and stage.
    series: Arc<Mutex<BTreeMap<(String, String), Series>>>,
}

/// The series of one stage, beside those that each stage has.
#[derive(Default)]
struct Series {
    plugins: BTreeSet<String>,
    /// Of errors.
    kinds: BTreeSet<&'static str>,
}

/// Finer: how long a stage stands still is what a swap is judged by.
fn swap_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 18))
}

impl RuntimeMetrics {
    /// Enters the metrics into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records_in: Family::default(),
            records_out: Family::default(),
            records_rejected: Family::default(),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            batches_in: Family::default(),
            commits: Family::default(),
            errors: Family::default(),
            lag: Family::default(),
            swaps: Family::new_with_constructor(swap_seconds),
            rollbacks: Family::default(),
            of_plugins: PluginMetricFamilies::register(registry),
            usages: UsageFamilies::default(),
            series: Arc::default(),
        };
        let registry = registry.sub_registry_with_prefix("stage");
        registry.register(
            "records_in",
            "Records that a stage has read and committed",
            metrics.records_in.clone(),
        );
        registry.register("records_out", "Records that a stage has written", metrics.records_out.clone());
        registry.register(
            "records_rejected",
            "Records that a plugin rejected",
            metrics.records_rejected.clone(),
        );
        registry.register(
            "bytes_in",
            "Bytes of batches that a stage has read and committed",
            metrics.bytes_in.clone(),
        );
        registry.register(
            "bytes_out",
            "Bytes of batches that a stage has written",
            metrics.bytes_out.clone(),
        );
        registry.register(
            "batches_in",
            "Record batches that a stage has read and committed",
            metrics.batches_in.clone(),
        );
        registry.register("commits", "Commits of outputs and offsets", metrics.commits.clone());
        registry.register("errors", "What stopped or delayed a stage, by kind", metrics.errors.clone());
        registry.register(
            "lag",
            "Records between a stage and the end of its partitions",
            metrics.lag.clone(),
        );
        metrics.usages.register(registry);
        let swaps = metrics.swaps.clone();
        let help = "Time between two batches while other versions of plugins take over";
        registry.register_with_unit("plugin_swap", help, Unit::Seconds, swaps);
        let help = "Versions of plugins that were taken back by themselves";
        registry.register("plugin_rollbacks", help, metrics.rollbacks.clone());
        metrics
    }

    /// Of each plugin of a stage, what it takes.
    pub(super) fn usages(&self, spec: &StageSpec) -> Vec<Arc<PluginUsage>> {
        let labels = labels_of(&spec.pipeline, &spec.name);
        let usage = |name: &str| Arc::new(PluginUsage::new(self.usages.of(&labels, name)));
        spec.plugins.iter().map(|plugin| usage(&plugin.name)).collect()
    }

    /// Of a pipeline only these stages, with these plugins, are there any more.
    pub(crate) fn retain<'a>(&self, pipeline: &str, stages: impl Iterator<Item = &'a StageSpec>) {
        let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for stage in stages {
            wanted.insert(&stage.name, stage.plugins.iter().map(|plugin| plugin.name.as_str()).collect());
        }
        let mut series = self.series.lock().expect("no code panics while it holds this lock");
        for ((_, stage), known) in series.iter_mut().filter(|((of, _), _)| of == pipeline) {
            let labels = labels_of(pipeline, stage);
            let plugins = wanted.get(stage.as_str());
            known.plugins.retain(|plugin| {
                let stays = plugins.is_some_and(|plugins| plugins.contains(plugin.as_str()));
                if !stays {
                    self.usages.remove(&labels, plugin);
                }
                stays
            });
            if plugins.is_none() {
                self.remove(&labels, known);
            }
        }
        series.retain(|(of, stage), _| of != pipeline || wanted.contains_key(stage.as_str()));
        drop(series);
        let used: BTreeSet<&str> = wanted.into_values().flatten().collect();
        self.of_plugins.retain(pipeline, |plugin| used.contains(plugin));
    }

    fn remove(&self, labels: &Labels, known: &Series) {
        let Self { records_in, records_out, records_rejected, bytes_in, bytes_out, .. } = self;
        let counters = [records_in, records_out, records_rejected, bytes_in, bytes_out];
        for family in counters.into_iter().chain([&self.batches_in, &self.commits, &self.rollbacks]) {
            family.remove(labels);
        }
        self.lag.remove(labels);
        self.swaps.remove(labels);
        for kind in &known.kinds {
            self.errors.remove(&of_kind(labels, kind));
        }
    }
}

fn labels_of(pipeline: &str, stage: &str) -> Labels {
    vec![("pipeline", pipeline.to_owned()), ("stage", stage.to_owned())]
}

fn of_kind(labels: &Labels, kind: &str) -> Labels {
    [labels.clone(), vec![("kind", kind.to_owned())]].concat()
}

/// The counters of one stage. They outlive its restarts.
pub(crate) struct StageMetrics {
    labels: Labels,
    pub(super) records_in: Counter,
    pub(super) records_out: Counter,
    pub(super) records_rejected: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    pub(super) batches_in: Counter,
    pub(super) commits: Counter,
    errors: Family<Labels, Counter>,
    series: Arc<Mutex<BTreeMap<(String, String), Series>>>,
    /// Of all kinds.
    errors_total: AtomicU64,
    lag: Gauge,
    lags: Mutex<BTreeMap<TopicPartition, i64>>,
    swaps: Histogram,
    pub(super) rollbacks: Counter,
}

impl StageMetrics {
    pub(crate) fn new(metrics: &RuntimeMetrics, spec: &StageSpec) -> Self {
        let labels = labels_of(&spec.pipeline, &spec.name);
        {
            let mut series = metrics.series.lock().expect("no code panics while it holds this lock");
            let known = series.entry((spec.pipeline.clone(), spec.name.clone())).or_default();
            known.plugins.extend(spec.plugins.iter().map(|plugin| plugin.name.clone()));
        }
        let counter = |family: &Family<Labels, Counter>| family.get_or_create(&labels).clone();
        Self {
            records_in: counter(&metrics.records_in),
            records_out: counter(&metrics.records_out),
            records_rejected: counter(&metrics.records_rejected),
            bytes_in: counter(&metrics.bytes_in),
            bytes_out: counter(&metrics.bytes_out),
            batches_in: counter(&metrics.batches_in),
            commits: counter(&metrics.commits),
            errors: metrics.errors.clone(),
            series: Arc::clone(&metrics.series),
            errors_total: AtomicU64::new(0),
            lag: metrics.lag.get_or_create(&labels).clone(),
            lags: Mutex::default(),
            swaps: metrics.swaps.get_or_create(&labels).clone(),
            rollbacks: counter(&metrics.rollbacks),
            labels,
        }
    }

    /// What was read, beside what came of it.
    pub(super) fn count(&self, counts: &UnitCounts) {
        self.records_in.inc_by(counts.records_in);
        self.records_out.inc_by(counts.records_out);
        self.records_rejected.inc_by(counts.records_rejected);
        self.bytes_in.inc_by(counts.bytes_in);
        self.bytes_out.inc_by(counts.bytes_out);
        self.batches_in.inc_by(counts.batches_in);
    }

    pub(super) fn errors_total(&self) -> u64 {
        self.errors_total.load(Ordering::Relaxed)
    }

    pub(super) fn lag(&self) -> i64 {
        self.lag.get()
    }

    pub(crate) fn observe_swap(&self, time: Duration) {
        self.swaps.observe(time.as_secs_f64());
    }

    pub(crate) fn count_error(&self, kind: &'static str) {
        {
            let mut series = self.series.lock().expect("no code panics while it holds this lock");
            let stage = (self.labels[0].1.clone(), self.labels[1].1.clone());
            // Of a stage that is gone nothing is counted any more.
            if let Some(known) = series.get_mut(&stage) {
                known.kinds.insert(kind);
                self.errors.get_or_create(&of_kind(&self.labels, kind)).inc();
            }
        }
        self.errors_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_lag(&self, partition: TopicPartition, lag: i64) {
        self.change_lags(|lags| {
            lags.insert(partition, lag.max(0));
        });
    }

    /// Nobody reads its partitions any more: all of them together.
    pub(crate) fn set_stalled_lag(&self, lag: i64) {
        self.change_lags(BTreeMap::clear);
        self.lag.set(lag);
    }

    /// Others report the lag of partitions that are theirs now.
    pub(crate) fn forget_lags(&self, partitions: &[TopicPartition]) {
        self.change_lags(|lags| lags.retain(|partition, _| !partitions.contains(partition)));
    }

    fn change_lags(&self, change: impl FnOnce(&mut BTreeMap<TopicPartition, i64>)) {
        let mut lags = self.lags.lock().expect("no code panics while it holds this lock");
        change(&mut lags);
        self.lag.set(lags.values().sum());
    }
}
