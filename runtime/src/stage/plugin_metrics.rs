//! Numbers that plugins report: their own names, under a limit, and the pipeline's and plugin's as labels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::metrics::Labels;

const NAME_BYTES_MAX: usize = 100;
/// Upper bounds, inclusive: written out, so that a round number is in the bucket that bears its name.
const BUCKETS: [f64; 17] = [
    0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0,
    10_000.0,
];
/// Of one plugin of a pipeline.
const NAMES_MAX: usize = 100;

type Gauges = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The numbers of all plugins of a node.
#[derive(Clone)]
pub(super) struct PluginMetricFamilies {
    counters: Family<Labels, Counter>,
    gauges: Family<Labels, Gauges>,
    histograms: Family<Labels, Histogram, fn() -> Histogram>,
    /// By pipeline and plugin. They stay when a plugin starts anew, so that the limit holds for all its lives.
    names: Arc<Mutex<BTreeMap<(String, String), Names>>>,
    http_requests: Family<Labels, Counter>,
}

type Names = Arc<Mutex<BTreeMap<String, Metric>>>;

impl PluginMetricFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let buckets = || Histogram::new(BUCKETS);
        let families = Self {
            counters: Family::default(),
            gauges: Family::default(),
            histograms: Family::new_with_constructor(buckets),
            names: Arc::default(),
            http_requests: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("plugin");
        registry.register("counter", "What plugins count", families.counters.clone());
        registry.register("gauge", "What plugins measure", families.gauges.clone());
        registry.register("histogram", "What plugins sort into buckets", families.histograms.clone());
        let requests = families.http_requests.clone();
        registry.register("http_requests", "HTTP requests of plugins, by what came of them", requests);
        families
    }

    /// Of a pipeline only these plugins are there any more.
    pub(super) fn retain(&self, pipeline: &str, is_used: impl Fn(&str) -> bool) {
        self.names().retain(|(of, plugin), names| {
            let stays = of != pipeline || is_used(plugin);
            if !stays {
                let names = names.lock().expect("no code panics while it holds this lock");
                for (name, metric) in names.iter() {
                    let labels = labels_of(pipeline, plugin, name);
                    match metric {
                        Metric::Counter(_) => self.counters.remove(&labels),
                        Metric::Gauge(_) => self.gauges.remove(&labels),
                        Metric::Histogram(_) => self.histograms.remove(&labels),
                    };
                }
                for outcome in HTTP_OUTCOMES {
                    self.http_requests.remove(&http_labels_of(pipeline, plugin, outcome));
                }
            }
            stays
        });
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<(String, String), Names>> {
        self.names.lock().expect("no code panics while it holds this lock")
    }
}

fn labels_of(pipeline: &str, plugin: &str, name: &str) -> Labels {
    vec![("pipeline", pipeline.to_owned()), ("plugin", plugin.to_owned()), ("name", name.to_owned())]
}

/// What came of a request: the class of its status, or why there is none.
const HTTP_OUTCOMES: [&str; 8] = ["2xx", "3xx", "4xx", "5xx", "denied", "limit", "timeout", "error"];

fn http_labels_of(pipeline: &str, plugin: &str, outcome: &str) -> Labels {
    vec![("pipeline", pipeline.to_owned()), ("plugin", plugin.to_owned()), ("outcome", outcome.to_owned())]
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

/// The numbers of a plugin of a pipeline.
pub(crate) struct PluginMetrics {
    families: PluginMetricFamilies,
    pipeline: String,
    plugin: String,
    known: Names,
}

impl PluginMetrics {
    pub(super) fn new(families: &PluginMetricFamilies, pipeline: &str, plugin: &str) -> Self {
        let (pipeline, plugin) = (pipeline.to_owned(), plugin.to_owned());
        let known = Arc::clone(families.names().entry((pipeline.clone(), plugin.clone())).or_default());
        Self { families: families.clone(), pipeline, plugin, known }
    }

    /// Takes numbers as the others do, and shows them to nobody.
    pub(crate) fn unseen() -> Self {
        Self::new(&PluginMetricFamilies::register(&mut Registry::default()), "", "")
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

    /// A request of the plugin was answered, or failed. `outcome` is one of [`HTTP_OUTCOMES`].
    pub(crate) fn http_request(&self, outcome: &'static str) {
        assert!(HTTP_OUTCOMES.contains(&outcome), "{outcome}: its series would stay for ever");
        let labels = http_labels_of(&self.pipeline, &self.plugin, outcome);
        self.families.http_requests.get_or_create(&labels).inc();
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
            let labels = labels_of(&self.pipeline, &self.plugin, name);
            known.insert(name.to_owned(), make(&labels));
        }
        if take(&known[name]) { Ok(()) } else { Err(MetricError::Kind(name.to_owned())) }
    }
}

fn check_number(value: f64) -> Result<(), MetricError> {
    if value.is_finite() { Ok(()) } else { Err(MetricError::NotANumber) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(families: &PluginMetricFamilies, plugin: &str) -> PluginMetrics {
        PluginMetrics::new(families, "p", plugin)
    }

    /// Symptom: a plugin that used other names each time it was started filled the node's memory. Cause: names were counted
    /// for each start, and their series stayed for ever. Fix: they are counted for the plugin, and go with it.
    #[test]
    fn names_are_limited_over_all_lives_of_a_plugin_and_go_with_it() {
        let mut registry = Registry::default();
        let families = PluginMetricFamilies::register(&mut registry);
        for life in 0..3 {
            let metrics = metrics(&families, "a");
            for name in 0..NAMES_MAX {
                let counted = metrics.counter(&format!("{life}.{name}"), 1);
                assert_eq!(counted, if life == 0 { Ok(()) } else { Err(MetricError::TooMany) });
            }
            assert_eq!(metrics.counter("0.0", 1), Ok(()), "what is known goes on");
            assert_eq!(metrics.gauge("0.0", 1.0), Err(MetricError::Kind("0.0".to_owned())));
        }
        let other = metrics(&families, "b");
        assert_eq!((other.gauge("g", 2.0), other.histogram("h", 0.5)), (Ok(()), Ok(())));
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let first = "plugin_counter_total{pipeline=\"p\",plugin=\"a\",name=\"0.0\"} 4";
        assert!(text().contains(first), "{}", text());
        families.retain("q", |_| false);
        families.retain("p", |plugin| plugin == "b");
        assert!(!text().contains("plugin=\"a\"") && text().contains("name=\"g\""), "{}", text());
        families.retain("p", |_| false);
        assert!(!text().contains("pipeline="), "{}", text());
        // Whoever comes back begins anew.
        assert_eq!(metrics(&families, "a").gauge("0.0", 1.0), Ok(()));
    }
}
