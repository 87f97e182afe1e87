//! What a plugin's host calls work on, on the plugin's thread. It outlives the plugin's instances: a new one begins at
//! what is committed.

use std::sync::Arc;
use std::time::Duration;

use millstream_record::{BatchBuilder, Header};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::desk::Request;
use super::outgoing::{MESSAGES_MAX, Outgoing};
use super::reading::{Reading, Resumed, Taken, Unreadable};
use super::spec::{POSITIONS_TOPIC, RunnerKind, RunnerSpec};
use super::writing::{NotQueued, Writing};
use crate::batch::InputBatch;
use crate::environment::Environment;
use crate::stage::{
    Commit, CommittedOffset, OutputBatch, Polled, PortError, SeekTo, StageFailure, StageShared,
    TopicPartition, UnitCounts, partition_of_key,
};

/// Longest position that is kept.
const POSITION_BYTES_MAX: usize = 64 * 1024;
/// Partitions that one call may name.
const PARTITIONS_MAX: usize = 10_000;
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
    pub(crate) environment: Environment,
    task: u32,
    requests: mpsc::Sender<Request>,
    reading: Reading,
    /// The topics that the member reads now.
    subscribed: Vec<Arc<str>>,
    writing: Writing,
    counts: UnitCounts,
    /// The `init` of an instance reaches neither topics nor time.
    has_begun: bool,
    /// Tells the instance to end.
    stop: CancellationToken,
    /// Who is at work, for what is committed.
    label: Arc<str>,
    /// Nothing that the plugin can do about it.
    fatal: Option<Box<StageFailure>>,
}

impl Session {
    pub(super) fn new(
        shared: Arc<StageShared>,
        environment: Environment,
        task: u32,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        let subscribed = shared.spec.from.clone();
        let writing = Writing::new(shared.spec.to.clone(), shared.spec.compression);
        Self {
            shared,
            environment,
            task,
            requests,
            reading: Reading::default(),
            subscribed,
            writing,
            counts: UnitCounts::default(),
            has_begun: false,
            stop: CancellationToken::new(),
            label: "".into(),
            fatal: None,
        }
    }

    /// Another instance comes.
    pub(super) fn prepare(&mut self, stop: CancellationToken, label: &str) {
        (self.stop, self.label, self.has_begun) = (stop, label.into(), false);
    }

    /// The instance's `run` begins, where the group has committed. An error means that this can't be known now.
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.writing.forget();
        self.counts = UnitCounts::default();
        // What the instance before has polled of partitions that are being taken away is not this one's to commit.
        self.reading.let_go();
        if self.subscribed != self.shared.spec.from {
            self.change_subscription(self.shared.spec.from.clone()).await?;
        }
        let partitions = self.reading.assignment();
        if !partitions.is_empty() {
            let committed = self.ask_committed(partitions.clone()).await?;
            for (partition, offset) in partitions.iter().zip(committed) {
                self.reading.rewind(partition, offset);
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

    pub(crate) fn spec(&self) -> &RunnerSpec {
        self.shared.spec.runner.as_ref().expect("a session is a source's or a sink's")
    }

    pub(crate) fn shared(&self) -> &Arc<StageShared> {
        &self.shared
    }

    // Waiting and stopping.

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

    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T> {
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

    // The consumer.

    pub(crate) async fn subscribe(&mut self, topics: Vec<String>) -> Result<()> {
        self.may_go_on()?;
        let from = &self.shared.spec.from;
        let mut chosen: Vec<Arc<str>> = Vec::new();
        for topic in topics.iter().take(from.len() + 1) {
            match from.iter().find(|known| ***known == **topic) {
                None => {
                    return Err(SessionError::NotGranted(format!("topic {topic:?} is none of the \"from\"")));
                }
                Some(known) if chosen.contains(known) => {
                    return Err(SessionError::Invalid(format!("topic {topic:?} is named twice")));
                }
                Some(known) => chosen.push(Arc::clone(known)),
            }
        }
        if chosen.is_empty() {
            return Err(SessionError::Invalid("no topic is named".to_owned()));
        }
        if chosen == self.subscribed {
            return Ok(());
        }
        self.change_subscription(chosen).await
    }

    async fn change_subscription(&mut self, topics: Vec<Arc<str>>) -> Result<()> {
        self.reading.reset();
        self.subscribed.clone_from(&topics);
        self.ask(|reply| Request::Subscribe { topics, reply }).await
    }

    /// What is there, or comes within that time.
    pub(crate) async fn poll(&mut self, records_max: u32, timeout: Duration) -> Result<Vec<InputBatch>> {
        self.may_go_on()?;
        if records_max == 0 {
            return Err(SessionError::Invalid("a poll for 0 records".to_owned()));
        }
        let deadline = tokio::time::Instant::now().checked_add(timeout);
        self.reading.let_go();
        loop {
            let taken = self.reading.take(records_max as usize);
            let Taken { batches, records, bytes } =
                taken.map_err(|unreadable| self.unreadable(unreadable))?;
            if records > 0 {
                self.counts.records_in += records;
                self.counts.batches_in += batches.len() as u64;
                self.counts.bytes_in += bytes;
                return Ok(batches);
            }
            self.flush().await?;
            let left = deadline
                .map_or(POLL_WAIT_MAX, |at| at.saturating_duration_since(tokio::time::Instant::now()));
            let max_wait = left.min(POLL_WAIT_MAX);
            let polled =
                self.unless_stopped(self.ask_once(|reply| Request::Poll { max_wait, reply })).await?;
            let polled = match polled {
                Ok(polled) => polled,
                Err(error) => {
                    self.reading.reset();
                    return Err(self.refused(error));
                }
            };
            let nothing =
                polled.fetched.is_empty() && polled.assigned.is_empty() && polled.revoked.is_empty();
            // What is uncommitted is to be committed before the partitions are let go of.
            if self.accept(polled)? || (nothing && left <= max_wait) {
                return Ok(Vec::new());
            }
        }
    }

    /// True if the group takes partitions away of which something is uncommitted.
    fn accept(&mut self, polled: Polled) -> Result<bool> {
        let Polled { revoked, assigned, fetched } = polled;
        let mut is_revoking = false;
        if !revoked.is_empty() {
            self.shared.metrics.forget_lags(&revoked);
            is_revoking = self.reading.revoke();
        }
        self.reading.assign(assigned);
        for found in fetched {
            self.reading.accept(found).map_err(|unreadable| self.unreadable(unreadable))?;
        }
        Ok(is_revoking)
    }

    fn unreadable(&mut self, unreadable: Unreadable) -> SessionError {
        let Unreadable { partition: TopicPartition { topic, partition }, offset, error } = unreadable;
        self.fail(StageFailure {
            topic: Some(topic.to_string()),
            partition: Some(partition),
            offset: Some(offset),
            ..StageFailure::without_batch("input", &error)
        })
    }

    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.may_finish()?;
        let offsets = self.reading.uncommitted();
        self.write(None, offsets).await
    }

    pub(crate) async fn commit_offsets(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<()> {
        self.may_finish()?;
        for (at, (partition, offset)) in offsets.iter().enumerate() {
            self.check_owned(partition)?;
            let named = offsets[..at].iter().any(|(before, _)| before == partition);
            if *offset < 0 || named {
                let what = if named { "is named twice" } else { "has a negative offset" };
                let TopicPartition { topic, partition } = partition;
                return Err(SessionError::Invalid(format!("{topic}-{partition} {what}")));
            }
        }
        self.write(None, offsets).await
    }

    pub(crate) async fn committed(&mut self, partitions: Vec<TopicPartition>) -> Result<Vec<Option<i64>>> {
        self.may_go_on()?;
        self.check_granted(&partitions)?;
        self.ask_committed(partitions).await
    }

    pub(crate) async fn seek(&mut self, partition: TopicPartition, to: SeekPlace) -> Result<()> {
        self.may_go_on()?;
        self.check_owned(&partition)?;
        if self.reading.is_revoking {
            return Err(not_owned(&partition));
        }
        let to = match to {
            SeekPlace::Offset(offset) | SeekPlace::Timestamp(offset) if offset < 0 => {
                return Err(SessionError::Invalid(format!("{offset} is negative")));
            }
            SeekPlace::Offset(offset) => SeekTo::Offset(offset),
            SeekPlace::Timestamp(timestamp) => SeekTo::Timestamp(timestamp),
            SeekPlace::Beginning => SeekTo::Beginning,
            SeekPlace::End => SeekTo::End,
            SeekPlace::Committed => {
                let committed = self.ask_committed(vec![partition.clone()]).await?;
                let offset = committed.into_iter().next().flatten();
                self.reading.rewind(&partition, offset);
                return self.ask_seek(&partition, offset.map_or(SeekTo::Beginning, SeekTo::Offset)).await;
            }
        };
        // One that is paused is sent there when it is resumed.
        if self.reading.seek(&partition, to) {
            return Ok(());
        }
        self.ask_seek(&partition, to).await
    }

    pub(crate) fn position(&mut self, partition: &TopicPartition) -> Result<Option<i64>> {
        self.check_owned(partition)?;
        Ok(self.reading.position(partition))
    }

    pub(crate) async fn pause(&mut self, partitions: Vec<TopicPartition>) -> Result<()> {
        self.may_go_on()?;
        partitions.iter().try_for_each(|partition| self.check_owned(partition))?;
        for partition in partitions {
            if self.reading.pause(&partition) {
                self.ask_seek(&partition, SeekTo::Paused).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn resume(&mut self, partitions: Vec<TopicPartition>) -> Result<()> {
        self.may_go_on()?;
        partitions.iter().try_for_each(|partition| self.check_owned(partition))?;
        for partition in partitions {
            let to = match self.reading.resume(&partition) {
                Resumed::NotPaused => continue,
                Resumed::At(to) => to,
                // Nothing of it was polled before.
                Resumed::AtCommitted => {
                    let committed = self.ask_committed(vec![partition.clone()]).await?;
                    committed.into_iter().next().flatten().map_or(SeekTo::Beginning, SeekTo::Offset)
                }
            };
            self.ask_seek(&partition, to).await?;
        }
        Ok(())
    }

    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.reading.assignment()
    }

    fn check_owned(&self, partition: &TopicPartition) -> Result<()> {
        if self.reading.owns(partition) { Ok(()) } else { Err(not_owned(partition)) }
    }

    fn check_granted(&self, partitions: &[TopicPartition]) -> Result<()> {
        if partitions.len() > PARTITIONS_MAX {
            return Err(SessionError::Invalid(format!("more than {PARTITIONS_MAX} partitions")));
        }
        match partitions.iter().find(|partition| !self.shared.spec.from.contains(&partition.topic)) {
            None => Ok(()),
            Some(TopicPartition { topic, .. }) => {
                Err(SessionError::NotGranted(format!("topic {topic:?} is none of the \"from\"")))
            }
        }
    }

    // The producer.

    pub(crate) async fn send(&mut self, messages: &[Outgoing<'_>]) -> Result<()> {
        self.may_go_on()?;
        if messages.is_empty() {
            return Ok(());
        }
        if messages.len() > MESSAGES_MAX {
            return Err(SessionError::Invalid(format!(
                "{MESSAGES_MAX}: a call takes so many messages at most"
            )));
        }
        let now = self.shared.clock().monotonic();
        if let Some(unknown) = self.writing.unknown(now).filter(|names| !names.is_empty()) {
            let topics = unknown.to_vec();
            let described =
                self.unless_stopped(self.ask_once(|reply| Request::Describe { topics, reply })).await?;
            let infos = described.map_err(|error| self.refused(error))?;
            self.writing.describe(infos, now).map_err(SessionError::Unavailable)?;
        }
        if self.writing.is_full() {
            self.flush().await?;
        }
        let queued = self.writing.send(messages, self.shared.clock().wall_ms());
        queued.map_err(|not_queued| match not_queued {
            NotQueued::NotGranted(reason) => SessionError::NotGranted(reason),
            NotQueued::Invalid(reason) => SessionError::Invalid(reason),
        })
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.may_finish()?;
        if self.writing.is_empty() {
            return Ok(());
        }
        self.write(None, Vec::new()).await
    }

    // Positions.

    pub(crate) async fn load_position(&mut self) -> Result<Option<Vec<u8>>> {
        self.may_go_on()?;
        let (key, partition) = self.position_place().await?;
        let found = self.unless_stopped(self.ask_once(|reply| Request::LastValue { partition, key, reply }));
        let found = found.await?.map_err(|error| self.refused(error))?;
        Ok(found.map(Vec::from))
    }

    pub(crate) async fn save_position(&mut self, position: &[u8]) -> Result<()> {
        self.may_finish()?;
        if position.len() > POSITION_BYTES_MAX {
            let message = format!("a position of {} bytes: {POSITION_BYTES_MAX} are kept", position.len());
            return Err(SessionError::Invalid(message));
        }
        let (key, TopicPartition { topic, partition }) = self.position_place().await?;
        let mut batch = BatchBuilder::new(usize::MAX);
        let header = Header { key: b"millstream.plugin", value: Some(self.label.as_bytes()) };
        let now_ms = self.shared.clock().wall_ms();
        batch
            .append(now_ms, Some(key.as_bytes()), Some(position), [header])
            .expect("a batch has room for one");
        let bytes = batch.finish().expect("it has a record").into();
        self.write(Some(OutputBatch { topic, partition, records: 1, bytes }), Vec::new()).await
    }

    /// The key of this source's position, and where it is kept.
    async fn position_place(&mut self) -> Result<(Arc<str>, TopicPartition)> {
        let topic: Arc<str> = POSITIONS_TOPIC.into();
        let topics = vec![Arc::clone(&topic)];
        let infos = self.ask(|reply| Request::Describe { topics, reply }).await?;
        let Some(info) = infos.into_iter().next().flatten().filter(|info| info.partitions > 0) else {
            return Err(SessionError::Unavailable(format!("topic {topic:?} does not exist")));
        };
        let spec = &self.shared.spec;
        let key: Arc<str> = format!("{}/{}/{}", spec.pipeline, spec.name, self.task).into();
        let partition = partition_of_key(key.as_bytes(), info.partitions);
        Ok((key, TopicPartition { topic, partition }))
    }

    // Asking the desk.

    async fn write(
        &mut self,
        position: Option<OutputBatch>,
        offsets: Vec<(TopicPartition, i64)>,
    ) -> Result<()> {
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

fn not_owned(partition: &TopicPartition) -> SessionError {
    let TopicPartition { topic, partition } = partition;
    SessionError::NotOwned(format!("{topic}-{partition} is not this member's"))
}
