//! What makes one port differ from another, and the limits that all have.

use std::sync::Arc;
use std::time::Duration;

/// Answers ahead of the stage, the one that is on its way included.
pub(crate) const FETCHES_AHEAD_MAX: usize = 2;

/// Most bytes of one fetch. The first batch comes whole, however large: `max.message.bytes` bounds it.
pub(crate) const FETCH_BYTES_MAX: i32 = 4 << 20;

/// Most bytes of one partition in a fetch, so that a busy one does not crowd out the others.
pub(crate) const FETCH_PARTITION_BYTES_MAX: i32 = 1 << 20;

/// How long the broker holds a fetch that has nothing to bring.
pub(crate) const FETCH_WAIT_MAX: Duration = Duration::from_millis(500);

/// Most bytes of one Produce request, unless a single batch is larger.
pub(crate) const PRODUCE_BYTES_MAX: usize = 16 << 20;

/// Produce requests on the way at once: as many batches of a partition as a broker remembers for each producer.
pub(crate) const PRODUCES_IN_FLIGHT_MAX: usize = 5;

/// How long an operation that fails with a retriable error is tried again before the stage hears of it.
pub(crate) const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long leaving the group may hold up the end of a port. If it fails, the session times out instead.
pub(crate) const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the group's leader looks whether a subscribed topic appeared, or has new partitions.
pub(crate) const METADATA_MAX_AGE: Duration = Duration::from_secs(10);

/// How often a member says that it is there.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

const ANONYMOUS: &str = "User:ANONYMOUS";

/// Longest instance id that Kafka accepts.
const INSTANCE_ID_BYTES_MAX: usize = 249;

/// One member of one group.
#[derive(Debug, Clone)]
pub(crate) struct PortConfig {
    pub(crate) client_id: String,
    /// Principals: who reads and commits, and who writes.
    pub(crate) reads_as: String,
    pub(crate) writes_as: String,
    pub(crate) group_id: String,
    /// A member with one takes its own place again after a crash, and nobody waits for the old one's session.
    pub(crate) group_instance_id: Option<String>,
    pub(crate) topics: Vec<Arc<str>>,
    /// After this long without a heartbeat the group goes on without the member.
    pub(crate) session_timeout: Duration,
    /// How long a stage may take to finish what it has in flight when the group wants to share anew.
    pub(crate) rebalance_timeout: Duration,
}

impl PortConfig {
    pub(crate) fn new(client_id: &str, group_id: &str, topics: Vec<Arc<str>>) -> Self {
        Self {
            client_id: client_id.to_owned(),
            reads_as: ANONYMOUS.to_owned(),
            writes_as: ANONYMOUS.to_owned(),
            group_id: group_id.to_owned(),
            group_instance_id: None,
            topics,
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(30),
        }
    }

    /// Without an instance id that Kafka would refuse: the member then has no place of its own, but it works.
    pub(super) fn with_valid_instance_id(mut self) -> Self {
        let is_valid = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        if let Some(id) = &self.group_instance_id
            && (id.is_empty() || id.len() > INSTANCE_ID_BYTES_MAX || !id.chars().all(is_valid))
        {
            tracing::warn!(
                group_instance_id = id,
                "Kafka does not accept this instance id: going on without"
            );
            self.group_instance_id = None;
        }
        self
    }
}

/// A duration as requests carry it.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_what_kafka_accepts_or_none() {
        let check = |id: &str, kept: bool| {
            let mut config = PortConfig::new("client", "group", Vec::new());
            config.group_instance_id = Some(id.to_owned());
            assert_eq!(config.with_valid_instance_id().group_instance_id.is_some(), kept, "{id:?}");
        };
        check("node-1-logs.parse_0", true);
        check("node-1-my logs-0", false);
        check("", false);
        check(&"x".repeat(249), true);
        check(&"x".repeat(250), false);
    }
}
