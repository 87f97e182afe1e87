//! One partition on the broker that leads it: its log, its leadership, and who waits for it.
//!
//! The lock orders appends: a batch gets its offsets and its place in the log's queue under one hold, so the
//! two orders agree. It is never held across an await.

mod fetch_waiters;
mod lane;
mod leader;
mod local;
mod validate;
mod withheld;

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;

use self::fetch_waiters::FetchWaiters;
pub use self::fetch_waiters::{FetchWait, FetchWaiter};
pub(crate) use self::lane::{Lane, Turn};
use self::leader::Leader;
pub use self::leader::ProduceDone;
pub use self::local::{LocalTopic, LocalTopics, Unavailable};
pub use self::validate::{InvalidBatch, Origin, RecordRefusal};
pub(crate) use self::validate::{REFUSALS_MAX, must_decompress};
use self::validate::{ValidBatch, validate, validate_sent};
use self::withheld::Withheld;
use crate::clock::SharedClock;
use crate::config::{TimestampType, TopicConfig};
use crate::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::log::batch::{BatchMeta, ProducerBatch};
use crate::log::error::StorageError;
use crate::log::partition::{Log, LogListener};
use crate::log::producer_states::{ProducerCheck, ProducerCheckError, ProducerStates};
use crate::metadata::PartitionImage;

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Invalid(#[from] InvalidBatch),
    #[error(transparent)]
    Producer(#[from] ProducerCheckError),
    #[error("log can't be written")]
    Storage(#[source] Arc<StorageError>),
    #[error(transparent)]
    Log(#[from] crate::log::partition::AppendError),
}

/// A batch that has its offsets and its place in the queue to the disk.
#[derive(Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub log_start_offset: Offset,
    /// Set where the broker stamps the records.
    pub append_time_ms: Option<i64>,
    /// Records that were added to the log: none for a duplicate.
    pub records: i64,
    pub done: ProduceDone,
}

/// What a client sent, before an ingest hook has looked at it.
#[derive(Debug)]
pub(crate) enum Sent {
    New(BatchMeta),
    /// It is on the log already.
    Duplicate(Appended),
}

/// Why a fetch position can't be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    #[error("leader epoch {0:?} is older than the partition's")]
    FencedLeaderEpoch(LeaderEpoch),
    #[error("leader epoch {0:?} is newer than the partition's")]
    UnknownLeaderEpoch(LeaderEpoch),
    #[error("offset {offset} is outside the log, which reaches from {log_start} to {log_end}")]
    OutOfRange { offset: Offset, log_start: Offset, log_end: Offset },
}

/// Why records can't be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("offset {wanted} is not between 0 and the high watermark {high_watermark}")]
    OutOfRange { wanted: Offset, high_watermark: Offset },
    #[error("log can't be written")]
    Storage,
}

/// Where a partition's log begins and how far its readers may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Exclusive, what read_committed may see.
    pub last_stable: Offset,
}

pub struct Partition {
    id: TopicPartition,
    log: Arc<Log>,
    clock: SharedClock,
    /// Batches that are not appended as they come.
    lane: Lane,
    state: Mutex<State>,
}

struct State {
    leader: Leader,
    /// What the producers have appended, what is still on its way to the disk included.
    producers: ProducerStates,
    /// What producers without state have to begin with.
    withheld: Withheld,
    waiters: FetchWaiters,
    config: Arc<TopicConfig>,
    /// Replicas that are in sync, the leader included.
    isr: usize,
    is_deleted: bool,
}

impl Partition {
    /// Leads the partition over its log, which nobody else appends to.
    pub fn lead(
        id: TopicPartition,
        log: Arc<Log>,
        image: &PartitionImage,
        config: Arc<TopicConfig>,
        clock: SharedClock,
    ) -> Arc<Self> {
        let state = State {
            leader: Leader::new(image.leader_epoch, log.log_end_offset()),
            producers: log.producer_states(),
            withheld: Withheld::default(),
            waiters: FetchWaiters::default(),
            config,
            isr: image.isr.len(),
            is_deleted: false,
        };
        let (lane, state) = (Lane::default(), Mutex::new(state));
        let partition = Arc::new(Self { id, log: Arc::clone(&log), clock, lane, state });
        log.set_listener(Arc::new(Listener(Arc::downgrade(&partition))));
        partition
    }

    pub fn id(&self) -> &TopicPartition {
        &self.id
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.state().config)
    }

    /// Takes over what changed in the metadata.
    pub(super) fn update(&self, config: Arc<TopicConfig>, image: &PartitionImage) {
        let mut state = self.state();
        state.config = config;
        state.isr = image.isr.len();
    }

    /// Whether `min.insync.replicas` are in sync: what acks=all asks for.
    pub fn has_enough_replicas(&self) -> bool {
        let state = self.state();
        state.isr >= usize::try_from(state.config.min_insync_replicas).unwrap_or(0)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state().leader.epoch()
    }

    /// Checks what a client sent, for an ingest hook to look at: all that can be said before it is known what will be
    /// stored. A gap in the sequences can't be seen yet, as batches before this one may be on their way.
    pub(crate) fn check_sent(&self, bytes: &Bytes) -> Result<Sent, AppendError> {
        let config = self.config();
        let meta = validate_sent(bytes, &config)?;
        let mut state = self.state();
        state.check_failed()?;
        let Some(producer) = &meta.producer else { return Ok(Sent::New(meta)) };
        match state.check_producer(producer, meta.last_offset.0 as i32) {
            Ok(ProducerCheck::Duplicate { base_offset, last_offset }) => {
                let is_stamped = config.message_timestamp_type == TimestampType::LogAppendTime;
                let append_time_ms = is_stamped.then(|| self.clock.wall_ms());
                let log_start_offset = self.log.log_start_offset();
                let before =
                    state.appended_before(base_offset, last_offset, log_start_offset, append_time_ms);
                Ok(Sent::Duplicate(before))
            }
            Err(error @ ProducerCheckError::InvalidProducerEpoch { .. }) => Err(error.into()),
            Ok(ProducerCheck::New) | Err(ProducerCheckError::OutOfOrderSequence { .. }) => {
                Ok(Sent::New(meta))
            }
        }
    }

    /// A batch was turned away, to be sent again: what its producer sent behind it must not take its place.
    pub(crate) fn turned_away(&self, producer: &ProducerBatch) {
        self.state().turned_away(producer, self.clock.wall_ms());
    }

    /// Checks the batch, gives it offsets and queues it for the disk. Returns without waiting for that;
    /// whoever needs the acknowledgement awaits `done`.
    pub fn append(&self, bytes: Bytes, origin: Origin) -> Result<Appended, AppendError> {
        let now_ms = self.clock.wall_ms();
        let config = self.config();
        let ValidBatch { bytes, mut meta, records, append_time_ms } =
            validate(bytes, &config, origin, now_ms)?;
        // Each record that was sent has an offset, also where a hook has dropped it.
        let offsets = meta.last_offset.0 + 1;
        let mut state = self.state();
        state.check_failed()?;
        let log_start_offset = self.log.log_start_offset();
        if let (Some(producer), Origin::Client | Origin::Ingest) = (&meta.producer, origin)
            && let ProducerCheck::Duplicate { base_offset, last_offset } =
                state.check_producer(producer, meta.last_offset.0 as i32)?
        {
            return Ok(state.appended_before(base_offset, last_offset, log_start_offset, append_time_ms));
        }
        let base_offset = state.leader.next_offset();
        meta.base_offset = base_offset;
        meta.last_offset = base_offset.plus(offsets - 1);
        meta.leader_epoch = state.leader.epoch();
        if let Err(error) = self.log.append(bytes, vec![meta]) {
            if let Some(producer) = &meta.producer {
                state.turned_away(producer, now_ms);
            }
            return Err(error.into());
        }
        state.leader.assign(offsets);
        state.producers.update(&meta);
        if let Some(producer) = &meta.producer {
            state.withheld.forget(producer.id);
        }
        let done = state.leader.when_acknowledged(meta.end_offset());
        Ok(Appended { base_offset, log_start_offset, append_time_ms, records, done })
    }

    /// Where the log begins and ends for readers.
    pub fn bounds(&self) -> Bounds {
        let high_watermark = self.state().leader.high_watermark();
        Bounds { log_start: self.log.log_start_offset(), high_watermark, last_stable: high_watermark }
    }

    /// The bounds, if a reader that believes in `epoch` may read from `offset`.
    pub fn check_position(
        &self,
        offset: Offset,
        epoch: Option<LeaderEpoch>,
    ) -> Result<Bounds, PositionError> {
        self.check_epoch(epoch)?;
        let bounds = self.bounds();
        if offset < bounds.log_start || offset > self.log.log_end_offset() {
            return Err(PositionError::OutOfRange {
                offset,
                log_start: bounds.log_start,
                log_end: self.log.log_end_offset(),
            });
        }
        Ok(bounds)
    }

    /// Whether a client that believes in `epoch` speaks to the leader it thinks of (KIP-320).
    pub fn check_epoch(&self, epoch: Option<LeaderEpoch>) -> Result<(), PositionError> {
        let current = self.leader_epoch();
        match epoch {
            Some(epoch) if epoch < current => Err(PositionError::FencedLeaderEpoch(epoch)),
            Some(epoch) if epoch > current => Err(PositionError::UnknownLeaderEpoch(epoch)),
            _ => Ok(()),
        }
    }

    /// Wakes `waiter` at the partition's next change: the high watermark moves, the log fails or is deleted.
    pub fn wait(&self, waiter: &Arc<FetchWaiter>) {
        self.state().waiters.register(waiter);
    }

    /// Moves the log start to `before`, by default the high watermark; returns where it is then.
    pub async fn delete_records(&self, before: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        let high_watermark = self.bounds().high_watermark;
        let before = before.unwrap_or(high_watermark);
        if before.0 < 0 || before > high_watermark {
            return Err(DeleteRecordsError::OutOfRange { wanted: before, high_watermark });
        }
        if before > self.log.log_start_offset() {
            self.log.advance_log_start_offset(before).map_err(|_| DeleteRecordsError::Storage)?;
            let log = Arc::clone(&self.log);
            let flushed = tokio::task::spawn_blocking(move || log.flush()).await;
            flushed.map_err(|_| DeleteRecordsError::Storage)?.map_err(|_| DeleteRecordsError::Storage)?;
        }
        Ok(self.log.log_start_offset())
    }

    /// The topic was deleted: whoever waits looks again and finds it gone.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_deleted = true;
        state.waiters.wake_all();
    }

    pub fn is_deleted(&self) -> bool {
        self.state().is_deleted
    }

    /// Forgets idle producers, as storage does in its checkpoints.
    pub(crate) fn expire_producers(&self, expiration_ms: i64) {
        let now_ms = self.clock.wall_ms();
        let mut state = self.state();
        state.producers.expire(now_ms, expiration_ms);
        state.withheld.expire(now_ms, expiration_ms);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("an invariant broke under this lock; its state can't be trusted")
    }
}

impl State {
    fn check_failed(&self) -> Result<(), AppendError> {
        match self.leader.failed() {
            Some(error) => Err(AppendError::Storage(Arc::clone(error))),
            None => Ok(()),
        }
    }

    fn check_producer(
        &self,
        producer: &ProducerBatch,
        last_offset_delta: i32,
    ) -> Result<ProducerCheck, ProducerCheckError> {
        if self.producers.get(producer.id).is_none() {
            self.withheld.check(producer)?;
        }
        self.producers.check(producer, last_offset_delta)
    }

    /// The answer to a duplicate. The first append may not be on disk yet: the second answer waits for it all the
    /// same.
    fn appended_before(
        &mut self,
        base_offset: Offset,
        last_offset: Offset,
        log_start_offset: Offset,
        append_time_ms: Option<i64>,
    ) -> Appended {
        let done = self.leader.when_acknowledged(last_offset.plus(1));
        Appended { base_offset, log_start_offset, append_time_ms, records: 0, done }
    }

    fn turned_away(&mut self, producer: &ProducerBatch, now_ms: i64) {
        // With state, a gap in the sequence is seen anyway.
        if self.producers.get(producer.id).is_none() {
            self.withheld.note(producer, now_ms);
        }
    }
}

/// What the log tells the partition. Weak, because the partition holds the log.
struct Listener(Weak<Partition>);

impl LogListener for Listener {
    fn flushed(&self, log_end_offset: Offset) {
        let Some(partition) = self.0.upgrade() else { return };
        let mut state = partition.state();
        if state.leader.flushed(log_end_offset) {
            state.waiters.wake_all();
        }
    }

    fn failed(&self, error: &Arc<StorageError>) {
        let Some(partition) = self.0.upgrade() else { return };
        let mut state = partition.state();
        state.leader.fail(error);
        state.waiters.wake_all();
    }
}
