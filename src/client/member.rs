//! The task behind a port: one member of the group, from its first JoinGroup to its LeaveGroup.
//!
//! It owns the membership and the positions. While the stage is busy it sends the heartbeats and fetches ahead,
//! into a channel that bounds how far. When the group shares anew it first waits until the stage has let go.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::stage::FetchedPartition;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::config::{
    FETCHES_AHEAD_MAX, HEARTBEAT_INTERVAL, LEAVE_TIMEOUT, METADATA_MAX_AGE, PortConfig, RETRY_TIMEOUT,
};
use super::connection::Connection;
use super::error::ClientError;
use super::fetcher::Fetcher;
use super::membership::{AfterError, GroupClient, Membership};
use super::offsets::Offsets;
use super::ownership::{Owned, Ownership};
use super::seeks::Seeks;
use super::transport::Transport;

/// How soon a heartbeat that failed is sent again.
const HEARTBEAT_RETRY: Duration = Duration::from_millis(250);

/// What was fetched, under which membership.
pub(crate) struct Fetched {
    pub(crate) serial: u64,
    /// The last seek that it follows.
    pub(crate) seek: u64,
    pub(crate) partitions: Vec<FetchedPartition>,
}

/// The port's ends of what it shares with the task.
pub(crate) struct MemberChannels {
    pub(crate) ownership: watch::Receiver<Ownership>,
    pub(crate) fetched: mpsc::Receiver<Fetched>,
    /// The last membership that the stage has let go of.
    pub(crate) released: watch::Sender<u64>,
    /// Doubts whether the member still is one: a heartbeat will tell.
    pub(crate) doubt: Arc<Notify>,
    pub(crate) seeks: Arc<Seeks>,
}

pub(crate) struct Member<T> {
    group: Arc<GroupClient<T>>,
    fetch_connection: Arc<Connection<T>>,
    config: Arc<PortConfig>,
    /// Empty until the coordinator has given one.
    member_id: String,
    serial: u64,
    ownership: watch::Sender<Ownership>,
    fetched: mpsc::Sender<Fetched>,
    released: watch::Receiver<u64>,
    doubt: Arc<Notify>,
    seeks: Arc<Seeks>,
}

/// Why a membership came to its end.
enum Ended {
    /// The group, or this member as its leader, wants to share anew.
    Rebalance,
    /// The group has gone on without the member.
    Fenced,
    /// The group does not know the member any more.
    Forgotten,
}

impl<T: Transport> Member<T> {
    pub(crate) fn new(
        group: Arc<GroupClient<T>>,
        fetch_connection: Arc<Connection<T>>,
        config: Arc<PortConfig>,
    ) -> (Self, MemberChannels) {
        let (ownership, ownership_rx) = watch::channel(Ownership::Joining);
        let (fetched, fetched_rx) = mpsc::channel(FETCHES_AHEAD_MAX);
        let (released_tx, released) = watch::channel(0);
        let doubt = Arc::new(Notify::new());
        let channels = MemberChannels {
            ownership: ownership_rx,
            fetched: fetched_rx,
            released: released_tx,
            doubt: Arc::clone(&doubt),
            seeks: Arc::default(),
        };
        let seeks = Arc::clone(&channels.seeks);
        let member = Self {
            group,
            fetch_connection,
            config,
            member_id: String::new(),
            serial: 0,
            ownership,
            fetched,
            released,
            doubt,
            seeks,
        };
        (member, channels)
    }

    /// Lives until it is stopped or can't go on, then leaves the group.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let ended = stop.run_until_cancelled(self.live()).await;
        if let Some(Err(error)) = ended {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(group_id = self.config.group_id, error = cause, "the member can't go on");
            self.ownership.send_replace(Ownership::Failed(Arc::new(error)));
        }
        if self.member_id.is_empty() {
            return;
        }
        match tokio::time::timeout(LEAVE_TIMEOUT, self.group.leave(&self.member_id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "leaving the group failed: its session will time out"),
            Err(_) => tracing::debug!("leaving the group took too long: its session will time out"),
        }
    }

    async fn live(&mut self) -> Result<Infallible, ClientError> {
        loop {
            let membership = self.join().await?;
            self.serial += 1;
            let owned = Arc::new(Owned { serial: self.serial, membership });
            tracing::debug!(
                group_id = self.config.group_id,
                member_id = owned.membership.member_id,
                generation_id = owned.membership.generation_id,
                partitions = owned.membership.partitions.len(),
                "joined the group"
            );
            self.ownership.send_replace(Ownership::Owned(Arc::clone(&owned)));
            let ended = tokio::select! {
                biased;
                ended = self.keep_alive(&owned.membership) => ended?,
                changed = self.watch_topics(&owned.membership) => changed?,
                read = self.read(&owned) => match read? {},
            };
            match ended {
                Ended::Rebalance => {
                    self.ownership.send_replace(Ownership::Revoking(Arc::clone(&owned)));
                    if let Ended::Forgotten = self.let_go(&owned).await? {
                        self.member_id.clear();
                    }
                }
                Ended::Fenced => {}
                Ended::Forgotten => self.member_id.clear(),
            }
            self.ownership.send_replace(Ownership::Joining);
        }
    }

    /// Joins, however often the group shares anew meanwhile. Gives up when the coordinator stays away.
    async fn join(&mut self) -> Result<Membership, ClientError> {
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        let mut coordinator_known = false;
        loop {
            let joined = async {
                if !coordinator_known {
                    self.group.find_coordinator().await?;
                    coordinator_known = true;
                }
                self.group.join(&mut self.member_id).await
            };
            let error = match joined.await {
                Ok(membership) => return Ok(membership),
                Err(error) => error,
            };
            tracing::debug!(group_id = self.config.group_id, %error, "joining the group is tried again");
            match AfterError::of(&error) {
                AfterError::Fail => return Err(error),
                AfterError::FindCoordinator => coordinator_known = false,
                // The coordinator is there, and the group busy.
                AfterError::Rejoin | AfterError::RejoinFenced => backoff = Backoff::new(RETRY_TIMEOUT),
                AfterError::RejoinAsNew => self.member_id.clear(),
            }
            if !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// Sends heartbeats until one of them ends the membership.
    async fn keep_alive(&self, membership: &Membership) -> Result<Ended, ClientError> {
        let mut heard_at = Instant::now();
        let mut wait = HEARTBEAT_INTERVAL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.doubt.notified() => {}
            }
            let error = match self.group.heartbeat(membership).await {
                Ok(()) => {
                    (heard_at, wait) = (Instant::now(), HEARTBEAT_INTERVAL);
                    continue;
                }
                Err(error) => error,
            };
            match AfterError::of(&error) {
                AfterError::Rejoin => return Ok(Ended::Rebalance),
                AfterError::RejoinFenced => return Ok(Ended::Fenced),
                AfterError::RejoinAsNew => return Ok(Ended::Forgotten),
                AfterError::Fail => return Err(error),
                AfterError::FindCoordinator => {}
            }
            tracing::debug!(group_id = self.config.group_id, %error, "the heartbeat failed");
            if heard_at.elapsed() >= self.config.session_timeout {
                return Ok(Ended::Fenced);
            }
            if let Err(error) = self.group.find_coordinator().await {
                tracing::debug!(group_id = self.config.group_id, %error, "the coordinator is not found");
            }
            wait = HEARTBEAT_RETRY;
        }
    }

    /// As the group's leader, notices topics that appear, vanish or grow.
    async fn watch_topics(&self, membership: &Membership) -> Result<Ended, ClientError> {
        let Some(shared) = &membership.shared_topics else { return std::future::pending().await };
        loop {
            tokio::time::sleep(METADATA_MAX_AGE).await;
            match self.group.has_changed(shared).await {
                Ok(false) => {}
                Ok(true) => return Ok(Ended::Rebalance),
                Err(error) if error.is_retriable() => {
                    tracing::debug!(%error, "the topics can't be looked at")
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads ahead, as far as the channel has room.
    async fn read(&self, owned: &Owned) -> Result<Infallible, ClientError> {
        let committed = self.committed(&owned.membership).await?;
        let partitions = &owned.membership.partitions;
        let mut fetcher = Fetcher::new(Arc::clone(&self.fetch_connection), partitions, &committed);
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        let (serial, mut seek) = (owned.serial, 0);
        loop {
            // Without its port there is nothing to read for: the task is about to be stopped.
            let Ok(room) = self.fetched.reserve().await else { return std::future::pending().await };
            for (number, partition, to) in self.seeks.behind(serial, seek) {
                fetcher.seek(&partition, to);
                seek = seek.max(number);
            }
            let fetched = tokio::select! {
                biased;
                fetched = fetcher.next() => fetched,
                () = self.seeks.wait_behind(seek) => continue,
            };
            match fetched {
                Ok(partitions) => {
                    room.send(Fetched { serial, seek, partitions });
                    backoff = Backoff::new(RETRY_TIMEOUT);
                }
                Err(error) if error.is_retriable() => {
                    tracing::debug!(group_id = self.config.group_id, %error, "the fetch is tried again");
                    if !backoff.wait().await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn committed(&self, membership: &Membership) -> Result<Offsets, ClientError> {
        if membership.partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        loop {
            match self.group.committed(&membership.partitions).await {
                Err(error) if error.is_retriable() && backoff.wait().await => {
                    tracing::debug!(group_id = self.config.group_id, %error, "the offsets are asked for again");
                }
                result => return result,
            }
        }
    }

    /// Waits until the stage has committed what it had in flight, as long as the group waits for the member.
    async fn let_go(&mut self, owned: &Owned) -> Result<Ended, ClientError> {
        let mut released = self.released.clone();
        // The group has been waiting since before the heartbeat that told us.
        let patience = self.config.rebalance_timeout.saturating_sub(2 * HEARTBEAT_INTERVAL);
        tokio::select! {
            biased;
            // The port is gone if this fails, and the task about to be stopped.
            _ = released.wait_for(|serial| *serial >= owned.serial) => Ok(Ended::Rebalance),
            ended = self.stay_while_rebalancing(&owned.membership) => ended,
            () = tokio::time::sleep(patience) => {
                tracing::warn!(
                    group_id = self.config.group_id,
                    "the stage did not finish its batches in time for the rebalance"
                );
                Ok(Ended::Fenced)
            }
        }
    }

    /// Keeps the session while the group waits for its members.
    async fn stay_while_rebalancing(&self, membership: &Membership) -> Result<Ended, ClientError> {
        loop {
            match self.keep_alive(membership).await? {
                Ended::Rebalance => {}
                ended => return Ok(ended),
            }
        }
    }
}
