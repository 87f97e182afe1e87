//! What a stage calls. Polling and committing go on at the same time, one of each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_runtime::stage::{
    Commit, CommittedOffset, Polled, PortError, RunnerPort, SeekTo, StagePort, TopicInfo, TopicPartition,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::backoff::Backoff;
use super::config::{PortConfig, RETRY_TIMEOUT};
use super::connection::Connection;
use super::error::ClientError;
use super::last_value::last_value;
use super::member::{Fetched, Member};
use super::membership::GroupClient;
use super::ownership::{Owned, Ownership};
use super::producer::Producer;
use super::seeks::Seeks;
use super::topics::{partition_counts, topic_rules};
use super::transport::{Connector, Transport};

/// One member of a stage's group. The stage has it to itself.
pub(crate) struct ClientPort<T> {
    group: Arc<GroupClient<T>>,
    /// Produce, and questions that are answered at once.
    connection: Arc<Connection<T>>,
    producer: tokio::sync::Mutex<Producer<T>>,
    inbox: tokio::sync::Mutex<Inbox>,
    /// What the stage knows to own: it commits as that member.
    told: Mutex<Option<Arc<Owned>>>,
    ownership: watch::Receiver<Ownership>,
    released: watch::Sender<u64>,
    doubt: Arc<Notify>,
    seeks: Arc<Seeks>,
    /// None where there is nothing to read: then there is no group either.
    member: Option<JoinHandle<()>>,
    stop: DropGuard,
}

/// What the poll in flight reads from.
struct Inbox {
    ownership: watch::Receiver<Ownership>,
    fetched: mpsc::Receiver<Fetched>,
    /// The stage has been told to let go, and does so by polling again.
    letting_go: Option<u64>,
}

impl<T: Transport> ClientPort<T> {
    /// Begins to join the group, on `tasks`; the first polls wait for it. Without topics there is no group to join.
    pub(crate) fn open<C: Connector<Transport = T>>(
        connector: &C,
        config: PortConfig,
        tasks: &TaskTracker,
    ) -> Self {
        let config = Arc::new(config.with_valid_instance_id());
        let connect = |principal: &str| {
            let transport = connector.connect(&config.client_id, principal);
            Arc::new(Connection::new(transport, &config.client_id))
        };
        // A Fetch or a JoinGroup that waits at the broker must not hold up a commit.
        let (fetch_connection, group_connection) = (connect(&config.reads_as), connect(&config.reads_as));
        let connection = connect(&config.writes_as);
        let group = Arc::new(GroupClient { connection: group_connection, config: Arc::clone(&config) });
        let reads = !config.topics.is_empty();
        let (member, channels) = Member::new(Arc::clone(&group), fetch_connection, config);
        let stop = CancellationToken::new();
        let member = reads.then(|| tasks.spawn(member.run(stop.clone())));
        let inbox =
            Inbox { ownership: channels.ownership.clone(), fetched: channels.fetched, letting_go: None };
        Self {
            group,
            producer: tokio::sync::Mutex::new(Producer::new(Arc::clone(&connection))),
            connection,
            inbox: tokio::sync::Mutex::new(inbox),
            told: Mutex::new(None),
            ownership: channels.ownership,
            released: channels.released,
            doubt: channels.doubt,
            seeks: channels.seeks,
            member,
            stop: stop.drop_guard(),
        }
    }

    fn told(&self) -> Option<Arc<Owned>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, owned: Option<Arc<Owned>>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = owned;
    }

    /// What there is to say about the assignment, before any record: none if the stage knows.
    fn news(&self, inbox: &mut Inbox) -> Option<Result<Polled, ClientError>> {
        let current = inbox.ownership.borrow_and_update().clone();
        if let Some(told) = self.told() {
            if matches!(&current, Ownership::Owned(owned) if owned.serial == told.serial) {
                return None;
            }
            inbox.letting_go = Some(told.serial);
            let revoked = told.membership.partitions.clone();
            return Some(Ok(Polled { revoked, ..Polled::default() }));
        }
        match current {
            Ownership::Joining => None,
            Ownership::Owned(owned) => {
                let assigned = owned.membership.partitions.clone();
                self.tell(Some(owned));
                Some(Ok(Polled { assigned, ..Polled::default() }))
            }
            // It came and went between two polls: the stage has nothing of it.
            Ownership::Revoking(owned) => {
                self.release(owned.serial);
                None
            }
            Ownership::Failed(error) => Some(Err(ClientError::MemberFailed(error))),
        }
    }

    fn release(&self, serial: u64) {
        self.released.send_if_modified(|released| {
            let later = serial > *released;
            if later {
                *released = serial;
            }
            later
        });
    }

    /// Waits for records of the current assignment, or for another one.
    async fn wait(&self, inbox: &mut Inbox) -> Option<Result<Polled, ClientError>> {
        let told = self.told().map(|told| told.serial);
        tokio::select! {
            biased;
            changed = inbox.ownership.changed() => {
                // Without the task there will be no news for ever.
                if changed.is_err() { Some(Err(ClientError::Closed)) } else { None }
            }
            fetched = inbox.fetched.recv() => match fetched {
                Some(Fetched { serial, seek, mut partitions }) if told == Some(serial) => {
                    partitions.retain(|found| {
                        self.seeks.number_of(serial, &of(&found.topic, found.partition)) <= seek
                    });
                    // What is left may be nothing: it was read before a seek.
                    let polled = Polled { fetched: partitions, ..Polled::default() };
                    (!polled.fetched.is_empty()).then_some(Ok(polled))
                }
                // Of a membership that is over: its new owner reads it again.
                Some(_) => None,
                None => Some(Err(ClientError::Closed)),
            },
        }
    }

    async fn poll_inbox(&self) -> Result<Polled, ClientError> {
        let mut inbox = self.inbox.lock().await;
        if let Some(serial) = inbox.letting_go.take() {
            self.tell(None);
            self.release(serial);
        }
        loop {
            if let Some(polled) = self.news(&mut inbox) {
                return polled;
            }
            if let Some(polled) = self.wait(&mut inbox).await {
                return polled;
            }
        }
    }

    async fn write(&self, commit: Commit) -> Result<(), ClientError> {
        let Commit { outputs, position, offsets } = commit;
        let owned = if offsets.is_empty() { None } else { Some(self.owner_of(&offsets)?) };
        let mut producer = self.producer.lock().await;
        producer.produce(outputs).await?;
        // Not beside the outputs: whoever finds it relies on them.
        producer.produce(position.into_iter().collect()).await?;
        drop(producer);
        match owned {
            Some(owned) => self.commit_offsets(&owned, &offsets).await,
            None => Ok(()),
        }
    }

    /// The membership that owns all of these partitions, while it can commit: outputs whose offsets others will
    /// commit would be written twice.
    fn owner_of(&self, offsets: &[CommittedOffset]) -> Result<Arc<Owned>, ClientError> {
        let owned = self.told().ok_or(ClientError::NotMember)?;
        if !self.ownership.borrow().is_valid(owned.serial) {
            return Err(ClientError::NotMember);
        }
        for CommittedOffset { topic, partition, .. } in offsets {
            let wanted = of(topic, *partition);
            // In order, as the assignment was decoded.
            if owned.membership.partitions.binary_search(&wanted).is_err() {
                return Err(ClientError::NotOwned(wanted));
            }
        }
        Ok(owned)
    }

    async fn try_describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicInfo>>, ClientError> {
        let counts = partition_counts(&self.connection, topics.iter().map(AsRef::as_ref)).await?;
        let rules = topic_rules(&self.connection, counts.keys().map(String::as_str)).await?;
        let describe = |topic: &Arc<str>| {
            let partitions = *counts.get(&**topic)?;
            Some(TopicInfo { partitions, rules: rules.get(&**topic).cloned().unwrap_or_default() })
        };
        Ok(topics.iter().map(describe).collect())
    }

    async fn commit_offsets(&self, owned: &Owned, offsets: &[CommittedOffset]) -> Result<(), ClientError> {
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        loop {
            let Err(error) = self.group.commit(&owned.membership, offsets).await else { return Ok(()) };
            if error.is_fenced() {
                self.doubt.notify_one();
                return Err(error);
            }
            tracing::debug!(%error, "the offsets are committed again");
            let again = error.is_retriable() && backoff.wait().await;
            if !again || !self.ownership.borrow().is_valid(owned.serial) {
                return Err(error);
            }
        }
    }
}

impl<T: Transport> StagePort for ClientPort<T> {
    async fn poll(&self, max_wait: Duration) -> Result<Polled, PortError> {
        match tokio::time::timeout(max_wait, self.poll_inbox()).await {
            Ok(polled) => polled.map_err(|error| error.to_port_error()),
            Err(_) => Ok(Polled::default()),
        }
    }

    async fn commit(&self, commit: Commit) -> Result<(), PortError> {
        self.write(commit).await.map_err(|error| error.to_port_error())
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicInfo>>, PortError> {
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        loop {
            match self.try_describe_topics(topics).await {
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                described => return described.map_err(|error| error.to_port_error()),
            }
        }
    }

    async fn close(self) {
        let Self { member, stop, .. } = self;
        drop(stop);
        let Some(member) = member else { return };
        if let Err(error) = member.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl<T: Transport> RunnerPort for ClientPort<T> {
    fn seek(&self, partition: &TopicPartition, to: SeekTo) {
        if let Some(told) = self.told() {
            self.seeks.ask(told.serial, partition, to);
        }
    }

    async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>, PortError> {
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        loop {
            match self.group.committed(partitions).await {
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                Err(error) => return Err(error.to_port_error()),
                Ok(found) => {
                    return Ok(partitions.iter().map(|partition| found.get(partition).copied()).collect());
                }
            }
        }
    }

    async fn last_value(&self, partition: &TopicPartition, key: &[u8]) -> Result<Option<Bytes>, PortError> {
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        let found = async {
            loop {
                match last_value(&self.connection, partition, key).await {
                    Err(error) if error.is_retriable() && backoff.wait().await => {}
                    found => return found.map_err(|error| error.to_port_error()),
                }
            }
        };
        // A partition without a leader is not read, and no error either.
        let late = |_| PortError::Unavailable(format!("{} was not read in time", partition.topic));
        tokio::time::timeout(RETRY_TIMEOUT, found).await.map_err(late)?
    }
}

fn of(topic: &Arc<str>, partition: i32) -> TopicPartition {
    TopicPartition { topic: Arc::clone(topic), partition }
}
