//! A commit's entries: what it appended and changed, in order.

use uuid::Uuid;

use super::packed::{MalformedRow, PackedReader, PackedWriter, add};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicIdPartition};
use crate::log::LogNumber;
use crate::log::batch::{BatchMeta, ProducerBatch};
use crate::log::state::Change;

const ENTRIES_ROW_VERSION: u8 = 1;

const TAG_BATCHES: u8 = 1;
const TAG_CREATE: u8 = 2;
const TAG_DELETE: u8 = 3;
const TAG_TRUNCATE: u8 = 4;
const TAG_LOG_START: u8 = 5;
const TAG_RESTART: u8 = 6;
const TAG_REMOVE_SEGMENT: u8 = 7;
const TAG_ADD_SEGMENT: u8 = 8;

const FLAG_PRODUCER: u8 = 1;
const FLAG_TRANSACTIONAL: u8 = 2;
const FLAG_CONTROL: u8 = 4;
const FLAGS: u8 = FLAG_PRODUCER | FLAG_TRANSACTIONAL | FLAG_CONTROL;

/// One thing that a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Create(LogNumber, TopicIdPartition),
    Delete(LogNumber),
    Change(LogNumber, Change),
    /// The segment holds nothing that counts; its file goes once this is synced.
    RemoveSegment(u32),
    /// A compacted segment counts from now on.
    AddSegment(u32),
}

/// Packs entries as they come; consecutive batches of a log share what they have in common.
pub(crate) struct EntriesEncoder {
    row: PackedWriter,
    run: Option<Run>,
}

/// The batches of one log that are being packed.
struct Run {
    log: LogNumber,
    next_offset: i64,
    leader_epoch: i32,
    max_timestamp: i64,
}

impl EntriesEncoder {
    /// `position` is where the commit's first batch goes; the others follow without a gap.
    pub(crate) fn new(position: u64) -> Self {
        let mut row = PackedWriter::new(ENTRIES_ROW_VERSION);
        row.varint(position);
        Self { row, run: None }
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        match entry {
            Entry::Change(log, Change::Append(batch)) => return self.push_batch(*log, batch),
            Entry::Create(log, tp) => {
                self.tag(TAG_CREATE, *log);
                self.row.raw(tp.topic_id.0.as_bytes());
                self.row.signed(i64::from(tp.partition.0));
            }
            Entry::Delete(log) => self.tag(TAG_DELETE, *log),
            Entry::RemoveSegment(number) => {
                self.row.u8(TAG_REMOVE_SEGMENT);
                self.row.varint(u64::from(*number));
            }
            Entry::AddSegment(number) => {
                self.row.u8(TAG_ADD_SEGMENT);
                self.row.varint(u64::from(*number));
            }
            Entry::Change(log, Change::Truncate(offset)) => self.offset(TAG_TRUNCATE, *log, *offset),
            Entry::Change(log, Change::AdvanceLogStart(offset)) => self.offset(TAG_LOG_START, *log, *offset),
            Entry::Change(log, Change::Restart(offset)) => self.offset(TAG_RESTART, *log, *offset),
        }
        self.run = None;
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.row.finish()
    }

    fn tag(&mut self, tag: u8, log: LogNumber) {
        self.row.u8(tag);
        self.row.varint(u64::from(log.0));
    }

    fn offset(&mut self, tag: u8, log: LogNumber, offset: Offset) {
        self.tag(tag, log);
        self.row.signed(offset.0);
    }

    /// A batch of the log of the batch before it leaves out the log, and says how it differs.
    fn push_batch(&mut self, log: LogNumber, batch: &BatchMeta) {
        let run = match self.run.take() {
            Some(run) if run.log == log => {
                self.row.u8(0);
                run
            }
            _ => {
                self.tag(TAG_BATCHES, log);
                Run { log, next_offset: 0, leader_epoch: 0, max_timestamp: 0 }
            }
        };
        let mut flags = 0;
        flags |= if batch.producer.is_some() { FLAG_PRODUCER } else { 0 };
        flags |= if batch.is_transactional { FLAG_TRANSACTIONAL } else { 0 };
        flags |= if batch.is_control { FLAG_CONTROL } else { 0 };
        let row = &mut self.row;
        row.u8(flags);
        row.signed(batch.base_offset.0.wrapping_sub(run.next_offset));
        row.varint((batch.last_offset.0 - batch.base_offset.0) as u64);
        row.varint(u64::from(batch.length));
        row.signed(batch.max_timestamp.wrapping_sub(run.max_timestamp));
        row.signed(i64::from(batch.leader_epoch.0) - i64::from(run.leader_epoch));
        if let Some(producer) = &batch.producer {
            row.signed(producer.id.0);
            row.signed(i64::from(producer.epoch.0));
            row.signed(i64::from(producer.base_sequence));
        }
        self.run = Some(Run {
            log,
            next_offset: batch.end_offset().0,
            leader_epoch: batch.leader_epoch.0,
            max_timestamp: batch.max_timestamp,
        });
    }
}

/// Hands each entry of a commit to `each`, with the position of a batch's first byte (for any other
/// entry: of the next batch). Answers the position after the commit's last batch.
pub(crate) fn decode_entries(row: &[u8], mut each: impl FnMut(Entry, u64)) -> Result<u64, MalformedRow> {
    let mut row = PackedReader::new(row, ENTRIES_ROW_VERSION)?;
    let mut position = row.varint()?;
    let mut run: Option<Run> = None;
    while !row.is_empty() {
        let tag = row.u8()?;
        let number = match (tag, &run) {
            (0, Some(run)) => run.log.0,
            (0, None) => return Err(MalformedRow::Tag(0)),
            _ => row.narrow()?,
        };
        let log = LogNumber(number);
        let entry = match tag {
            0 | TAG_BATCHES => {
                let previous = if tag == 0 { run.take() } else { None };
                let (batch, next) = decode_batch(&mut row, log, previous)?;
                run = Some(next);
                let here = position;
                position = position.checked_add(u64::from(batch.length)).ok_or(MalformedRow::Range)?;
                each(Entry::Change(log, Change::Append(batch)), here);
                continue;
            }
            TAG_CREATE => {
                let topic_id = TopicId(Uuid::from_bytes(row.raw()?));
                let partition = PartitionIndex(row.narrow_signed()?);
                Entry::Create(log, TopicIdPartition { topic_id, partition })
            }
            TAG_DELETE => Entry::Delete(log),
            TAG_REMOVE_SEGMENT => Entry::RemoveSegment(number),
            TAG_ADD_SEGMENT => Entry::AddSegment(number),
            TAG_TRUNCATE => Entry::Change(log, Change::Truncate(Offset(row.signed()?))),
            TAG_LOG_START => Entry::Change(log, Change::AdvanceLogStart(Offset(row.signed()?))),
            TAG_RESTART => Entry::Change(log, Change::Restart(Offset(row.signed()?))),
            tag => return Err(MalformedRow::Tag(tag)),
        };
        run = None;
        each(entry, position);
    }
    Ok(position)
}

fn decode_batch(
    row: &mut PackedReader<'_>,
    log: LogNumber,
    run: Option<Run>,
) -> Result<(BatchMeta, Run), MalformedRow> {
    let run = run.unwrap_or(Run { log, next_offset: 0, leader_epoch: 0, max_timestamp: 0 });
    let flags = row.u8()?;
    if flags & !FLAGS != 0 {
        return Err(MalformedRow::Tag(flags));
    }
    let base_offset = run.next_offset.wrapping_add(row.signed()?);
    let last_offset = add(base_offset, row.narrow::<i32>()?.into())?;
    let end_offset = add(last_offset, 1)?;
    if base_offset < 0 {
        return Err(MalformedRow::Range);
    }
    let length = row.narrow()?;
    let max_timestamp = run.max_timestamp.wrapping_add(row.signed()?);
    let leader_epoch = add(run.leader_epoch.into(), row.signed()?)?;
    let leader_epoch = i32::try_from(leader_epoch).map_err(|_| MalformedRow::Range)?;
    let producer = if flags & FLAG_PRODUCER == 0 {
        None
    } else {
        Some(ProducerBatch {
            id: ProducerId(row.signed()?),
            epoch: ProducerEpoch(row.narrow_signed()?),
            base_sequence: row.narrow_signed()?,
        })
    };
    let batch = BatchMeta {
        base_offset: Offset(base_offset),
        last_offset: Offset(last_offset),
        leader_epoch: LeaderEpoch(leader_epoch),
        max_timestamp,
        length,
        producer,
        is_transactional: flags & FLAG_TRANSACTIONAL != 0,
        is_control: flags & FLAG_CONTROL != 0,
    };
    Ok((batch, Run { log, next_offset: end_offset, leader_epoch, max_timestamp }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_batch() -> impl Strategy<Value = BatchMeta> {
        (
            0..i64::MAX - 2_000_000_000,
            0..i32::MAX,
            any::<u32>(),
            any::<i64>(),
            any::<i32>(),
            proptest::option::of((any::<i64>(), any::<i16>(), any::<i32>())),
            any::<(bool, bool)>(),
        )
            .prop_map(|(base, delta, length, max_timestamp, epoch, producer, flags)| BatchMeta {
                base_offset: Offset(base),
                last_offset: Offset(base + i64::from(delta.min(1_000_000_000))),
                leader_epoch: LeaderEpoch(epoch),
                max_timestamp,
                length,
                producer: producer.map(|(id, epoch, base_sequence)| ProducerBatch {
                    id: ProducerId(id),
                    epoch: ProducerEpoch(epoch),
                    base_sequence,
                }),
                is_transactional: flags.0,
                is_control: flags.1,
            })
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let log = (0..4u32).prop_map(LogNumber);
        let batch = (log.clone(), any_batch()).prop_map(|(log, b)| Entry::Change(log, Change::Append(b)));
        let offset = any::<i64>().prop_map(Offset);
        prop_oneof![
            6 => batch,
            1 => (log.clone(), any::<(u128, i32)>()).prop_map(|(log, (id, partition))| {
                let topic_id = TopicId(Uuid::from_u128(id));
                Entry::Create(log, TopicIdPartition { topic_id, partition: PartitionIndex(partition) })
            }),
            1 => log.clone().prop_map(Entry::Delete),
            1 => any::<u32>().prop_map(Entry::RemoveSegment),
            1 => any::<u32>().prop_map(Entry::AddSegment),
            1 => (log.clone(), offset.clone()).prop_map(|(l, o)| Entry::Change(l, Change::Truncate(o))),
            1 => (log.clone(), offset.clone()).prop_map(|(l, o)| Entry::Change(l, Change::AdvanceLogStart(o))),
            1 => (log, offset).prop_map(|(l, o)| Entry::Change(l, Change::Restart(o))),
        ]
    }

    proptest! {
        #[test]
        fn entries_survive(entries in proptest::collection::vec(any_entry(), 0..40), start in 0..1u64 << 40) {
            let mut encoder = EntriesEncoder::new(start);
            entries.iter().for_each(|entry| encoder.push(entry));
            let row = encoder.finish();

            let mut expected_position = start;
            let mut found = Vec::new();
            let end = decode_entries(&row, |entry, position| {
                assert_eq!(position, expected_position);
                if let Entry::Change(_, Change::Append(batch)) = &entry {
                    expected_position += u64::from(batch.length);
                }
                found.push(entry);
            }).unwrap();
            prop_assert_eq!(found, entries);
            prop_assert_eq!(end, expected_position);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Rows with a right checksum, as an attacker or a later release would make them.
            let mut row = PackedWriter::new(ENTRIES_ROW_VERSION);
            row.raw(&bytes);
            let _ = decode_entries(&row.finish(), |_, _| {});
            let _ = decode_entries(&bytes, |_, _| {});
        }
    }
}
