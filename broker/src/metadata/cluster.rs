//! A broker as a part of a cluster: how it becomes one, what it asks the controller, and what it answers others.
//!
//! The controller is Raft's leader. A broker that joins is a learner; the controller makes voters of learners when there are
//! enough of them for a majority that survives one: three.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::command::{Command, Rejection, Response};
use super::handle::{Metadata, ProposeError};
use super::image::ClusterId;
use super::peer_network::{AddressBook, answer_raft};
use super::raft::Raft;
use super::state_machine::Published;
use super::store::OpenError;
use crate::codec::{self, Encoded};
use crate::ids::BrokerId;
use crate::peer::{Call, Connect, Connection, Hello, Member, PeerError, Service, Welcome};

/// Voters that the controller makes by itself.
const VOTERS: usize = 3;
/// How far behind a learner may be that becomes a voter.
const PROMOTED_LAG_MAX: u64 = 100;
const KEEPER_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts to find the controller.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long a command looks for a controller: an election and a half.
const CONTROLLER_WAIT_MAX: Duration = Duration::from_secs(10);
/// A command is on the disks of a majority long before that, or the controller is gone.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// For what this broker asks of itself, as the others take it for the controller.
const SELF_TIME_MAX: Duration = Duration::from_secs(5);
const JOIN_WARN_INTERVAL: Duration = Duration::from_secs(10);

/// A broker wants to be a member, or is one and says where it is reached now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join {
    member: Member,
    address: String,
}

/// What a request that is the controller's came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ByController<T> {
    Done(T),
    /// Ask this one, if it is known.
    Elsewhere(Option<(BrokerId, String)>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Joined(ByController<Result<(), Rejection>>);

/// With the index of the entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forwarded(ByController<(u64, Result<Response, Rejection>)>);

impl Encoded for Join {
    const KIND: u8 = 17;
}

impl Encoded for Joined {
    const KIND: u8 = 18;
}

impl Encoded for Forwarded {
    const KIND: u8 = 19;
}

impl Call for Join {
    const API_KEY: i16 = 10_004;
    type Response = Joined;
}

impl Call for Command {
    const API_KEY: i16 = 10_005;
    type Response = Forwarded;
}

/// The members' addresses, as the image has them.
pub(super) struct Members(pub(super) watch::Receiver<Published>);

impl AddressBook for Members {
    fn address_of(&self, broker: BrokerId) -> Option<String> {
        Some(self.0.borrow().image.member(broker)?.address.clone())
    }
}

/// Asks brokers of a cluster which one it is.
pub(super) async fn cluster_of(
    connector: &Arc<dyn Connect>,
    addresses: &[String],
    member: Member,
) -> Result<ClusterId, OpenError> {
    let hello = Hello { cluster_id: None, from: member, to: None };
    let mut reasons = Vec::new();
    for address in addresses {
        match Connection::open(connector, address, &hello).await {
            Ok(connection) => return Ok(connection.peer.cluster_id),
            Err(error) => reasons.push(told(&error)),
        }
    }
    Err(OpenError::Join(reasons.join("; ")))
}

fn told(error: &PeerError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How this broker reaches the others.
pub(super) struct Outside {
    pub(super) connector: Arc<dyn Connect>,
    pub(super) member: Member,
    /// Where the others reach it.
    pub(super) address: String,
    /// Brokers that were there before.
    pub(super) join: Vec<String>,
}

impl Metadata {
    /// Makes this broker a member of its cluster, or tells the members where it is. Returns when its own image says so; until
    /// then it must be served what [`Self::service`] answers.
    pub(crate) async fn become_member(&self) -> Result<(), ProposeError> {
        let Outside { member, address, .. } = self.outside();
        let join = Join { member: *member, address: address.clone() };
        let began = self.clock().monotonic();
        let mut told_at = began;
        while let Err(why) = self.joined(&join).await? {
            let now = self.clock().monotonic();
            if now.saturating_sub(told_at) > JOIN_WARN_INTERVAL {
                tracing::warn!(why, "no controller is found that lets this broker into the cluster");
                told_at = now;
            }
            tokio::select! {
                biased;
                () = self.stop().cancelled() => return Err(ProposeError::Stopped("it is shutting down".to_owned())),
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
        }
        let is_known = |published: &Published| {
            published.image.member(member.id).is_some_and(|known| known.address == *address)
        };
        let mut published = self.published();
        let seen = published.wait_for(is_known).await;
        seen.map(drop).map_err(|_| ProposeError::Stopped("the state machine is gone".to_owned()))
    }

    /// `Ok(Err(..))` may be another answer later.
    async fn joined(&self, join: &Join) -> Result<Result<(), String>, ProposeError> {
        // Who is not alone may have led before, and not know yet that it does no more.
        let mut answer = match self.is_alone().await {
            true => self.admit(join).await,
            false => ByController::Elsewhere(None),
        };
        let mut why = "no controller is known".to_owned();
        let mut unasked = self.addresses();
        let mut asked = BTreeSet::new();
        // Whom somebody names is asked next.
        while let ByController::Elsewhere(controller) = answer {
            if controller.as_ref().is_some_and(|(id, _)| *id == join.member.id) {
                match tokio::time::timeout(SELF_TIME_MAX, self.admit(join)).await {
                    Ok(ByController::Done(admitted)) => return Ok(Ok(admitted?)),
                    Ok(ByController::Elsewhere(_)) | Err(_) => {
                        return Ok(Err("this broker leads no more".to_owned()));
                    }
                }
            }
            let named = controller.map(|(_, address)| address).filter(|address| !asked.contains(address));
            let Some(address) = named.or_else(|| unasked.pop()) else { return Ok(Err(why)) };
            unasked.retain(|other| *other != address);
            answer = match self.ask(&address, join).await {
                Ok(Joined(answer)) => answer,
                // It would say the same the next time.
                Err(PeerError::Refused { reason, .. }) => return Err(ProposeError::Refused(reason)),
                Err(error) => {
                    why = told(&error);
                    ByController::Elsewhere(None)
                }
            };
            asked.insert(address);
        }
        match answer {
            ByController::Done(admitted) => Ok(Ok(admitted?)),
            ByController::Elsewhere(_) => unreachable!("it was asked until somebody was the controller"),
        }
    }

    /// Whether it is the only voter.
    async fn is_alone(&self) -> bool {
        let node_id = u64::try_from(self.node_id().0).expect("node.id is not negative");
        let alone = self.raft().with_raft_state(move |state| {
            state.membership_state.effective().membership().voter_ids().eq([node_id])
        });
        alone.await.unwrap_or(false)
    }

    /// Where the others may be.
    fn addresses(&self) -> Vec<String> {
        let Outside { join, member, .. } = self.outside();
        let image = self.image();
        let known = image.members().filter(|other| other.id != member.id).map(|other| other.address.clone());
        let all: BTreeSet<String> = join.iter().cloned().chain(known).collect();
        all.into_iter().collect()
    }

    async fn ask<C: Call>(&self, address: &str, call: &C) -> Result<C::Response, PeerError> {
        let Outside { connector, member, .. } = self.outside();
        let cluster_id = Some(self.image().cluster_id());
        let hello = Hello { cluster_id, from: *member, to: None };
        let mut connection = Connection::open(connector, address, &hello).await?;
        connection.call_within(call, CALL_TIME_MAX).await
    }

    /// Hands a command to the controller, which is another broker.
    pub(super) async fn forward(
        &self,
        command: &Command,
        mut controller: Option<BrokerId>,
    ) -> Result<(u64, Result<Response, Rejection>), ProposeError> {
        let deadline = self.clock().monotonic() + CONTROLLER_WAIT_MAX;
        loop {
            let address = controller.and_then(|id| Some(self.image().member(id)?.address.clone()));
            if let Some(address) = address {
                match self.ask(&address, command).await {
                    Ok(Forwarded(ByController::Done(outcome))) => return Ok(outcome),
                    Ok(Forwarded(ByController::Elsewhere(other))) => controller = other.map(|(id, _)| id),
                    // It has not left this broker.
                    Err(PeerError::Unreachable { .. }) => controller = None,
                    Err(error) => return Err(ProposeError::Unknown(told(&error))),
                }
            }
            if self.clock().monotonic() >= deadline {
                return Err(ProposeError::NotController { leader: controller });
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
            controller = self.controller().filter(|id| *id != self.node_id()).or(controller);
            if self.controller() == Some(self.node_id()) {
                match self.propose_here(command.clone()).await {
                    Err(ProposeError::NotController { leader }) => controller = leader,
                    outcome => return outcome,
                }
            }
        }
    }

    /// Lets a broker into the cluster, if this one is the controller.
    async fn admit(&self, join: &Join) -> ByController<Result<(), Rejection>> {
        let Join { member: Member { id, incarnation }, address } = join.clone();
        let command = Command::PutMember { broker_id: id, incarnation, address: address.clone() };
        match self.propose_here(command).await {
            Ok((_, Ok(_))) => {}
            Ok((_, Err(rejection))) => return ByController::Done(Err(rejection)),
            Err(ProposeError::NotController { leader }) => return self.elsewhere(leader),
            Err(_) => return ByController::Elsewhere(None),
        }
        let node_id = u64::try_from(id.0).expect("nobody else is greeted");
        let known = self.raft().with_raft_state(move |state| {
            state.membership_state.effective().membership().get_node(&node_id).is_some()
        });
        if known.await.unwrap_or(false) {
            return ByController::Done(Ok(()));
        }
        match self.raft().add_learner(node_id, BasicNode::new(address), false).await {
            Ok(_) => ByController::Done(Ok(())),
            // Another change is under way, or this broker is the controller no more: it is asked again.
            Err(_) => ByController::Elsewhere(None),
        }
    }

    fn elsewhere<T>(&self, leader: Option<BrokerId>) -> ByController<T> {
        let address = leader.and_then(|id| Some((id, self.image().member(id)?.address.clone())));
        ByController::Elsewhere(address)
    }

    /// What other brokers are answered.
    pub(crate) fn service(&self) -> MetadataService {
        MetadataService(self.clone())
    }
}

/// See [`Metadata::service`].
#[derive(Clone)]
pub(crate) struct MetadataService(Metadata);

impl Service for MetadataService {
    fn greet(&self, hello: &Hello) -> Result<Welcome, String> {
        let Hello { cluster_id, from, to } = hello;
        let image = self.0.image();
        let (own, cluster) = (self.0.outside().member, image.cluster_id());
        if let Some(other) = cluster_id.filter(|id| *id != cluster) {
            return Err(format!("this is cluster {cluster}, not {other}"));
        }
        if let Some(other) = to.filter(|to| *to != own.id) {
            return Err(format!("this is broker {}, not {other}", own.id));
        }
        if from.id.0 < 0 {
            return Err(format!("{} is no node id", from.id));
        }
        if from.id == own.id {
            return Err(format!("node id {} is this broker's own", own.id));
        }
        if image.member(from.id).is_some_and(|known| known.incarnation != from.incarnation) {
            return Err(Rejection::OtherIncarnation { broker_id: from.id }.to_string());
        }
        Ok(Welcome { cluster_id: cluster, member: own })
    }

    async fn answer(&self, peer: &Hello, api_key: i16, body: &[u8]) -> Result<Vec<u8>, String> {
        let unreadable = |error| format!("the request can't be read: {error}");
        let encoded = |bytes: Result<Vec<u8>, codec::EncodeError>| bytes.map_err(|error| error.to_string());
        if peer.cluster_id.is_none() {
            return Err("a broker of no cluster can ask for nothing but who is there".to_owned());
        }
        if let Some(answer) = answer_raft(self.0.raft(), api_key, body).await {
            return answer;
        }
        match api_key {
            Join::API_KEY => {
                let join: Join = codec::decode(body).map_err(unreadable)?;
                if join.member != peer.from {
                    return Err("a broker joins for itself".to_owned());
                }
                encoded(codec::encode(&Joined(self.0.admit(&join).await)))
            }
            Command::API_KEY => {
                let command: Command = codec::decode(body).map_err(unreadable)?;
                let outcome = match self.0.propose_here(command).await {
                    Ok(outcome) => ByController::Done(outcome),
                    Err(ProposeError::NotController { leader }) => self.0.elsewhere(leader),
                    Err(error) => return Err(error.to_string()),
                };
                encoded(codec::encode(&Forwarded(outcome)))
            }
            other => Err(format!("there is no request {other}")),
        }
    }
}

/// Makes voters of learners, while this broker is the controller.
pub(super) async fn keep_voters(raft: Raft, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(KEEPER_INTERVAL) => {}
        }
        let metrics = raft.metrics().borrow().clone();
        let Some(replication) = metrics.replication.filter(|_| metrics.current_leader == Some(metrics.id))
        else {
            continue;
        };
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or_default();
        let is_close = |id: &u64| {
            let matched = replication.get(id).copied().flatten().map_or(0, |log_id| log_id.index);
            last.saturating_sub(matched) <= PROMOTED_LAG_MAX
        };
        let ready: BTreeSet<u64> = membership.learner_ids().filter(is_close).collect();
        // Two voters would be worse than one: either's end stops both.
        if voters.len() >= VOTERS || voters.len() + ready.len() < VOTERS {
            continue;
        }
        let promoted: BTreeSet<u64> = ready.into_iter().take(VOTERS - voters.len()).collect();
        tracing::info!(?promoted, "learners become voters");
        match raft.change_membership(ChangeMembers::AddVoterIds(promoted), true).await {
            Ok(_) => {}
            Err(RaftError::APIError(
                ClientWriteError::ForwardToLeader(_)
                | ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)),
            )) => {}
            Err(error) => tracing::warn!(%error, "learners did not become voters"),
        }
    }
}
