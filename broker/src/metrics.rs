//! What the broker counts, in one registry that is passed as an argument.

mod hooks;

use std::collections::HashMap;
use std::time::Duration;

use millstream_wire::{ApiKey, ErrorCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::hooks::{HookMetrics, HookOutcome};
use crate::log::compaction::Compacted;
use crate::log::metrics::{CommitStats, LogMetrics};

/// 100 µs to 26 s, doubling.
const REQUEST_BUCKETS: (f64, f64, u16) = (0.0001, 2.0, 19);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabels {
    api: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    api: &'static str,
    error: &'static str,
}

/// The counters of one API, resolved once.
struct ApiMetrics {
    requests: Counter,
    duration_seconds: Histogram,
}

pub(crate) struct BrokerMetrics {
    apis: HashMap<ApiKey, ApiMetrics>,
    errors: Family<ErrorLabels, Counter>,
    bytes_in: Counter,
    bytes_out: Counter,
    connections: Gauge,
    connections_refused: Counter,
    produced_records: Counter,
    produced_bytes: Counter,
    fetched_bytes: Counter,
    pub(crate) ingest: HookMetrics,
    pub(crate) views: HookMetrics,
}

impl BrokerMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let requests = Family::<ApiLabels, Counter>::default();
        let duration = Family::<ApiLabels, Histogram>::new_with_constructor(|| {
            let (start, factor, count) = REQUEST_BUCKETS;
            Histogram::new(exponential_buckets(start, factor, count))
        });
        let metrics = Self {
            apis: ApiKey::ALL
                .iter()
                .map(|&key| {
                    let labels = ApiLabels { api: key.name() };
                    let api = ApiMetrics {
                        requests: requests.get_or_create(&labels).clone(),
                        duration_seconds: duration.get_or_create(&labels).clone(),
                    };
                    (key, api)
                })
                .collect(),
            errors: Family::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            ingest: HookMetrics::new(registry, "ingest"),
            views: HookMetrics::new(registry, "view"),
        };
        registry.register("requests", "Requests answered", requests);
        registry.register_with_unit(
            "request_duration",
            "From the moment a request is read to its answer, waits included",
            Unit::Seconds,
            duration,
        );
        registry.register("request_errors", "Errors in responses, by Kafka's name", metrics.errors.clone());
        let bytes = Unit::Bytes;
        registry.register_with_unit(
            "network_in",
            "Request bytes read",
            bytes.clone(),
            metrics.bytes_in.clone(),
        );
        registry.register_with_unit(
            "network_out",
            "Response bytes",
            bytes.clone(),
            metrics.bytes_out.clone(),
        );
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register(
            "connections_refused",
            "Connections closed at once because max.connections was reached",
            metrics.connections_refused.clone(),
        );
        registry.register("produced_records", "Records appended", metrics.produced_records.clone());
        registry.register_with_unit(
            "produced",
            "Record batch bytes appended",
            bytes.clone(),
            metrics.produced_bytes.clone(),
        );
        registry.register_with_unit(
            "fetched",
            "Record batch bytes sent to consumers",
            bytes,
            metrics.fetched_bytes.clone(),
        );
        metrics
    }

    pub(crate) fn request(&self, api: ApiKey, duration: Duration) {
        if let Some(metrics) = self.apis.get(&api) {
            metrics.requests.inc();
            metrics.duration_seconds.observe(duration.as_secs_f64());
        }
    }

    pub(crate) fn error(&self, api: ApiKey, error: ErrorCode) {
        let error = error.name().unwrap_or("UNNAMED");
        self.errors.get_or_create(&ErrorLabels { api: api.name(), error }).inc();
    }

    pub(crate) fn bytes_in(&self, bytes: usize) {
        self.bytes_in.inc_by(bytes as u64);
    }

    pub(crate) fn bytes_out(&self, bytes: usize) {
        self.bytes_out.inc_by(bytes as u64);
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub(crate) fn produced(&self, records: i64, bytes: usize) {
        self.produced_records.inc_by(records.max(0) as u64);
        self.produced_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn fetched(&self, bytes: usize) {
        self.fetched_bytes.inc_by(bytes as u64);
    }
}

/// What the log dirs tell, all of them together.
pub(crate) struct LogDirMetrics {
    commits: Counter,
    batches: Counter,
    bytes: Counter,
    commit_duration: Histogram,
    seal_duration: Histogram,
    disk_reads: Counter,
    reclaimed: Counter,
    compacted: Counter,
    compacted_away: Counter,
    uncleanable: Counter,
    scrubbed: Counter,
    damaged: Counter,
    failed: Gauge,
}

impl LogDirMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let (start, factor, count) = REQUEST_BUCKETS;
        let histogram = || Histogram::new(exponential_buckets(start, factor, count));
        let metrics = Self {
            commits: Counter::default(),
            batches: Counter::default(),
            bytes: Counter::default(),
            commit_duration: histogram(),
            seal_duration: histogram(),
            disk_reads: Counter::default(),
            reclaimed: Counter::default(),
            compacted: Counter::default(),
            compacted_away: Counter::default(),
            uncleanable: Counter::default(),
            scrubbed: Counter::default(),
            damaged: Counter::default(),
            failed: Gauge::default(),
        };
        let log = registry.sub_registry_with_prefix("log");
        log.register("commits", "Synced commits", metrics.commits.clone());
        log.register("commit_batches", "Record batches in synced commits", metrics.batches.clone());
        log.register_with_unit("commit", "Bytes in synced commits", Unit::Bytes, metrics.bytes.clone());
        log.register_with_unit(
            "commit_duration",
            "Laying out, writing and syncing a commit",
            Unit::Seconds,
            metrics.commit_duration.clone(),
        );
        log.register_with_unit(
            "seal_duration",
            "Writing the index of a full segment",
            Unit::Seconds,
            metrics.seal_duration.clone(),
        );
        log.register_with_unit(
            "disk_read",
            "Bytes read from segments because no cache held them",
            Unit::Bytes,
            metrics.disk_reads.clone(),
        );
        log.register_with_unit(
            "reclaimed",
            "Bytes given back by removing and rewriting segments",
            Unit::Bytes,
            metrics.reclaimed.clone(),
        );
        metrics.register_upkeep(log);
        metrics
    }

    /// What is done to what is stored, rather than what is stored.
    fn register_upkeep(&self, log: &mut Registry) {
        log.register_with_unit(
            "compacted",
            "Bytes of record batches that compaction read",
            Unit::Bytes,
            self.compacted.clone(),
        );
        log.register_with_unit(
            "compacted_away",
            "Bytes of them that it did not write again",
            Unit::Bytes,
            self.compacted_away.clone(),
        );
        log.register(
            "uncleanable_partitions",
            "Partitions that can't be read, and are not compacted until the node starts again",
            self.uncleanable.clone(),
        );
        log.register_with_unit(
            "scrubbed",
            "Bytes of record batches that were read to check them",
            Unit::Bytes,
            self.scrubbed.clone(),
        );
        log.register(
            "damaged_batches",
            "Record batches that a scrub found damaged; one that stays damaged counts in each pass",
            self.damaged.clone(),
        );
        log.register("dirs_failed", "Log dirs that are offline after an I/O error", self.failed.clone());
    }
}

impl LogMetrics for LogDirMetrics {
    fn committed(&self, stats: &CommitStats) {
        self.commits.inc();
        self.batches.inc_by(stats.batches as u64);
        self.bytes.inc_by(stats.bytes);
        self.commit_duration.observe(stats.duration.as_secs_f64());
    }

    fn sealed(&self, duration: Duration) {
        self.seal_duration.observe(duration.as_secs_f64());
    }

    fn read_from_disk(&self, bytes: usize) {
        self.disk_reads.inc_by(bytes as u64);
    }

    fn reclaimed(&self, bytes: u64) {
        self.reclaimed.inc_by(bytes);
    }

    fn compacted(&self, compacted: &Compacted) {
        self.compacted.inc_by(compacted.bytes_before);
        self.compacted_away.inc_by(compacted.bytes_before.saturating_sub(compacted.bytes_after));
    }

    fn uncleanable(&self) {
        self.uncleanable.inc();
    }

    fn scrubbed(&self, bytes: u64, damaged: u64) {
        self.scrubbed.inc_by(bytes);
        self.damaged.inc_by(damaged);
    }

    fn fenced(&self) {
        self.failed.inc();
    }
}
