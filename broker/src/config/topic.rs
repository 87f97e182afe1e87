//! The topic half of the table: every topic configuration of Kafka 4.3, and the typed view of it.

use std::collections::BTreeMap;

use super::broker::BrokerConfig;
use super::definition::{ConfigDef, ConfigError, Synonym, Valid, nearest};
use super::value::{CleanupPolicy, CompressionType, TimestampType};

/// What a topic sets itself: key to value, as clients wrote it.
pub type TopicConfigs = BTreeMap<String, String>;

config_table! {
    /// A topic's effective configuration: its own value, else the broker's, else the default.
    pub struct TopicConfig, TOPIC_CONFIGS;

    cleanup_policy: CleanupPolicy, "cleanup.policy" = "delete", Valid::EachOf(CleanupPolicy::NAMES), Served,
        ["log.cleanup.policy" Same],
        "What removes old records: `delete` by time and size, `compact` all but the last of a key.";
    compression_type: CompressionType, "compression.type" = "producer", Valid::OneOf(CompressionType::NAMES), Accepted,
        ["compression.type" Same],
        "The codec of batches in the log. Batches keep the producer's codec.";
    compression_gzip_level: i32, "compression.gzip.level" = "-1", Valid::Between(-1, 9), Accepted,
        ["compression.gzip.level" Same], "The level where the broker compresses with gzip.";
    compression_lz4_level: i32, "compression.lz4.level" = "9", Valid::Between(1, 17), Accepted,
        ["compression.lz4.level" Same], "The level where the broker compresses with lz4.";
    compression_zstd_level: i32, "compression.zstd.level" = "3", Valid::Between(-131_072, 22), Accepted,
        ["compression.zstd.level" Same], "The level where the broker compresses with zstd.";
    delete_retention_ms: i64, "delete.retention.ms" = "86400000", Valid::AtLeast(0), Served,
        ["log.cleaner.delete.retention.ms" Same], "How long a compacted topic keeps the marker of a deleted key.";
    file_delete_delay_ms: i64, "file.delete.delay.ms" = "60000", Valid::AtLeast(0), Accepted,
        ["log.segment.delete.delay.ms" Same], "How long a removed segment stays on disk. Segments are shared by partitions and unlinked at once.";
    flush_messages: i64, "flush.messages" = "9223372036854775807", Valid::AtLeast(1), Accepted,
        ["log.flush.interval.messages" Same], "Records between syncs. Every acknowledged record is synced.";
    flush_ms: i64, "flush.ms" = "9223372036854775807", Valid::AtLeast(0), Accepted,
        ["log.flush.interval.ms" Same], "Time between syncs. Every acknowledged record is synced.";
    follower_replication_throttled_replicas: Vec<String>, "follower.replication.throttled.replicas" = "",
        Valid::ThrottledReplicas, Accepted, [], "Replicas whose fetching is throttled, as partition:broker pairs, or `*`.";
    index_interval_bytes: i32, "index.interval.bytes" = "4096", Valid::AtLeast(0), Accepted,
        ["log.index.interval.bytes" Same], "Bytes between index entries. Every batch is indexed.";
    leader_replication_throttled_replicas: Vec<String>, "leader.replication.throttled.replicas" = "",
        Valid::ThrottledReplicas, Accepted, [], "Replicas that the leader throttles, as partition:broker pairs, or `*`.";
    local_retention_bytes: i64, "local.retention.bytes" = "-2", Valid::AtLeast(-2), Accepted,
        ["log.local.retention.bytes" Same], "Bytes kept locally under tiered storage; -2 follows retention.bytes.";
    local_retention_ms: i64, "local.retention.ms" = "-2", Valid::AtLeast(-2), Accepted,
        ["log.local.retention.ms" Same], "Time kept locally under tiered storage; -2 follows retention.ms.";
    max_compaction_lag_ms: i64, "max.compaction.lag.ms" = "9223372036854775807", Valid::AtLeast(1), Served,
        ["log.cleaner.max.compaction.lag.ms" Same], "The longest that a record of a compacted topic stays uncompacted.";
    max_message_bytes: i32, "max.message.bytes" = "1048588", Valid::AtLeast(0), Served,
        ["message.max.bytes" Same], "The largest record batch that is accepted, compressed.";
    message_timestamp_after_max_ms: i64, "message.timestamp.after.max.ms" = "3600000", Valid::AtLeast(0), Served,
        ["log.message.timestamp.after.max.ms" Same], "How far a record's timestamp may lie in the broker's future.";
    message_timestamp_before_max_ms: i64, "message.timestamp.before.max.ms" = "9223372036854775807", Valid::AtLeast(0), Served,
        ["log.message.timestamp.before.max.ms" Same], "How far a record's timestamp may lie in the broker's past.";
    message_timestamp_type: TimestampType, "message.timestamp.type" = "CreateTime", Valid::OneOf(TimestampType::NAMES), Served,
        ["log.message.timestamp.type" Same], "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).";
    min_cleanable_dirty_ratio: f64, "min.cleanable.dirty.ratio" = "0.5", Valid::Ratio, Served,
        ["log.cleaner.min.cleanable.ratio" Same], "The share of uncompacted bytes from which compaction starts.";
    min_compaction_lag_ms: i64, "min.compaction.lag.ms" = "0", Valid::AtLeast(0), Served,
        ["log.cleaner.min.compaction.lag.ms" Same], "The least time that a record stays uncompacted.";
    min_insync_replicas: i32, "min.insync.replicas" = "1", Valid::AtLeast(1), Served,
        ["min.insync.replicas" Same], "In-sync replicas that a produce with acks=all needs.";
    preallocate: bool, "preallocate" = "false", Valid::Any, Accepted,
        ["log.preallocate" Same], "Whether segment files are created at full size.";
    remote_log_copy_disable: bool, "remote.log.copy.disable" = "false", Valid::Any, Accepted, [],
        "Whether copying to tiered storage stops.";
    remote_log_delete_on_disable: bool, "remote.log.delete.on.disable" = "false", Valid::Any, Accepted, [],
        "Whether tiered data is deleted when tiered storage is switched off.";
    remote_storage_enable: bool, "remote.storage.enable" = "false", Valid::OneOf(&["false"]), Accepted, [],
        "Tiered storage; not available, so only `false` is accepted.";
    retention_bytes: i64, "retention.bytes" = "-1", Valid::AtLeast(-1), Served,
        ["log.retention.bytes" Same], "Bytes that a partition keeps before the oldest are removed; -1 is no limit.";
    retention_ms: i64, "retention.ms" = "604800000", Valid::AtLeast(-1), Served,
        ["log.retention.ms" Same, "log.retention.minutes" Minutes, "log.retention.hours" Hours],
        "How long records are kept; -1 is for ever.";
    segment_bytes: i32, "segment.bytes" = "1073741824", Valid::AtLeast(1_048_576), Served,
        ["log.segment.bytes" Same], "What a compacted partition may have in the newest segment, which is not compacted. Partitions share segments of log.dir.segment.bytes.";
    segment_index_bytes: i32, "segment.index.bytes" = "10485760", Valid::AtLeast(4), Accepted,
        ["log.index.size.max.bytes" Same], "The size of a segment's index file. The index lies in the segment.";
    segment_jitter_ms: i64, "segment.jitter.ms" = "0", Valid::AtLeast(0), Accepted,
        ["log.roll.jitter.ms" Same, "log.roll.jitter.hours" Hours], "A random part of segment.ms.";
    segment_ms: i64, "segment.ms" = "604800000", Valid::AtLeast(1), Served,
        ["log.roll.ms" Same, "log.roll.hours" Hours], "How long a compacted partition's records stay in the newest segment, which is not compacted.";
    unclean_leader_election_enable: bool, "unclean.leader.election.enable" = "false", Valid::Any, Accepted,
        ["unclean.leader.election.enable" Same], "Whether a replica outside the ISR may lead, at the price of lost records.";
}

/// The definition of a topic key.
pub fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    TOPIC_CONFIGS.iter().find(|def| def.name == name)
}

/// Checks a topic key's name and value, as CreateTopics and AlterConfigs must before they propose it.
pub fn validate_topic_config(name: &str, value: &str) -> Result<(), ConfigError> {
    match topic_config(name) {
        Some(def) => def.validate(value),
        None => {
            let nearest = nearest(name, TOPIC_CONFIGS.iter().map(|def| def.name));
            Err(ConfigError::Unknown { name: name.to_owned(), nearest })
        }
    }
}

impl TopicConfig {
    /// Values that don't pass this version's checks (another version let them in) fall through to the broker's.
    pub fn effective(own: &TopicConfigs, broker: &BrokerConfig) -> Self {
        Self::from_texts(|key| {
            let def = topic_config(key)?;
            own_value(def, own).map(str::to_owned).or_else(|| inherited(def, broker).map(|(_, value)| value))
        })
    }
}

/// The topic's own value, where it has a valid one.
pub(super) fn own_value<'a>(def: &ConfigDef, own: &'a TopicConfigs) -> Option<&'a str> {
    let value = own.get(def.name)?;
    match def.validate(value) {
        Ok(()) => Some(value),
        Err(error) => {
            tracing::warn!(%error, "ignoring a stored topic configuration");
            None
        }
    }
}

/// The first synonym that the broker's configuration sets, and its value in the topic key's unit.
pub(super) fn inherited(def: &ConfigDef, broker: &BrokerConfig) -> Option<(Synonym, String)> {
    def.synonyms.iter().find_map(|synonym| {
        let value = synonym.unit.convert(broker.explicit_value(synonym.name)?);
        Some((*synonym, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `set`: broker keys; `own`: topic keys; what retention and roll times come out.
    fn check(set: &[(&str, &str)], own: &[(&str, &str)], retention_ms: i64, segment_ms: i64) {
        let broker = BrokerConfig::from_flags(set).unwrap();
        let own = own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = TopicConfig::effective(&own, &broker);
        assert_eq!((config.retention_ms, config.segment_ms), (retention_ms, segment_ms));
    }

    #[test]
    fn the_topic_outranks_the_broker_outranks_the_default() {
        let week = 604_800_000;
        check(&[], &[], week, week);
        check(&[("log.retention.hours", "2")], &[], 7_200_000, week);
        check(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")], &[], 180_000, week);
        check(&[("log.retention.minutes", "3"), ("log.retention.ms", "7")], &[], 7, week);
        check(&[("log.retention.ms", "7"), ("log.roll.hours", "1")], &[("retention.ms", "9")], 9, 3_600_000);
        check(&[("log.retention.hours", "-1")], &[], -1, week);
        // A value that another version let in.
        check(&[("log.retention.ms", "7")], &[("retention.ms", "soon")], 7, week);
    }
}
