//! The broker half of the table, and the typed view of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::definition::{ConfigDef, ConfigError, Valid, nearest};
use super::listener::{HostPort, Listener};
use super::load::{Origin, Setting};
use super::value::{CleanupPolicy, CompressionType, SignaturePolicy, TimestampType};
use crate::ids::BrokerId;

config_table! {
    /// A broker's configuration. Fixed while the broker runs.
    pub struct BrokerConfig, BROKER_CONFIGS, { explicit: BTreeMap<&'static str, Setting> };

    // Who and where.
    node_id: i32, "node.id" = "1", Valid::AtLeast(0), Served, ["broker.id" Same],
        "This node's number, unique in the cluster and the same for the life of its data directory.";
    broker_id: Option<i32>, "broker.id" = null, Valid::AtLeast(0), Served, [], "The older name of node.id.";
    broker_rack: Option<String>, "broker.rack" = null, Valid::Any, Served, [], "The rack that Metadata reports for this broker.";
    listeners: Vec<Listener>, "listeners" = "PLAINTEXT://127.0.0.1:9092", Valid::Any, Served, [],
        "Addresses on which Kafka clients are served. Loopback unless told otherwise.";
    advertised_listeners: Option<Vec<Listener>>, "advertised.listeners" = null, Valid::Any, Served, [],
        "Addresses that clients are told to connect to, where they differ from listeners.";
    admin_listener: HostPort, "admin.listener" = "127.0.0.1:9644", Valid::Any, Served, [],
        "Address of the HTTP listener for pipelines, plugins, health and metrics.";
    data_dir: PathBuf, "data.dir" = "./millstream-data", Valid::Any, Served, [],
        "Directory of the metadata, and of the log dirs unless log.dirs names them.";
    log_dirs: Option<Vec<PathBuf>>, "log.dirs" = null, Valid::Any, Served, [],
        "Directories that hold partitions, each with a writer of its own. Two inside data.dir where unset: one writes while the other syncs.";

    plugin_cores_max: Option<i32>, "plugin.cores.max" = null, Valid::AtLeast(1), Served, [],
        "Plugins that compute at the same time, on a core each, however many there are; where unset, one less than the cores of the machine, so that clients are served meanwhile.";
    plugin_files_dirs: Option<Vec<PathBuf>>, "plugin.files.dirs" = null, Valid::Any, Served, [],
        "Directories below which the files lie that pipelines may grant to plugins; none where unset.";
    plugin_http_ca_file: Option<PathBuf>, "plugin.http.ca.file" = null, Valid::Any, Served, [],
        "Certificates in PEM that HTTP requests of plugins trust beside those of public authorities.";
    plugin_http_private_networks: bool, "plugin.http.private.networks" = "false", Valid::Any, Served, [],
        "Whether a granted name may stand for an address of this machine or of a private network. A granted address always may.";
    plugin_memory_bytes_max: Option<i64>, "plugin.memory.bytes.max" = null, Valid::AtLeast(1), Served, [],
        "Linear memory of all plugins together; half of the memory that this process may have where unset. A stage that finds none left waits.";
    plugin_secrets_dir: Option<PathBuf>, "plugin.secrets.dir" = null, Valid::Any, Served, [],
        "The directory of the secrets that pipelines may grant to plugins: a file for each, named like it; none where unset.";
    plugin_signature_keys: Option<PathBuf>, "plugin.signature.keys" = null, Valid::Any, Served, [],
        "A file with the keys whose signatures of plugins are trusted: a line for each, its name and the base64 of the public key.";
    plugin_signature_policy: SignaturePolicy, "plugin.signature.policy" = "none", Valid::OneOf(SignaturePolicy::NAMES), Served, [],
        "Whether plugins must be signed: with required, none is taken or started without the signature of a key of plugin.signature.keys.";
    plugin_watch_dir: Option<PathBuf>, "plugin.watch.dir" = null, Valid::Any, Served, [],
        "A directory whose files PIPELINE/PLUGIN.wasm are deployed when they change; none where unset.";

    // Connections and requests.
    socket_request_max_bytes: i32, "socket.request.max.bytes" = "104857600", Valid::AtLeast(1), Served, [],
        "The largest request that is read from a connection.";
    queued_max_request_bytes: i64, "queued.max.request.bytes" = "50331648", Valid::AtLeast(1), Served, [],
        "Bytes of requests held in memory over all connections before reading pauses. One request that is larger is let in alone.";
    queued_max_response_bytes: i64, "queued.max.response.bytes" = "50331648", Valid::AtLeast(1), Served, [],
        "Bytes of records in responses that clients have not taken yet, over all connections. A fetch gets a quarter of it at most. Fetches of views have half as much of their own.";
    max_connections: i32, "max.connections" = "10000", Valid::AtLeast(1), Served, [], "Connections at a time.";
    max_connections_per_ip: i32, "max.connections.per.ip" = "2147483647", Valid::AtLeast(0), Served, [],
        "Connections at a time from one address.";
    connections_max_idle_ms: i64, "connections.max.idle.ms" = "600000", Valid::AtLeast(1), Served, [],
        "A connection that is silent for so long is closed.";
    fetch_max_bytes: i32, "fetch.max.bytes" = "57671680", Valid::AtLeast(1024), Served, [],
        "The most bytes of records in one fetch response, whatever the client allows.";
    fetch_max_wait_ms: i32, "fetch.max.wait.ms" = "60000", Valid::AtLeast(0), Served, [],
        "The longest that a fetch waits for records, whatever the client allows.";

    // Topics.
    auto_create_topics_enable: bool, "auto.create.topics.enable" = "true", Valid::Any, Served, [],
        "Whether a client's interest in an unknown topic creates it.";
    delete_topic_enable: bool, "delete.topic.enable" = "true", Valid::Any, Served, [], "Whether topics can be deleted.";
    num_partitions: i32, "num.partitions" = "1", Valid::AtLeast(1), Served, [], "Partitions of a topic whose creator names no number.";
    default_replication_factor: i16, "default.replication.factor" = "1", Valid::AtLeast(1), Served, [],
        "Replicas of a partition whose creator names no number.";
    min_insync_replicas: i32, "min.insync.replicas" = "1", Valid::AtLeast(1), Served, [],
        "Default of the topics' min.insync.replicas.";
    message_max_bytes: i32, "message.max.bytes" = "1048588", Valid::AtLeast(0), Served, [],
        "Default of the topics' max.message.bytes.";
    log_message_timestamp_type: TimestampType, "log.message.timestamp.type" = "CreateTime", Valid::OneOf(TimestampType::NAMES), Served, [],
        "Default of the topics' message.timestamp.type.";
    log_message_timestamp_before_max_ms: i64, "log.message.timestamp.before.max.ms" = "9223372036854775807", Valid::AtLeast(0), Served, [],
        "Default of the topics' message.timestamp.before.max.ms.";
    log_message_timestamp_after_max_ms: i64, "log.message.timestamp.after.max.ms" = "3600000", Valid::AtLeast(0), Served, [],
        "Default of the topics' message.timestamp.after.max.ms.";

    // Storage.
    log_dir_segment_bytes: i64, "log.dir.segment.bytes" = "536870912", Valid::Between(16_777_216, 4_294_967_296), Served, [],
        "The size at which a log dir starts a new segment file. It bounds the work after a crash.";
    tail_cache_bytes: i64, "tail.cache.bytes" = "50331648", Valid::AtLeast(0), Served, [],
        "Memory for recent batches, from which live consumers are served.";
    block_cache_bytes: i64, "block.cache.bytes" = "33554432", Valid::AtLeast(0), Served, [],
        "Memory for blocks of older segments, from which cold readers are served.";
    view_cache_bytes: i64, "view.cache.bytes" = "16777216", Valid::AtLeast(0), Served, [],
        "Memory for what views have made of batches, so that readers of one view pay once.";
    log_cleanup_policy: CleanupPolicy, "log.cleanup.policy" = "delete", Valid::EachOf(CleanupPolicy::NAMES), Served, [],
        "Default of the topics' cleanup.policy.";
    log_retention_bytes: i64, "log.retention.bytes" = "-1", Valid::AtLeast(-1), Served, [], "Default of the topics' retention.bytes.";
    log_retention_hours: i32, "log.retention.hours" = "168", Valid::AtLeast(-1), Served, [], "Default of the topics' retention.ms, in hours.";
    log_retention_minutes: Option<i32>, "log.retention.minutes" = null, Valid::AtLeast(-1), Served, [],
        "Default of the topics' retention.ms, in minutes; outranks log.retention.hours.";
    log_retention_ms: Option<i64>, "log.retention.ms" = null, Valid::AtLeast(-1), Served, [],
        "Default of the topics' retention.ms; outranks log.retention.minutes.";
    log_retention_check_interval_ms: i64, "log.retention.check.interval.ms" = "300000", Valid::AtLeast(1), Served, [],
        "How often retention is enforced.";
    log_scrub_interval_ms: i64, "log.scrub.interval.ms" = "604800000", Valid::AtLeast(-1), Served, [],
        "How often the record batches on disk are read to check them; -1 is never.";
    log_scrub_bytes_per_second: i64, "log.scrub.bytes.per.second" = "8388608", Valid::AtLeast(1), Served, [],
        "How fast a scrub reads, all log dirs together.";

    log_cleaner_backoff_ms: i64, "log.cleaner.backoff.ms" = "15000", Valid::AtLeast(1), Served, [],
        "How often partitions are looked for that are due to be compacted.";
    log_cleaner_dedupe_buffer_size: i64, "log.cleaner.dedupe.buffer.size" = "33554432", Valid::AtLeast(65536), Served, [],
        "Memory for the keys of a partition that is compacted, 64 bytes each; with more keys it is read more than once.";

    // Groups.
    offsets_topic_num_partitions: i32, "offsets.topic.num.partitions" = "50", Valid::AtLeast(1), Served, [],
        "Partitions of __consumer_offsets, when it is created.";
    offsets_topic_replication_factor: i16, "offsets.topic.replication.factor" = "1", Valid::AtLeast(1), Served, [],
        "Replicas of __consumer_offsets, when it is created. 1 as in Kafka's shipped server.properties, not 3 as in its code.";
    offsets_topic_segment_bytes: i32, "offsets.topic.segment.bytes" = "104857600", Valid::AtLeast(1_048_576), Served, [],
        "segment.bytes of __consumer_offsets, when it is created: small, so that it is compacted soon and read fast.";
    offsets_retention_minutes: i32, "offsets.retention.minutes" = "10080", Valid::AtLeast(1), Served, [],
        "How long the offsets of a group without members are kept.";
    offsets_retention_check_interval_ms: i64, "offsets.retention.check.interval.ms" = "600000", Valid::AtLeast(1), Served, [],
        "How often expired offsets are looked for.";
    offset_metadata_max_bytes: i32, "offset.metadata.max.bytes" = "4096", Valid::AtLeast(0), Served, [],
        "The longest metadata string of a committed offset.";
    group_min_session_timeout_ms: i32, "group.min.session.timeout.ms" = "6000", Valid::AtLeast(1), Served, [],
        "The shortest session timeout that a member may ask for.";
    group_max_session_timeout_ms: i32, "group.max.session.timeout.ms" = "1800000", Valid::AtLeast(1), Served, [],
        "The longest session timeout that a member may ask for.";
    group_initial_rebalance_delay_ms: i32, "group.initial.rebalance.delay.ms" = "0", Valid::AtLeast(0), Served, [],
        "How long a new group waits for more members. 0 as in Kafka's shipped server.properties, not 3000 as in its code.";
    group_max_size: i32, "group.max.size" = "10000", Valid::AtLeast(1), Served, [], "Members of a group.";

    // Producers.
    producer_id_expiration_ms: i32, "producer.id.expiration.ms" = "86400000", Valid::AtLeast(1), Served, [],
        "How long a partition remembers an idempotent producer that is silent.";

    // Further defaults of topic configurations; those that are accepted have no effect, so that a Kafka broker's
    // file loads.
    compression_type: CompressionType, "compression.type" = "producer", Valid::OneOf(CompressionType::NAMES), Accepted, [],
        "Default of the topics' compression.type.";
    compression_gzip_level: i32, "compression.gzip.level" = "-1", Valid::Between(-1, 9), Accepted, [],
        "Default of the topics' compression.gzip.level.";
    compression_lz4_level: i32, "compression.lz4.level" = "9", Valid::Between(1, 17), Accepted, [],
        "Default of the topics' compression.lz4.level.";
    compression_zstd_level: i32, "compression.zstd.level" = "3", Valid::Between(-131_072, 22), Accepted, [],
        "Default of the topics' compression.zstd.level.";
    log_cleaner_delete_retention_ms: i64, "log.cleaner.delete.retention.ms" = "86400000", Valid::AtLeast(0), Served, [],
        "Default of the topics' delete.retention.ms.";
    log_cleaner_max_compaction_lag_ms: i64, "log.cleaner.max.compaction.lag.ms" = "9223372036854775807", Valid::AtLeast(1), Served, [],
        "Default of the topics' max.compaction.lag.ms.";
    log_cleaner_min_cleanable_ratio: f64, "log.cleaner.min.cleanable.ratio" = "0.5", Valid::Ratio, Served, [],
        "Default of the topics' min.cleanable.dirty.ratio.";
    log_cleaner_min_compaction_lag_ms: i64, "log.cleaner.min.compaction.lag.ms" = "0", Valid::AtLeast(0), Served, [],
        "Default of the topics' min.compaction.lag.ms.";
    log_flush_interval_messages: i64, "log.flush.interval.messages" = "9223372036854775807", Valid::AtLeast(1), Accepted, [],
        "Default of the topics' flush.messages.";
    log_flush_interval_ms: Option<i64>, "log.flush.interval.ms" = null, Valid::AtLeast(0), Accepted, [],
        "Default of the topics' flush.ms.";
    log_index_interval_bytes: i32, "log.index.interval.bytes" = "4096", Valid::AtLeast(0), Accepted, [],
        "Default of the topics' index.interval.bytes.";
    log_index_size_max_bytes: i32, "log.index.size.max.bytes" = "10485760", Valid::AtLeast(4), Accepted, [],
        "Default of the topics' segment.index.bytes.";
    log_local_retention_bytes: i64, "log.local.retention.bytes" = "-2", Valid::AtLeast(-2), Accepted, [],
        "Default of the topics' local.retention.bytes.";
    log_local_retention_ms: i64, "log.local.retention.ms" = "-2", Valid::AtLeast(-2), Accepted, [],
        "Default of the topics' local.retention.ms.";
    log_preallocate: bool, "log.preallocate" = "false", Valid::Any, Accepted, [], "Default of the topics' preallocate.";
    log_roll_hours: i32, "log.roll.hours" = "168", Valid::AtLeast(1), Served, [], "Default of the topics' segment.ms, in hours.";
    log_roll_ms: Option<i64>, "log.roll.ms" = null, Valid::AtLeast(1), Served, [],
        "Default of the topics' segment.ms; outranks log.roll.hours.";
    log_roll_jitter_hours: i32, "log.roll.jitter.hours" = "0", Valid::AtLeast(0), Accepted, [],
        "Default of the topics' segment.jitter.ms, in hours.";
    log_roll_jitter_ms: Option<i64>, "log.roll.jitter.ms" = null, Valid::AtLeast(0), Accepted, [],
        "Default of the topics' segment.jitter.ms; outranks log.roll.jitter.hours.";
    log_segment_bytes: i32, "log.segment.bytes" = "1073741824", Valid::AtLeast(1_048_576), Served, [],
        "Default of the topics' segment.bytes.";
    log_segment_delete_delay_ms: i64, "log.segment.delete.delay.ms" = "60000", Valid::AtLeast(0), Accepted, [],
        "Default of the topics' file.delete.delay.ms.";
    unclean_leader_election_enable: bool, "unclean.leader.election.enable" = "false", Valid::Any, Accepted, [],
        "Default of the topics' unclean.leader.election.enable.";
}

/// Log dirs where `log.dirs` names none.
const LOG_DIRS_DEFAULT: [&str; 2] = ["log-0", "log-1"];

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::from_texts(|_| None)
    }
}

impl BrokerConfig {
    /// Defaults and these settings, each key once.
    pub fn from_flags(flags: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let mut explicit = BTreeMap::new();
        for (name, value) in flags {
            let def = broker_config(name)?;
            def.validate(value)?;
            explicit.insert(def.name, Setting { value: (*value).to_owned(), origin: Origin::Flag });
        }
        Self::from_settings(explicit)
    }

    /// Settings that have been validated one by one.
    pub(super) fn from_settings(explicit: BTreeMap<&'static str, Setting>) -> Result<Self, ConfigError> {
        let mut config = Self::from_texts(|key| {
            let older = || if key == "node.id" { explicit.get("broker.id") } else { None };
            explicit.get(key).or_else(older).map(|setting| setting.value.clone())
        });
        config.explicit = explicit;
        config.validate()?;
        Ok(config)
    }

    pub fn id(&self) -> BrokerId {
        BrokerId(self.node_id)
    }

    /// The directories that hold partitions.
    pub fn log_dir_paths(&self) -> Vec<PathBuf> {
        match &self.log_dirs {
            Some(dirs) => dirs.clone(),
            None => LOG_DIRS_DEFAULT.iter().map(|name| self.data_dir.join(name)).collect(),
        }
    }

    /// The addresses that clients are told to connect to.
    pub fn advertised(&self) -> &[Listener] {
        self.advertised_listeners.as_deref().unwrap_or(&self.listeners)
    }

    /// The list of trusted keys, if every plugin must be signed with one of them.
    pub fn signature_keys(&self) -> Option<&PathBuf> {
        match self.plugin_signature_policy {
            SignaturePolicy::None => None,
            SignaturePolicy::Required => self.plugin_signature_keys.as_ref(),
        }
    }

    /// A key's value where something other than its default sets it.
    pub fn explicit_value(&self, name: &str) -> Option<&str> {
        self.explicit.get(name).map(|setting| setting.value.as_str())
    }

    /// What no single key's range can say.
    fn validate(&self) -> Result<(), ConfigError> {
        let conflict = |name, conflict| {
            let value = self.explicit_value(name).unwrap_or_default().to_owned();
            Err(ConfigError::Conflict { name, value, conflict })
        };
        if self.broker_id.is_some_and(|id| id != self.node_id) {
            return conflict("broker.id", "differs from node.id");
        }
        if self.listeners.is_empty() {
            return conflict("listeners", "leaves the broker without a listener");
        }
        if self.advertised_listeners.as_ref().is_some_and(Vec::is_empty) {
            return conflict("advertised.listeners", "leaves clients without an address");
        }
        if self.log_dirs.as_ref().is_some_and(Vec::is_empty) {
            return conflict("log.dirs", "leaves the broker without a log dir");
        }
        if self.plugin_signature_policy == SignaturePolicy::Required && self.plugin_signature_keys.is_none() {
            return conflict(
                "plugin.signature.policy",
                "leaves nobody to trust without plugin.signature.keys",
            );
        }
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms {
            return conflict("group.min.session.timeout.ms", "is more than group.max.session.timeout.ms");
        }
        Ok(())
    }
}

/// The definition of a broker key.
pub(super) fn broker_config(name: &str) -> Result<&'static ConfigDef, ConfigError> {
    BROKER_CONFIGS.iter().find(|def| def.name == name).ok_or_else(|| ConfigError::Unknown {
        name: name.to_owned(),
        nearest: nearest(name, BROKER_CONFIGS.iter().map(|def| def.name)),
    })
}
