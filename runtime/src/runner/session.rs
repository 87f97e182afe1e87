//! What a plugin's host calls work on, on the plugin's thread. It outlives the plugin's instances: a new one begins at
//! what is committed.

mod consuming;
mod producing;
mod rejecting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::desk::Request;
use super::poison::Poison;
use super::reading::Reading;
use super::spec::{RunnerKind, RunnerSpec};
use super::writing::Writing;
use crate::batch::InputBatch;
use crate::stage::{
    Commit, CommittedOffset, OutputBatch, PortError, SeekTo, StageFailure, StagePlugin, StageShared,
    TopicPartition, UnitCounts,
};

/// A poll that waits looks up so often.
const POLL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a call was not done; each interface of the contract has those that it can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionError {
    Stopping,
    NotGranted(String),
    Invalid(String),
    Unavailable(String),
    NotOwned(String),
}

/// Where a plugin wants to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeekPlace {
    Offset(i64),
    Timestamp(i64),
    Beginning,
    End,
    Committed,
}

type Result<T> = std::result::Result<T, SessionError>;

/// See the module.
pub(crate) struct Session {
    shared: Arc<StageShared>,
    task: u32,
    requests: mpsc::Sender<Request>,
    reading: Reading,
    /// The topics that the member reads now.
    subscribed: Vec<Arc<str>>,
    writing: Writing,
    poison: Poison,
    /// Records that the plugin can't live with, and its last words: put aside before the next instance begins.
    found: Option<(Vec<InputBatch>, String)>,
    /// How often that happened since the plugin has committed something.
    found_in_a_row: u32,
    /// The first record of each partition that the plugin is stopped for: nothing from there on is committed.
    stopped_at: BTreeMap<TopicPartition, i64>,
    counts: UnitCounts,
    /// The `init` of an instance reaches neither topics nor time.
    has_begun: bool,
    /// Tells the instance to end.
    stop: CancellationToken,
    /// Who is at work; none before the first one.
    plugin: Option<StagePlugin>,
    /// The same, for what is committed.
    label: Arc<str>,
    /// Nothing that the plugin can do about it.
    fatal: Option<Box<StageFailure>>,
}

impl Session {
    pub(super) fn new(shared: Arc<StageShared>, task: u32, requests: mpsc::Sender<Request>) -> Self {
        let subscribed = shared.spec.from.clone();
        let writing = Writing::new(&shared.spec);
        Self {
            shared,
            task,
            requests,
            reading: Reading::default(),
            subscribed,
            writing,
            poison: Poison::default(),
            found: None,
            found_in_a_row: 0,
            stopped_at: BTreeMap::new(),
            counts: UnitCounts::default(),
            has_begun: false,
            stop: CancellationToken::new(),
            plugin: None,
            label: "".into(),
            fatal: None,
        }
    }

    /// Another instance comes.
    pub(super) fn prepare(&mut self, stop: CancellationToken, plugin: &StagePlugin) {
        (self.stop, self.label, self.has_begun) = (stop, plugin.label().into(), false);
        (self.plugin, self.stopped_at) = (Some(plugin.clone()), BTreeMap::new());
        // Its `init` has nothing to do with what the one before has polled.
        self.poison.forget_all();
    }

    /// Another version comes, which may live with what the one before could not.
    pub(super) fn acquit(&mut self) {
        (self.poison, self.found, self.found_in_a_row) = (Poison::default(), None, 0);
    }

    /// The instance's `run` begins, where the group has committed. An error means that this can't be known now.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.writing.forget();
        self.counts = UnitCounts::default();
        // What the instance before has polled of partitions that are being taken away is not this one's to commit.
        self.reading.let_go();
        self.poison.forget_all();
        self.put_found_aside().await?;
        if self.subscribed != self.shared.spec.from {
            self.change_subscription(self.shared.spec.from.clone()).await?;
        }
        let partitions = self.reading.assignment();
        if !partitions.is_empty() {
            let committed = self.ask_committed(partitions.clone()).await?;
            for (partition, offset) in partitions.iter().zip(committed) {
                self.reading.rewind(partition, offset);
                self.poison.rewound(partition, offset);
                self.ask_seek(partition, offset.map_or(SeekTo::Beginning, SeekTo::Offset)).await?;
            }
        }
        self.has_begun = true;
        Ok(())
    }

    pub(super) fn take_failure(&mut self) -> Option<Box<StageFailure>> {
        self.fatal.take()
    }

    /// The source's work is done, as far as it goes: what it has sent is written.
    pub(super) async fn finish(&mut self) -> Result<()> {
        match self.spec().kind {
            RunnerKind::Source => self.flush().await,
            // It belongs to records that will be delivered again.
            RunnerKind::Sink => Ok(()),
        }
    }

    /// The version that is at work.
    pub(crate) fn plugin(&self) -> &StagePlugin {
        self.plugin.as_ref().expect("it is set before an instance comes")
    }

    /// Whether something was polled that the plugin may want to commit.
    pub(crate) fn has_uncommitted(&self) -> bool {
        self.reading.has_uncommitted()
    }

    fn spec(&self) -> &RunnerSpec {
        self.shared.spec.runner.as_ref().expect("a session is a source's or a sink's")
    }

    pub(crate) fn shared(&self) -> &Arc<StageShared> {
        &self.shared
    }

    /// Tells the instance to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What waits or takes in more ends when the plugin is to stop.
    fn may_go_on(&self) -> Result<()> {
        if !self.has_begun {
            return Err(SessionError::Unavailable("this call is for run, not for init".to_owned()));
        }
        if self.stop.is_cancelled() { Err(SessionError::Stopping) } else { Ok(()) }
    }

    fn may_finish(&self) -> Result<()> {
        match self.may_go_on() {
            Err(SessionError::Stopping) => Ok(()),
            other => other,
        }
    }

    pub(crate) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(SessionError::Stopping),
            done = future => Ok(done),
        }
    }

    pub(crate) async fn sleep(&mut self, time: Duration) -> Result<()> {
        self.may_go_on()?;
        // What can't be written now is written later.
        let _ = self.flush().await;
        self.unless_stopped(tokio::time::sleep(time)).await
    }

    // Asking the desk.

    async fn write(
        &mut self,
        position: Option<OutputBatch>,
        offsets: Vec<(TopicPartition, i64)>,
    ) -> Result<()> {
        let offsets = self.in_front_of_stop(offsets);
        let (outputs, records) = self.writing.batches();
        let bytes: usize = outputs.iter().map(|batch| batch.bytes.len()).sum();
        let committed =
            offsets.iter().map(|(TopicPartition { topic, partition }, next_offset)| CommittedOffset {
                topic: Arc::clone(topic),
                partition: *partition,
                next_offset: *next_offset,
                metadata: Arc::clone(&self.label),
            });
        let commit = Commit { outputs, position, offsets: committed.collect() };
        let nothing = commit.outputs.is_empty() && commit.position.is_none() && commit.offsets.is_empty();
        if nothing {
            return Ok(());
        }
        let has_offsets = !commit.offsets.is_empty();
        self.ask(|reply| Request::Commit { commit, reply }).await?;
        self.writing.written();
        self.reading.committed(&offsets);
        self.poison.committed(&offsets);
        let mut counts =
            UnitCounts { records_out: records, bytes_out: bytes as u64, ..UnitCounts::default() };
        if has_offsets {
            let read = std::mem::take(&mut self.counts);
            counts = UnitCounts { records_out: counts.records_out, bytes_out: counts.bytes_out, ..read };
            for (partition, lag) in self.reading.lags() {
                self.shared.metrics.set_lag(partition, lag);
            }
        }
        self.shared.count_commit(&counts);
        Ok(())
    }

    async fn ask_committed(&mut self, partitions: Vec<TopicPartition>) -> Result<Vec<Option<i64>>> {
        self.ask(|reply| Request::Committed { partitions, reply }).await
    }

    async fn ask_seek(&mut self, partition: &TopicPartition, to: SeekTo) -> Result<()> {
        let partition = partition.clone();
        self.ask(|reply| Request::Seek { partition, to, reply }).await
    }

    async fn ask<T>(
        &mut self,
        request: impl FnOnce(oneshot::Sender<std::result::Result<T, PortError>>) -> Request,
    ) -> Result<T> {
        self.ask_once(request).await.map_err(|error| self.refused(error))
    }

    async fn ask_once<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<std::result::Result<T, PortError>>) -> Request,
    ) -> std::result::Result<T, PortError> {
        let gone = || PortError::Unavailable("the node is stopping".to_owned());
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// What a port's error means to the plugin.
    fn refused(&mut self, error: PortError) -> SessionError {
        self.shared.metrics.count_error("port");
        match error {
            PortError::Fenced(text) => SessionError::NotOwned(text),
            PortError::Unavailable(text) => SessionError::Unavailable(text),
            PortError::Fatal(text) => self.fail(StageFailure::without_batch("port", &text)),
        }
    }

    /// A person has to look: the instance is told to end.
    fn fail(&mut self, failure: StageFailure) -> SessionError {
        self.fatal.get_or_insert(Box::new(failure));
        self.stop.cancel();
        SessionError::Stopping
    }
}
