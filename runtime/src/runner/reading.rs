//! What a sink has of its partitions: what was fetched and not handed over yet, and what was handed over and not
//! committed. State alone; the session does the waiting.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_record::{BatchError, RecordBatch};

use crate::batch::{InputBatch, InputError, Position};
use crate::plugin::message_bytes;
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
/// long. So one is open at a time, the first.
struct Incoming {
    partition: TopicPartition,
    batch: Bytes,
    /// The first offset that was not handed over.
    from: i64,
    /// The offset behind it.
    next: i64,
    opened: Option<InputBatch>,
    /// Records of it that were handed over.
    taken: usize,
}

/// What can't be handed over, although it is known where it ends.
pub(super) enum Unfit {
    Batch(Bytes),
    /// As a batch of its own.
    Record(Box<InputBatch>),
}

/// A batch that can't be opened, or a record that can't be handed over.
pub(super) struct Unreadable {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) error: InputError,
    /// What it is, if that is known. It stays in front of the others.
    pub(super) what: Option<Unfit>,
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
        self.is_revoking = self.has_uncommitted();
        if !self.is_revoking {
            self.partitions.clear();
        }
        self.is_revoking
    }

    /// What was revoked is gone. True if something was.
    pub(super) fn let_go(&mut self) -> bool {
        let is_gone = std::mem::take(&mut self.is_revoking);
        if is_gone {
            self.partitions.clear();
        }
        is_gone
    }

    /// Whether nothing is there to be handed over.
    pub(super) fn is_empty(&self) -> bool {
        self.inbox.is_empty()
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
                Err(error) => {
                    return Err(Unreadable { partition: key, offset: from, error: error.into(), what: None });
                }
            };
            let (next, end) = (from.max(batch.next_offset()), start + batch.size_in_bytes());
            self.inbox.push_back(Incoming {
                partition: key.clone(),
                batch: batches.slice(start..end),
                from,
                next,
                opened: None,
                taken: 0,
            });
            (from, start) = (next, end);
        }
        Ok(())
    }

    /// Hands over at most so many records. With `typed_bytes_max`, in typed form, for a plugin with so much memory.
    pub(super) fn take(
        &mut self,
        records_max: usize,
        typed_bytes_max: Option<usize>,
    ) -> Result<Taken, Unreadable> {
        let mut taken = Taken::default();
        let mut bytes_left = POLL_BYTES_MAX;
        // What a plugin holds beside the records is for it to know.
        let mut typed_left = typed_bytes_max.map(|max| max / 2);
        while let Some(incoming) = self.inbox.front_mut() {
            let left = records_max - usize::try_from(taken.records).unwrap_or(usize::MAX).min(records_max);
            if left == 0 || bytes_left == 0 {
                break;
            }
            let room = Room { records: left, bytes: bytes_left, typed: typed_left, whole: typed_bytes_max };
            let part = match incoming.take(room, taken.batches.is_empty()) {
                Ok(part) => part,
                // What was taken is handed over first, or it would be committed and nobody had seen it.
                Err(_) if taken.records > 0 => break,
                Err(error) => {
                    let (partition, offset) = (incoming.partition.clone(), incoming.from);
                    let at = incoming.taken;
                    let what = match &incoming.opened {
                        Some(opened) => Unfit::Record(Box::new(opened.slice(at..at + 1))),
                        None => Unfit::Batch(incoming.batch.clone()),
                    };
                    return Err(Unreadable { partition, offset, error, what: Some(what) });
                }
            };
            let (partition, next) = (incoming.partition.clone(), incoming.from);
            let is_done = next == incoming.next;
            if let Some(part) = part {
                bytes_left = bytes_left.saturating_sub(part.section.len());
                if let Some(left) = &mut typed_left {
                    let taken = part.records.iter().map(|record| message_bytes(&part, record)).sum();
                    *left = left.saturating_sub(taken);
                }
                taken.records += part.len() as u64;
                taken.bytes += if is_done { incoming.batch.len() as u64 } else { 0 };
                taken.batches.push(part);
            } else if !is_done {
                break;
            }
            self.hand_over(&partition, next);
            if !is_done {
                break;
            }
            self.inbox.pop_front();
        }
        Ok(taken)
    }

    /// What can't be handed over counts as if it had been.
    pub(super) fn skip(&mut self) {
        let Some(first) = self.inbox.front_mut() else { return };
        first.skip();
        let (partition, next, is_done) = (first.partition.clone(), first.from, first.from == first.next);
        if is_done {
            self.inbox.pop_front();
        }
        self.hand_over(&partition, next);
    }

    fn hand_over(&mut self, partition: &TopicPartition, next: i64) {
        if let Some(reader) = self.partitions.get_mut(partition) {
            (reader.next, reader.is_dirty, reader.sought) = (Some(next), true, None);
        }
    }

    pub(super) fn has_uncommitted(&self) -> bool {
        self.partitions.values().any(|reader| reader.is_dirty)
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

/// What a poll has room for.
#[derive(Clone, Copy)]
struct Room {
    records: usize,
    bytes: usize,
    /// In the plugin's memory; none if that is no matter.
    typed: Option<usize>,
    /// The same, of a record that comes alone.
    whole: Option<usize>,
}

impl Incoming {
    /// Records of it: at least one, if they are the first of a poll. None if nothing fits, or nothing is left.
    fn take(&mut self, room: Room, is_first: bool) -> Result<Option<InputBatch>, InputError> {
        let TopicPartition { topic, partition } = &self.partition;
        let opened = match self.opened.take() {
            Some(opened) => Some(opened),
            None => RecordBatch::new(&self.batch).map_err(InputError::from).and_then(|batch| {
                InputBatch::open(Position::Stream, topic, *partition, &batch, &self.batch, self.from)
            })?,
        };
        // There were only control records.
        let Some(opened) = opened else {
            self.from = self.next;
            return Ok(None);
        };
        let end = match fitting(&opened, self.taken, room, is_first) {
            Ok(fits) => self.taken + fits,
            Err(error) => {
                self.opened = Some(opened);
                return Err(error);
            }
        };
        if end == opened.len() {
            self.from = self.next;
            return Ok(Some(if self.taken == 0 { opened } else { opened.slice(self.taken..end) }));
        }
        let part = (end > self.taken).then(|| opened.slice(self.taken..end));
        (self.from, self.taken) = (opened.offset(&opened.records[end]), end);
        self.opened = Some(opened);
        Ok(part)
    }

    /// Leaves out a record, if it is open, or the batch.
    fn skip(&mut self) {
        self.taken += 1;
        let next =
            self.opened.as_ref().and_then(|opened| Some(opened.offset(opened.records.get(self.taken)?)));
        self.from = next.unwrap_or(self.next);
    }
}

/// How many of the batch's records from there on are handed over: at least one, if it is the first.
fn fitting(batch: &InputBatch, from: usize, room: Room, is_first: bool) -> Result<usize, InputError> {
    let start = from.checked_sub(1).map_or(0, |before| batch.records[before].body.end as usize);
    let mut typed = 0;
    let fits = batch.records[from..].iter().take(room.records).take_while(|record| {
        let has_room = room.typed.is_none_or(|max| {
            typed += message_bytes(batch, record);
            typed <= max
        });
        has_room && record.body.end as usize - start <= room.bytes
    });
    let fits = fits.count();
    if fits > 0 || !is_first {
        return Ok(fits);
    }
    // It comes alone.
    match room.whole.map(|max| (message_bytes(batch, &batch.records[from]), max)) {
        Some((bytes, max)) if bytes > max => Err(InputError::TooLarge { bytes, max }),
        _ => Ok(1.min(room.records)),
    }
}
