//! Numbers that plugins report: their own names, under a limit, and the pipeline's and plugin's as labels.

use std::collections::BTreeMap;
use std::sync::Mutex;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::spec::StageSpec;
use super::status::Labels;

const NAME_BYTES_MAX: usize = 100;
/// Of one plugin of a pipeline.
const NAMES_MAX: usize = 100;

type Gauges = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The numbers of all plugins of a node.
#[derive(Clone)]
pub(super) struct PluginMetricFamilies {
    counters: Family<Labels, Counter>,
    gauges: Family<Labels, Gauges>,
    histograms: Family<Labels, Histogram, fn() -> Histogram>,
}

impl PluginMetricFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let buckets = || Histogram::new(exponential_buckets(0.000_1, 3.162_277_66, 17));
        let families = Self {
            counters: Family::default(),
            gauges: Family::default(),
            histograms: Family::new_with_constructor(buckets),
        };
        let registry = registry.sub_registry_with_prefix("plugin");
        registry.register("counter", "What plugins count", families.counters.clone());
        registry.register("gauge", "What plugins measure", families.gauges.clone());
        registry.register("histogram", "What plugins sort into buckets", families.histograms.clone());
        families
    }
}

/// Why a number was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetricError {
    #[error("{0:?} is no name: 1 to {NAME_BYTES_MAX} letters, digits, \"_\", \"-\" and \".\"")]
    Name(String),
    #[error("the plugin has {NAMES_MAX} names already")]
    TooMany,
    #[error("{0:?} is something else already")]
    Kind(String),
    #[error("the value is not a number")]
    NotANumber,
}

enum Metric {
    Counter(Counter),
    Gauge(Gauges),
    Histogram(Histogram),
}

/// The numbers of the plugin of one source or sink.
pub(crate) struct PluginMetrics {
    families: PluginMetricFamilies,
    labels: Labels,
    known: Mutex<BTreeMap<String, Metric>>,
}

impl PluginMetrics {
    pub(super) fn new(families: &PluginMetricFamilies, spec: &StageSpec) -> Self {
        let plugin = spec.plugins.first().map_or_else(String::new, |plugin| plugin.name.clone());
        let labels = vec![("pipeline", spec.pipeline.clone()), ("plugin", plugin)];
        Self { families: families.clone(), labels, known: Mutex::default() }
    }

    pub(crate) fn counter(&self, name: &str, by: u64) -> Result<(), MetricError> {
        let make = |labels: &Labels| Metric::Counter(self.families.counters.get_or_create(labels).clone());
        self.with(name, make, |metric| match metric {
            Metric::Counter(counter) => {
                counter.inc_by(by);
                true
            }
            _ => false,
        })
    }

    pub(crate) fn gauge(&self, name: &str, value: f64) -> Result<(), MetricError> {
        check_number(value)?;
        let make = |labels: &Labels| Metric::Gauge(self.families.gauges.get_or_create(labels).clone());
        self.with(name, make, |metric| match metric {
            Metric::Gauge(gauge) => {
                gauge.set(value);
                true
            }
            _ => false,
        })
    }

    pub(crate) fn histogram(&self, name: &str, value: f64) -> Result<(), MetricError> {
        check_number(value)?;
        let make =
            |labels: &Labels| Metric::Histogram(self.families.histograms.get_or_create(labels).clone());
        self.with(name, make, |metric| match metric {
            Metric::Histogram(histogram) => {
                histogram.observe(value);
                true
            }
            _ => false,
        })
    }

    /// `take` says whether it is of the right kind.
    fn with(
        &self,
        name: &str,
        make: impl FnOnce(&Labels) -> Metric,
        take: impl FnOnce(&Metric) -> bool,
    ) -> Result<(), MetricError> {
        let mut known = self.known.lock().expect("no code panics while it holds this lock");
        if !known.contains_key(name) {
            let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_legal) {
                return Err(MetricError::Name(name.chars().take(NAME_BYTES_MAX).collect()));
            }
            if known.len() >= NAMES_MAX {
                return Err(MetricError::TooMany);
            }
            let labels = [self.labels.clone(), vec![("name", name.to_owned())]].concat();
            known.insert(name.to_owned(), make(&labels));
        }
        if take(&known[name]) { Ok(()) } else { Err(MetricError::Kind(name.to_owned())) }
    }
}

fn check_number(value: f64) -> Result<(), MetricError> {
    if value.is_finite() { Ok(()) } else { Err(MetricError::NotANumber) }
}
