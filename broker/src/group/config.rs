//! What an operator can set for groups, under Kafka's names.

use std::time::Duration;

use crate::config::BrokerConfig;

/// Settings of the group coordinator. Each field's doc names the broker setting it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members than the first.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`. Kafka's default is no limit; a limit keeps one group from taking the memory.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval: Duration,
}

/// How long a new member's parked JoinGroup counts as a sign of life: it can't send heartbeats yet.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Members that were given an id and have not joined with it, per group.
pub(super) const PENDING_MEMBERS_MAX: usize = 10_000;

/// What a client's name contributes to a member's id, which is kept for clients that never join with it, too.
pub(super) const MEMBER_ID_PREFIX_BYTES_MAX: usize = 256;

/// What a member's protocols may take together: the group's record has to fit one batch anyway.
pub(super) const MEMBER_PROTOCOLS_BYTES_MAX: usize = 1 << 20;

/// What the protocols of a group's members may take together: the leader is sent all of them at once.
pub(super) const GROUP_PROTOCOLS_BYTES_MAX: usize = 64 << 20;

/// What a name that a client chooses may take. Records hold names of up to 32,767 bytes.
pub(super) const NAME_BYTES_MAX: usize = 32_000;

/// Groups per partition of `__consumer_offsets`.
pub(super) const GROUPS_MAX: usize = 1 << 16;

impl GroupConfig {
    pub fn new(config: &BrokerConfig) -> Self {
        let millis = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Self {
            min_session_timeout_ms: config.group_min_session_timeout_ms,
            max_session_timeout_ms: config.group_max_session_timeout_ms,
            initial_rebalance_delay: millis(config.group_initial_rebalance_delay_ms.into()),
            max_size: config.group_max_size.unsigned_abs() as usize,
            offset_metadata_max_bytes: config.offset_metadata_max_bytes.unsigned_abs() as usize,
            offsets_retention: millis(i64::from(config.offsets_retention_minutes) * 60_000),
            offsets_retention_check_interval: millis(config.offsets_retention_check_interval_ms),
        }
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay: Duration::ZERO,
            max_size: 10_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
        }
    }
}
