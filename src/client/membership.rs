//! One life in the group: find the coordinator, join, sync, heartbeat, leave.

mod after_error;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_wire::find_coordinator_request::FindCoordinatorRequest;
use millstream_wire::heartbeat_request::HeartbeatRequest;
use millstream_wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use millstream_wire::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use millstream_wire::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use millstream_wire::{ApiKey, ErrorCode};

use millstream_runtime::stage::TopicPartition;

use super::config::{PortConfig, millis};
use super::connection::{Connection, REQUEST_TIMEOUT};
use super::consumer_protocol::{
    PROTOCOL_TYPE, RANGE, decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
use super::error::{ClientError, check};
use super::range_assignor::{self, Subscriber};
use super::topics::partition_counts;
use super::transport::Transport;

pub(crate) use self::after_error::AfterError;

/// FindCoordinator's word for groups.
const KEY_TYPE_GROUP: i8 = 0;

/// What a member has been given for as long as nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) member_id: String,
    pub(crate) generation_id: i32,
    pub(crate) partitions: Vec<TopicPartition>,
    /// For the leader: the topics of all members, and how many partitions each had when they were shared.
    pub(crate) shared_topics: Option<SharedTopics>,
}

/// What the leader has shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedTopics {
    topics: BTreeSet<String>,
    counts: BTreeMap<String, i32>,
}

/// The answer to a JoinGroup, in our words.
struct Joined {
    generation_id: i32,
    member_id: String,
    protocol_name: Option<String>,
    /// For the leader: everyone. The coordinator sends others nothing.
    members: Vec<(String, Option<String>, Bytes)>,
    is_leader: bool,
    /// The leader came back as a static member, and the group keeps its assignment.
    skip_assignment: bool,
}

/// Speaks to the coordinator for one member.
pub(crate) struct GroupClient<T> {
    pub(crate) connection: Arc<Connection<T>>,
    pub(crate) config: Arc<PortConfig>,
}

impl<T: Transport> GroupClient<T> {
    /// Waits for nothing: an error says that the coordinator is not there yet.
    pub(crate) async fn find_coordinator(&self) -> Result<(), ClientError> {
        let request = FindCoordinatorRequest {
            key: Cow::Borrowed(&self.config.group_id),
            key_type: KEY_TYPE_GROUP,
            ..Default::default()
        };
        let code = self.connection.call(&request, |response, _| response.error_code).await?;
        check(ApiKey::FindCoordinator, code)
    }

    /// Joins, as the member of that id or as a new one, and comes back with what the group's leader gave. Sets
    /// `member_id` as soon as it is known, so that leaving is possible whatever comes after.
    pub(crate) async fn join(&self, member_id: &mut String) -> Result<Membership, ClientError> {
        let joined = self.join_group(member_id).await?;
        member_id.clone_from(&joined.member_id);
        let (assignments, shared_topics) =
            if joined.is_leader { self.share(&joined).await? } else { (Vec::new(), None) };
        let assignment = self.sync_group(&joined, assignments).await?;
        let partitions = decode_assignment(&assignment)?;
        let Joined { member_id, generation_id, .. } = joined;
        Ok(Membership { member_id, generation_id, partitions, shared_topics })
    }

    async fn join_group(&self, member_id: &mut String) -> Result<Joined, ClientError> {
        let metadata = encode_subscription(&self.config.topics)?;
        let mut named_by_coordinator = false;
        loop {
            let request = self.join_request(member_id, &metadata);
            // The coordinator waits for the slowest member.
            let timeout = self.config.rebalance_timeout + REQUEST_TIMEOUT;
            let answer =
                self.connection.call_within(timeout, &request, |response, _| match response.error_code {
                    ErrorCode::NONE => Ok(Joined {
                        generation_id: response.generation_id,
                        is_leader: response.leader == response.member_id,
                        member_id: response.member_id.into_owned(),
                        protocol_name: response.protocol_name.map(Cow::into_owned),
                        members: response
                            .members
                            .into_iter()
                            .map(|member| {
                                let instance = member.group_instance_id.map(Cow::into_owned);
                                let metadata = Bytes::copy_from_slice(&member.metadata);
                                (member.member_id.into_owned(), instance, metadata)
                            })
                            .collect(),
                        skip_assignment: response.skip_assignment,
                    }),
                    code => Err((code, response.member_id.into_owned())),
                });
            match answer.await? {
                Ok(joined) => return Ok(joined),
                // The coordinator gives a new member its id before it lets it in (KIP-394).
                Err((ErrorCode::MEMBER_ID_REQUIRED, given)) if !named_by_coordinator => {
                    named_by_coordinator = true;
                    *member_id = given;
                }
                Err((code, _)) => return Err(ClientError::Refused { key: ApiKey::JoinGroup, code }),
            }
        }
    }

    fn join_request<'a>(&'a self, member_id: &'a str, metadata: &'a [u8]) -> JoinGroupRequest<'a> {
        let protocol = JoinGroupRequestProtocol { name: RANGE.into(), metadata: Cow::Borrowed(metadata) };
        JoinGroupRequest {
            group_id: Cow::Borrowed(&self.config.group_id),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: Cow::Borrowed(member_id),
            group_instance_id: self.group_instance_id(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: vec![protocol],
            reason: None,
        }
    }

    /// The leader's part: gives each member its partitions.
    async fn share(
        &self,
        joined: &Joined,
    ) -> Result<(Vec<(String, Bytes)>, Option<SharedTopics>), ClientError> {
        let mut subscribers = Vec::with_capacity(joined.members.len());
        for (member_id, group_instance_id, metadata) in &joined.members {
            // One member's nonsense must not keep the others from their partitions: it gets none.
            let topics = decode_subscription(metadata).unwrap_or_else(|error| {
                tracing::warn!(member_id, %error, "a member's subscription is unreadable");
                Vec::new()
            });
            let (member_id, group_instance_id) = (member_id.clone(), group_instance_id.clone());
            subscribers.push(Subscriber { member_id, group_instance_id, topics });
        }
        let topics: BTreeSet<String> =
            subscribers.iter().flat_map(|subscriber| subscriber.topics.iter().cloned()).collect();
        let counts = partition_counts(&self.connection, topics.iter().map(String::as_str)).await?;
        let mut assignments = Vec::new();
        if !joined.skip_assignment {
            for (member_id, partitions) in
                range_assignor::assign(&subscribers, |topic| counts.get(topic).copied())
            {
                assignments.push((member_id, encode_assignment(&partitions)?));
            }
        }
        Ok((assignments, Some(SharedTopics { topics, counts })))
    }

    async fn sync_group(
        &self,
        joined: &Joined,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<Bytes, ClientError> {
        let protocol_name = joined.protocol_name.as_deref().unwrap_or(RANGE);
        let assignments = assignments.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment {
            member_id: Cow::Borrowed(member_id),
            assignment: Cow::Borrowed(assignment),
        });
        let request = SyncGroupRequest {
            group_id: Cow::Borrowed(&self.config.group_id),
            generation_id: joined.generation_id,
            member_id: Cow::Borrowed(&joined.member_id),
            group_instance_id: self.group_instance_id(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(Cow::Borrowed(protocol_name)),
            assignments: assignments.collect(),
        };
        // The answer waits for the leader's.
        let timeout = self.config.rebalance_timeout + REQUEST_TIMEOUT;
        let (code, assignment) = self
            .connection
            .call_within(timeout, &request, |response, _| {
                (response.error_code, Bytes::copy_from_slice(&response.assignment))
            })
            .await?;
        check(ApiKey::SyncGroup, code)?;
        Ok(assignment)
    }

    pub(crate) async fn heartbeat(&self, membership: &Membership) -> Result<(), ClientError> {
        let request = HeartbeatRequest {
            group_id: Cow::Borrowed(&self.config.group_id),
            generation_id: membership.generation_id,
            member_id: Cow::Borrowed(&membership.member_id),
            group_instance_id: self.group_instance_id(),
        };
        // An answer that comes after the session has ended is of no use.
        let timeout = self.config.session_timeout;
        let code = self.connection.call_within(timeout, &request, |response, _| response.error_code).await?;
        check(ApiKey::Heartbeat, code)
    }

    /// Whether what the leader has shared is no longer all there is to share.
    pub(crate) async fn has_changed(&self, shared: &SharedTopics) -> Result<bool, ClientError> {
        let counts = partition_counts(&self.connection, shared.topics.iter().map(String::as_str)).await?;
        Ok(counts != shared.counts)
    }

    pub(crate) async fn leave(&self, member_id: &str) -> Result<(), ClientError> {
        let identity = MemberIdentity {
            member_id: Cow::Borrowed(member_id),
            group_instance_id: self.group_instance_id(),
            reason: None,
        };
        let request = LeaveGroupRequest {
            group_id: Cow::Borrowed(&self.config.group_id),
            members: vec![identity],
            ..Default::default()
        };
        let code = self.connection.call(&request, |response, _| {
            let of_member = response.members.first().map_or(ErrorCode::NONE, |member| member.error_code);
            if response.error_code.is_error() { response.error_code } else { of_member }
        });
        check(ApiKey::LeaveGroup, code.await?)
    }

    fn group_instance_id(&self) -> Option<Cow<'_, str>> {
        self.config.group_instance_id.as_deref().map(Cow::Borrowed)
    }
}
