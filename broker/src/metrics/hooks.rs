//! What hooks do, by topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::REQUEST_BUCKETS;
use crate::ids::TopicName;

/// Topics that are told apart. Few have hooks, but they come and go.
const TOPICS_MAX: usize = 1_000;
/// What the topics beyond are counted under; no topic can be called so.
const OTHERS: &str = "(others)";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    topic: String,
    outcome: &'static str,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookOutcome {
    /// It stays as it is.
    Unchanged,
    Rewritten {
        records_out: i64,
    },
    /// A view's result was remembered.
    Remembered,
    /// All its records are refused.
    Refused,
    /// The client is to try again: nothing was ready, or it was too slow.
    Later,
    Failed,
}

/// What the hooks of one kind do.
pub(crate) struct HookMetrics {
    batches: Family<OutcomeLabels, Counter>,
    records: Family<OutcomeLabels, Counter>,
    duration: Family<TopicLabel, Histogram>,
    topics: Mutex<HashMap<String, Arc<TopicMetrics>>>,
}

/// The counters of one topic, resolved once.
struct TopicMetrics {
    unchanged: Counter,
    rewritten: Counter,
    remembered: Counter,
    refused: Counter,
    later: Counter,
    failed: Counter,
    records_in: Counter,
    records_out: Counter,
    records_dropped: Counter,
    records_refused: Counter,
    duration: Histogram,
}

impl HookMetrics {
    pub(crate) fn new(registry: &mut Registry, prefix: &'static str) -> Self {
        let metrics = Self {
            batches: Family::default(),
            records: Family::default(),
            duration: Family::new_with_constructor(|| {
                let (start, factor, count) = REQUEST_BUCKETS;
                Histogram::new(exponential_buckets(start, factor, count))
            }),
            topics: Mutex::default(),
        };
        let hooks = registry.sub_registry_with_prefix(prefix);
        hooks.register("batches", "Batches, by what became of them", metrics.batches.clone());
        hooks.register(
            "records",
            "Records that came in, went out, were dropped, or were refused with their batch",
            metrics.records.clone(),
        );
        hooks.register_with_unit(
            "duration",
            "From a batch's arrival to the hook's answer, the wait for a place included",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        metrics
    }

    /// Counts a batch of so many records.
    pub(crate) fn batch(&self, topic: &TopicName, records_in: i64, outcome: HookOutcome) {
        let topic = self.topic(topic);
        let add = |counter: &Counter, records: i64| {
            counter.inc_by(records.max(0) as u64);
        };
        match outcome {
            HookOutcome::Unchanged => {
                topic.unchanged.inc();
                add(&topic.records_in, records_in);
                add(&topic.records_out, records_in);
            }
            HookOutcome::Rewritten { records_out } => {
                topic.rewritten.inc();
                add(&topic.records_in, records_in);
                add(&topic.records_out, records_out);
                add(&topic.records_dropped, records_in - records_out);
            }
            HookOutcome::Refused => {
                topic.refused.inc();
                add(&topic.records_in, records_in);
                add(&topic.records_refused, records_in);
            }
            HookOutcome::Remembered => add(&topic.remembered, 1),
            HookOutcome::Later => add(&topic.later, 1),
            HookOutcome::Failed => add(&topic.failed, 1),
        }
    }

    /// Takes note of how long a hook was asked.
    pub(crate) fn observe(&self, topic: &TopicName, duration: Duration) {
        self.topic(topic).duration.observe(duration.as_secs_f64());
    }

    fn topic(&self, topic: &TopicName) -> Arc<TopicMetrics> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get(topic.as_str()) {
            return Arc::clone(known);
        }
        let name = if topics.len() < TOPICS_MAX { topic.as_str() } else { OTHERS };
        let known = topics.entry(name.to_owned()).or_insert_with(|| Arc::new(self.resolve(name)));
        Arc::clone(known)
    }

    fn resolve(&self, topic: &str) -> TopicMetrics {
        let counter = |family: &Family<OutcomeLabels, Counter>, outcome| {
            family.get_or_create(&OutcomeLabels { topic: topic.to_owned(), outcome }).clone()
        };
        let (batches, records) = (&self.batches, &self.records);
        TopicMetrics {
            unchanged: counter(batches, "unchanged"),
            rewritten: counter(batches, "rewritten"),
            remembered: counter(batches, "remembered"),
            refused: counter(batches, "refused"),
            later: counter(batches, "later"),
            failed: counter(batches, "failed"),
            records_in: counter(records, "in"),
            records_out: counter(records, "out"),
            records_dropped: counter(records, "dropped"),
            records_refused: counter(records, "refused"),
            duration: self.duration.get_or_create(&TopicLabel { topic: topic.to_owned() }).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_told_apart_up_to_a_limit() {
        let mut registry = Registry::default();
        let metrics = HookMetrics::new(&mut registry, "ingest");
        for n in 0..TOPICS_MAX + 5 {
            let topic = TopicName::new(&format!("t{n}")).unwrap();
            metrics.batch(&topic, 3, HookOutcome::Rewritten { records_out: 2 });
            metrics.observe(&topic, Duration::from_millis(1));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "ingest_batches_total{topic=\"t7\",outcome=\"rewritten\"} 1",
            "ingest_records_total{topic=\"t7\",outcome=\"in\"} 3",
            "ingest_records_total{topic=\"t7\",outcome=\"out\"} 2",
            "ingest_records_total{topic=\"t7\",outcome=\"dropped\"} 1",
            "ingest_batches_total{topic=\"(others)\",outcome=\"rewritten\"} 5",
            "ingest_duration_seconds_count{topic=\"t7\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing");
        }
        assert!(!text.contains("t1000"));
    }
}
