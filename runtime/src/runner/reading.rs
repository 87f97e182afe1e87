//! What a sink has of its partitions: what was fetched and not handed over yet, and what was handed over and not
//! committed. State alone; the session does the waiting.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_record::{BatchError, RecordBatch};

use crate::batch::{InputBatch, InputError, Position};
use crate::stage::{FetchedPartition, SeekTo, TopicPartition};

/// Bytes that one poll hands over beyond its first record.
const POLL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Reading {
    partitions: BTreeMap<TopicPartition, Reader>,
    inbox: VecDeque<Incoming>,
    /// The group takes the partitions away; until the next poll their offsets can be committed.
    pub(super) is_revoking: bool,
}

/// One partition of the assignment.
#[derive(Default)]
struct Reader {
    /// What is polled next; none until it is known.
    next: Option<i64>,
    /// `next` is not committed.
    is_dirty: bool,
    is_paused: bool,
    /// Where it was sent, until something of it is polled.
    sought: Option<SeekTo>,
    high_watermark: i64,
}

/// A record batch that was fetched. It is opened when it is handed over: what is compressed may be a thousand times as
/// long.
struct Incoming {
    partition: TopicPartition,
    batch: Bytes,
    /// The first offset that was not handed over.
    from: i64,
    /// The offset behind it.
    next: i64,
}

/// A batch that can't be opened.
pub(super) struct Unreadable {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) error: InputError,
}

/// Where a partition goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    NotPaused,
    At(SeekTo),
    AtCommitted,
}

/// What a poll hands over.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) batches: Vec<InputBatch>,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Reading {
    pub(super) fn assign(&mut self, partitions: Vec<TopicPartition>) {
        for partition in partitions {
            self.inbox.retain(|incoming| incoming.partition != partition);
            self.partitions.insert(partition, Reader::default());
        }
    }

    /// The group takes everything away. True if something is left to be committed first.
    pub(super) fn revoke(&mut self) -> bool {
        self.inbox.clear();
        self.is_revoking = self.partitions.values().any(|reader| reader.is_dirty);
        if !self.is_revoking {
            self.partitions.clear();
        }
        self.is_revoking
    }

    /// What was revoked is gone.
    pub(super) fn let_go(&mut self) {
        if std::mem::take(&mut self.is_revoking) {
            self.partitions.clear();
        }
    }

    /// The membership is over.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(super) fn accept(&mut self, fetched: FetchedPartition) -> Result<(), Unreadable> {
        let FetchedPartition { topic, partition, position, high_watermark, batches } = fetched;
        let key = TopicPartition { topic, partition };
        let Some(reader) = self.partitions.get_mut(&key) else { return Ok(()) };
        reader.high_watermark = high_watermark;
        let (mut from, mut start) = (position, 0);
        for batch in RecordBatch::batches(&batches) {
            let batch = match batch {
                Ok(batch) => batch,
                // A fetch may end inside a batch; the next one begins with it.
                Err(BatchError::Incomplete { .. }) => break,
                Err(error) => return Err(Unreadable { partition: key, offset: from, error: error.into() }),
            };
            let (next, end) = (from.max(batch.next_offset()), start + batch.size_in_bytes());
            self.inbox.push_back(Incoming {
                partition: key.clone(),
                batch: batches.slice(start..end),
                from,
                next,
            });
            (from, start) = (next, end);
        }
        Ok(())
    }

    /// Hands over at most so many records.
    pub(super) fn take(&mut self, records_max: usize) -> Result<Taken, Unreadable> {
        let mut taken = Taken::default();
        let mut bytes_left = POLL_BYTES_MAX;
        while let Some(mut incoming) = self.inbox.pop_front() {
            let left = records_max - usize::try_from(taken.records).unwrap_or(usize::MAX).min(records_max);
            if left == 0 || bytes_left == 0 {
                self.inbox.push_front(incoming);
                break;
            }
            let batch = match incoming.open() {
                Ok(Some(batch)) => batch,
                Ok(None) => {
                    // There were only control records.
                    self.hand_over(&incoming.partition, incoming.next);
                    continue;
                }
                // What was taken is handed over first, or it would be committed and nobody had seen it.
                Err(_) if taken.records > 0 => {
                    self.inbox.push_front(incoming);
                    break;
                }
                Err(unreadable) => return Err(unreadable),
            };
            let fits = fitting(&batch, left, bytes_left, taken.batches.is_empty());
            if fits < batch.len() {
                if fits > 0 {
                    incoming.from = batch.offset(&batch.records[fits]);
                    taken.records += fits as u64;
                    taken.batches.push(batch.slice(0..fits));
                    self.hand_over(&incoming.partition, incoming.from);
                }
                self.inbox.push_front(incoming);
                break;
            }
            bytes_left = bytes_left.saturating_sub(batch.section.len());
            taken.records += fits as u64;
            taken.bytes += incoming.batch.len() as u64;
            taken.batches.push(batch);
            self.hand_over(&incoming.partition, incoming.next);
        }
        Ok(taken)
    }

    fn hand_over(&mut self, partition: &TopicPartition, next: i64) {
        if let Some(reader) = self.partitions.get_mut(partition) {
            (reader.next, reader.is_dirty, reader.sought) = (Some(next), true, None);
        }
    }

    /// What was polled and not committed, as the next offset to be read.
    pub(super) fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        let dirty = self.partitions.iter().filter(|(_, reader)| reader.is_dirty);
        dirty.filter_map(|(partition, reader)| Some((partition.clone(), reader.next?))).collect()
    }

    pub(super) fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, offset) in offsets {
            if let Some(reader) = self.partitions.get_mut(partition)
                && reader.next == Some(*offset)
            {
                reader.is_dirty = false;
            }
        }
    }

    /// How far each partition that was read is from its end.
    pub(super) fn lags(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        self.partitions.iter().filter_map(|(partition, reader)| {
            Some((partition.clone(), reader.high_watermark.saturating_sub(reader.next?)))
        })
    }

    pub(super) fn owns(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        if self.is_revoking { Vec::new() } else { self.partitions.keys().cloned().collect() }
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.next
    }

    /// The partition is read elsewhere. True if it is paused.
    pub(super) fn seek(&mut self, partition: &TopicPartition, to: SeekTo) -> bool {
        self.forget(partition);
        let next = if let SeekTo::Offset(offset) = to { Some(offset) } else { None };
        let Some(reader) = self.partitions.get_mut(partition) else { return false };
        // As with Kafka's consumers, what is committed next is where it was sent.
        (reader.next, reader.is_dirty, reader.sought) = (next, next.is_some(), Some(to));
        reader.is_paused
    }

    /// Back to what is committed: what was polled since counts as never polled.
    pub(super) fn rewind(&mut self, partition: &TopicPartition, next: Option<i64>) {
        self.forget(partition);
        if let Some(reader) = self.partitions.get_mut(partition) {
            (reader.next, reader.is_dirty, reader.is_paused, reader.sought) = (next, false, false, None);
        }
    }

    /// False if it was paused before.
    pub(super) fn pause(&mut self, partition: &TopicPartition) -> bool {
        self.forget(partition);
        let reader = self.partitions.get_mut(partition);
        reader.is_some_and(|reader| !std::mem::replace(&mut reader.is_paused, true))
    }

    pub(super) fn resume(&mut self, partition: &TopicPartition) -> Resumed {
        let paused = self.partitions.get_mut(partition).filter(|reader| reader.is_paused);
        let Some(reader) = paused else { return Resumed::NotPaused };
        reader.is_paused = false;
        match (reader.sought, reader.next) {
            (Some(to), _) => Resumed::At(to),
            (None, Some(next)) => Resumed::At(SeekTo::Offset(next)),
            (None, None) => Resumed::AtCommitted,
        }
    }

    fn forget(&mut self, partition: &TopicPartition) {
        self.inbox.retain(|incoming| incoming.partition != *partition);
    }
}

impl Incoming {
    /// None where there is no record left.
    fn open(&self) -> Result<Option<InputBatch>, Unreadable> {
        let TopicPartition { topic, partition } = &self.partition;
        let opened = RecordBatch::new(&self.batch).map_err(InputError::from).and_then(|batch| {
            InputBatch::open(Position::Stream, topic, *partition, &batch, &self.batch, self.from)
        });
        opened.map_err(|error| Unreadable { partition: self.partition.clone(), offset: self.from, error })
    }
}

/// How many of the batch's records are handed over: at least one, if it is the first.
fn fitting(batch: &InputBatch, records_max: usize, bytes_max: usize, is_first: bool) -> usize {
    if batch.len() <= records_max && batch.section.len() <= bytes_max {
        return batch.len();
    }
    let mut records = batch.records.iter().take(records_max);
    let fits = records.by_ref().take_while(|record| record.body.end as usize <= bytes_max).count();
    if is_first { fits.max(1).min(records_max) } else { fits }
}
