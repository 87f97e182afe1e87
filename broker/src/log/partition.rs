//! One partition's log: appends go to its log dir's writer, reads come from its spans.
//!
//! `inner` is what is flushed: the writer changes it after a commit was synced, everyone else only
//! reads it. `assigned` is ahead of it by what is queued.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use millstream_record::HEADER_BYTES;

use super::LogNumber;
use super::batch::BatchMeta;
use super::dir::DirShared;
use super::error::StorageError;
use super::leader_epochs::LeaderEpochs;
use super::producer_states::ProducerStates;
use super::queue::Command;
use super::schema::Range;
use super::segment::Segment;
use super::span::{Span, SpanIndex};
use super::state::{Change, LogState};
use crate::ids::{LeaderEpoch, Offset, TopicIdPartition};

/// Told of a log's fate by the log dir's writer thread; must not block.
pub trait LogListener: Send + Sync {
    /// Everything before `log_end_offset` is on disk. Once per commit that touched the log.
    fn flushed(&self, log_end_offset: Offset);
    /// The log dir is fenced: nothing that wasn't flushed will be. Once.
    fn failed(&self, error: &Arc<StorageError>);
}

/// Why something wasn't queued.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    #[error("append to a log dir that failed")]
    Fenced(#[source] Arc<StorageError>),
    /// The request memory bounds what is in flight; this is the backstop.
    #[error("append: {queued_bytes} bytes are queued already")]
    QueueFull { queued_bytes: usize },
    #[error("append to a deleted log")]
    Deleted,
    /// Retriable: retention, or an operator, makes room.
    #[error(
        "append: the disk is full but for {free_bytes} bytes, of which the last {reserve_bytes} are kept for \
         giving space back"
    )]
    DiskFull { free_bytes: u64, reserve_bytes: u64 },
}

/// A partition's log in a log dir.
pub struct Log {
    tp: TopicIdPartition,
    number: LogNumber,
    pub(crate) dir: Arc<DirShared>,
    assigned: Mutex<Assigned>,
    inner: RwLock<LogInner>,
    listener: OnceLock<Arc<dyn LogListener>>,
    /// Compaction could not read it.
    is_uncleanable: AtomicBool,
}

struct Assigned {
    next_offset: Offset,
    is_deleted: bool,
}

/// What is flushed.
pub(crate) struct LogInner {
    pub(crate) state: LogState,
    /// Ascending and without a gap from the log start on.
    pub(crate) spans: Vec<Span>,
    /// Below this, compaction has left at most one record of a key.
    pub(crate) compacted_to: i64,
}

impl Log {
    pub(crate) fn new(tp: TopicIdPartition, number: LogNumber, dir: Arc<DirShared>, inner: LogInner) -> Self {
        let assigned = Assigned { next_offset: inner.state.log_end_offset, is_deleted: false };
        Self {
            tp,
            number,
            dir,
            assigned: Mutex::new(assigned),
            inner: RwLock::new(inner),
            listener: OnceLock::new(),
            is_uncleanable: AtomicBool::new(false),
        }
    }

    /// Whether compaction found that it can't be read.
    pub(crate) fn is_uncleanable(&self) -> bool {
        self.is_uncleanable.load(Ordering::Relaxed)
    }

    pub(crate) fn set_uncleanable(&self) {
        self.is_uncleanable.store(true, Ordering::Relaxed);
    }

    pub fn topic_id_partition(&self) -> TopicIdPartition {
        self.tp
    }

    pub fn number(&self) -> LogNumber {
        self.number
    }

    /// Who is told of flushes. Set once, before the first append.
    pub fn set_listener(&self, listener: Arc<dyn LogListener>) {
        let was_set = self.listener.set(listener).is_err();
        assert!(!was_set, "a log has one listener");
    }

    /// Queues whole batches, end to end in `data`, one `meta` each. Never blocks. The batches take
    /// the offsets and the leader epoch of their metas, which must follow each other and what was
    /// appended before; the writer puts them into the batches' headers.
    pub fn append(self: &Arc<Self>, data: Bytes, metas: Vec<BatchMeta>) -> Result<(), AppendError> {
        assert!(!metas.is_empty(), "an append has a batch");
        let length: usize = metas.iter().map(|meta| meta.length as usize).sum();
        assert_eq!(length, data.len(), "the metas describe all of the data");
        self.dir.space.admit(&*self.dir.disk, &self.dir.path)?;
        let mut assigned = self.lock_assigned();
        let mut next_offset = assigned.next_offset;
        for meta in &metas {
            assert_eq!(meta.base_offset, next_offset, "batches follow each other");
            assert!(meta.last_offset >= meta.base_offset, "a batch takes an offset");
            assert!(meta.length as usize >= HEADER_BYTES, "a batch has a header");
            next_offset = meta.end_offset();
        }
        self.queue(&assigned, Command::Append { log: self.clone(), data, metas })?;
        assigned.next_offset = next_offset;
        Ok(())
    }

    /// Cuts the log off: it ends at `end`, without the batch that `end` lies in. Nothing happens
    /// if it ends there already.
    pub fn truncate_to(self: &Arc<Self>, end: Offset) -> Result<(), AppendError> {
        let mut assigned = self.lock_assigned();
        if end < assigned.next_offset {
            self.queue(&assigned, self.change(Change::Truncate(end)))?;
            assigned.next_offset = end;
        }
        Ok(())
    }

    /// Drops everything, and goes on at `offset`: for a follower whose leader's log starts beyond
    /// its own end.
    pub fn truncate_fully_and_start_at(self: &Arc<Self>, offset: Offset) -> Result<(), AppendError> {
        let mut assigned = self.lock_assigned();
        self.queue(&assigned, self.change(Change::Restart(offset)))?;
        assigned.next_offset = offset;
        Ok(())
    }

    /// Gives up the records before `start`, which is at most the log end. The bytes come free when
    /// the log dir reclaims.
    pub fn advance_log_start_offset(self: &Arc<Self>, start: Offset) -> Result<(), AppendError> {
        let assigned = self.lock_assigned();
        assert!(start <= assigned.next_offset, "a log starts before it ends");
        self.queue(&assigned, self.change(Change::AdvanceLogStart(start)))
    }

    /// Waits until what was queued before is on disk. Blocks.
    pub fn flush(&self) -> Result<(), Arc<StorageError>> {
        self.dir.flush()
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.inner().state.log_start_offset
    }

    /// The offset after the last flushed record.
    pub fn log_end_offset(&self) -> Offset {
        self.inner().state.log_end_offset
    }

    /// The offset after the last queued record: what the next batch takes.
    pub fn next_offset(&self) -> Offset {
        self.lock_assigned().next_offset
    }

    /// Bytes of the batches from the log start on.
    pub fn size_in_bytes(&self) -> u64 {
        let inner = self.inner();
        let start = inner.state.log_start_offset.0;
        inner.spans.iter().map(|span| span.live_bytes(start)).sum()
    }

    /// The leader epochs of the flushed records.
    pub fn leader_epochs(&self) -> LeaderEpochs {
        self.inner().state.leader_epochs.clone()
    }

    /// See [`LeaderEpochs::end_offset`].
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let inner = self.inner();
        inner.state.leader_epochs.end_offset(epoch, inner.state.log_end_offset)
    }

    /// The producers of the flushed records.
    pub fn producer_states(&self) -> ProducerStates {
        self.inner().state.producer_states.clone()
    }

    /// Persistent state as of the last flush.
    pub fn state(&self) -> LogState {
        self.inner().state.clone()
    }

    /// Folds what a commit did to the log; the commit is synced.
    pub(crate) fn apply(&self, segment: &Arc<Segment>, changes: &[(Change, u64)]) {
        let mut inner = self.inner_mut();
        for (change, position) in changes {
            inner.apply(segment, change, *position);
        }
    }

    pub(crate) fn notify_flushed(&self) {
        if let Some(listener) = self.listener.get() {
            listener.flushed(self.log_end_offset());
        }
    }

    pub(crate) fn notify_failed(&self, error: &Arc<StorageError>) {
        if let Some(listener) = self.listener.get() {
            listener.failed(error);
        }
    }

    /// Nothing is queued for the log any more.
    pub(crate) fn mark_deleted(self: &Arc<Self>) -> Result<(), AppendError> {
        let mut assigned = self.lock_assigned();
        self.queue(&assigned, Command::Delete { log: self.clone() })?;
        assigned.is_deleted = true;
        Ok(())
    }

    pub(crate) fn inner(&self) -> RwLockReadGuard<'_, LogInner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inner_mut(&self) -> RwLockWriteGuard<'_, LogInner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(self: &Arc<Self>, change: Change) -> Command {
        Command::Change { log: self.clone(), change }
    }

    /// Takes the guard as proof that commands are queued in the order in which offsets are assigned.
    fn queue(&self, assigned: &Assigned, command: Command) -> Result<(), AppendError> {
        if assigned.is_deleted {
            return Err(AppendError::Deleted);
        }
        self.dir.queue.push(command)
    }

    fn lock_assigned(&self) -> std::sync::MutexGuard<'_, Assigned> {
        self.assigned.lock().expect("appending panics only on a broken invariant")
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({} {})", self.number.0, self.tp)
    }
}

impl LogInner {
    pub(crate) fn new(state: LogState) -> Self {
        Self { state, spans: Vec::new(), compacted_to: 0 }
    }

    /// How far compaction has come.
    pub(crate) fn end_of_compacted(&self) -> i64 {
        self.spans.iter().map(|span| span.compacted_end.min(span.end_offset)).max().unwrap_or(0)
    }

    /// Takes over what compaction wrote, in place of what segments before it hold. `spans` ascend.
    pub(crate) fn adopt(&mut self, spans: Vec<Span>) {
        let Some(last) = spans.last().map(|span| span.segment.number) else { return };
        let later = self.spans.drain(..).filter(|span| span.segment.number > last);
        let later: Vec<Span> = later.collect();
        self.spans = spans;
        for span in later {
            self.push_span(span);
        }
        self.clip();
        self.compacted_to = self.end_of_compacted();
    }

    /// The one place that keeps state and spans in step.
    pub(crate) fn apply(&mut self, segment: &Arc<Segment>, change: &Change, position: u64) {
        self.state.fold(change);
        match change {
            Change::Append(batch) => {
                match self.spans.last() {
                    Some(span) if Arc::ptr_eq(&span.segment, segment) => {}
                    _ => self.spans.push(Span::new(segment.clone(), batch.base_offset.0)),
                }
                let span = self.spans.last_mut().expect("one was pushed if there was none");
                span.push(batch, position);
            }
            Change::Truncate(end) => {
                self.truncate(end.0);
                self.compacted_to = self.compacted_to.min(end.0);
            }
            Change::AdvanceLogStart(start) => self.spans.retain(|span| span.end_offset > start.0),
            Change::Restart(_) => {
                self.spans.clear();
                self.compacted_to = 0;
            }
        }
    }

    /// Takes over what an older segment holds, before what later ones hold of the same offsets.
    /// Spans come in the order of their segments.
    pub(crate) fn push_span(&mut self, span: Span) {
        self.truncate(span.first_offset);
        self.spans.push(span);
    }

    pub(crate) fn truncate(&mut self, end: i64) {
        for span in &mut self.spans {
            span.truncate(end);
        }
        self.spans.retain(|span| !span.is_empty());
    }

    /// The offsets that the log has in a segment.
    pub(crate) fn offsets_in(&self, segment: &Arc<Segment>) -> Option<std::ops::Range<i64>> {
        let span = self.spans.iter().find(|span| Arc::ptr_eq(&span.segment, segment))?;
        Some(span.first_offset..span.end_offset)
    }

    /// Drops what the state says is gone: for spans that were read from disk.
    pub(crate) fn clip(&mut self) {
        self.truncate(self.state.log_end_offset.0);
        let start = self.state.log_start_offset.0;
        self.spans.retain(|span| span.end_offset > start);
    }

    /// A rewritten segment takes the old one's place, and holds `range` of the log: fewer batches
    /// perhaps, but every live one.
    pub(crate) fn replace_segment(&mut self, old: &Arc<Segment>, new: &Arc<Segment>, range: Option<&Range>) {
        self.spans.retain_mut(|span| {
            if !Arc::ptr_eq(&span.segment, old) {
                return true;
            }
            let Some(range) = range else { return false };
            span.segment = new.clone();
            span.first_offset = range.first_offset;
            span.bytes = range.bytes;
            span.batches = range.batches;
            span.max_timestamp = range.max_timestamp;
            true
        });
    }

    /// The segment's index is on disk now.
    pub(crate) fn forget_index(&mut self, segment: &Arc<Segment>) {
        for span in self.spans.iter_mut().filter(|span| Arc::ptr_eq(&span.segment, segment)) {
            span.index = SpanIndex::Sealed;
        }
    }
}
