//! One member of a classic group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::record::MemberMetadata;
use super::{GroupInstanceId, JoinGroup, MemberDescription, MemberId, Protocol, Token};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) instance_id: Option<GroupInstanceId>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) timeouts: MemberTimeouts,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// The parked JoinGroup: the member has joined the rebalance under way.
    pub(super) awaiting_join: Option<Token>,
    /// The parked SyncGroup: the member waits for its leader's assignment.
    pub(super) awaiting_sync: Option<Token>,
    /// It has not completed a join yet, so a parked join keeps it alive for a limited time only.
    pub(super) is_new: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberTimeouts {
    pub(super) session_ms: i32,
    pub(super) rebalance_ms: i32,
}

impl MemberTimeouts {
    pub(super) fn session(self) -> Duration {
        // At least a millisecond, whatever a record says: a deadline that is never reached or always past
        // would make no progress.
        Duration::from_millis(self.session_ms.max(1) as u64)
    }

    pub(super) fn rebalance(self) -> Duration {
        Duration::from_millis(self.rebalance_ms.max(0) as u64)
    }
}

impl Member {
    pub(super) fn new(id: MemberId, request: &JoinGroup) -> Self {
        Self {
            id,
            instance_id: request.group_instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            timeouts: MemberTimeouts {
                session_ms: request.session_timeout_ms,
                rebalance_ms: request.rebalance_timeout_ms,
            },
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
        }
    }

    pub(super) fn restore(metadata: MemberMetadata, protocol_name: Arc<str>) -> Self {
        Self {
            id: metadata.member_id,
            instance_id: metadata.group_instance_id,
            client_id: metadata.client_id,
            client_host: metadata.client_host,
            timeouts: MemberTimeouts {
                session_ms: metadata.session_timeout_ms,
                rebalance_ms: metadata.rebalance_timeout_ms,
            },
            protocols: vec![Protocol { name: protocol_name, metadata: metadata.subscription }],
            assignment: metadata.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    pub(super) fn metadata(&self, protocol_name: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|protocol| Some(&*protocol.name) == protocol_name)
            .map(|protocol| protocol.metadata.clone())
            .unwrap_or_default()
    }

    /// A member that waits for the rest of its group is alive although it sends no heartbeats.
    pub(super) fn satisfies_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub(super) fn describe(&self, protocol_name: Option<&str>) -> MemberDescription {
        let stable = protocol_name.is_some();
        MemberDescription {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol_name),
            assignment: if stable { self.assignment.clone() } else { Bytes::new() },
        }
    }

    pub(super) fn as_metadata(&self, protocol_name: Option<&str>, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.timeouts.rebalance_ms,
            session_timeout_ms: self.timeouts.session_ms,
            subscription: self.metadata(protocol_name),
            assignment,
        }
    }
}
