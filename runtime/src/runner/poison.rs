//! What a sink has polled and not committed, and what of it its plugin can't live with. State alone; the session does
//! what follows from it.
//!
//! A plugin that has crashed twice with something outstanding at the same place gets those records one at a time: the
//! next is handed over when the one before is committed. So a second crash at one of them says which it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::batch::{InputBatch, InputRecord};
use crate::stage::TopicPartition;

/// Crashes at one place after which its records are handed over alone.
const CRASHES_TOGETHER: u32 = 2;
/// Crashes at a record that was handed over alone, and it is to blame.
const CRASHES_ALONE: u32 = 2;
/// What is kept of what is outstanding, beside the last poll: records of which the plugin can say that they are bad.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A plugin that commits only when it has many records gets another one after that time.
const ALONE_TIME_MAX: Duration = Duration::from_secs(10);
/// Where the plugin neither crashes nor commits anything for so long, its records are handed over together again.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(10 * 60);

/// See the module.
#[derive(Default)]
pub(super) struct Poison {
    /// The last records that are outstanding, in the order in which they were handed over.
    kept: VecDeque<InputBatch>,
    kept_bytes: usize,
    /// Of each partition, the first record that is outstanding, and the offset behind the last one.
    outstanding: BTreeMap<TopicPartition, (i64, i64)>,
    /// Of those, what the plugin has called bad and is kept still.
    rejected: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Of those, what is not kept any more lies in front of these offsets.
    dropped: BTreeMap<TopicPartition, i64>,
    /// Partitions of which something else is outstanding than what follows on what is committed.
    sought: BTreeSet<TopicPartition>,
    /// When the last records were handed over.
    polled: Duration,
    /// Where each partition stood when the plugin crashed, and how often in a row.
    crashes: BTreeMap<TopicPartition, (i64, u32)>,
    /// Up to there each record is handed over alone; and when something came of that last.
    alone_until: BTreeMap<TopicPartition, (i64, Duration)>,
}

/// What a crash says about the records.
#[derive(Debug, Clone)]
pub(super) enum Suspicion {
    /// Nothing was outstanding.
    None,
    /// The records from that one on may be to blame.
    From(TopicPartition, i64),
    /// These records are.
    Found(Vec<InputBatch>),
}

/// Why a record can't be called bad.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotKept {
    NotOutstanding,
    /// It was polled too long ago.
    Dropped,
}

impl Poison {
    pub(super) fn polled(&mut self, batches: &[InputBatch], now: Duration) {
        self.polled = now;
        for batch in batches {
            let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else { continue };
            let (first, next) = (batch.offset(first), batch.offset(last).saturating_add(1));
            let entry = self.outstanding.entry(of(batch)).or_insert((first, next));
            *entry = (entry.0.min(first), next);
        }
        while self.kept_bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= bytes_of(&oldest);
            let (partition, next) = (of(&oldest), last_offset(&oldest).unwrap_or(0).saturating_add(1));
            if let Some(rejected) = self.rejected.get_mut(&partition) {
                *rejected = rejected.split_off(&next);
            }
            self.dropped.insert(partition, next);
        }
        for batch in batches {
            // It may be a small part of what it lies in.
            let section = Bytes::copy_from_slice(&batch.section);
            self.kept_bytes += bytes_of(batch);
            self.kept.push_back(InputBatch { section, ..batch.clone() });
        }
    }

    /// Whether nothing may be handed over for now.
    pub(super) fn is_holding(&self, now: Duration) -> bool {
        let is_recent = now.saturating_sub(self.polled) < ALONE_TIME_MAX;
        self.is_alone() && !self.outstanding.is_empty() && is_recent
    }

    /// A search that comes to nothing ends.
    pub(super) fn expire(&mut self, now: Duration) {
        self.alone_until.retain(|_, (_, since)| now.saturating_sub(*since) < SEARCH_TIME_MAX);
    }

    /// Whether each record is handed over alone.
    pub(super) fn is_alone(&self) -> bool {
        !self.alone_until.is_empty()
    }

    /// A record that is outstanding; none if it was rejected before.
    pub(super) fn find(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> Result<Option<InputBatch>, NotKept> {
        let (first, next) = self.outstanding.get(partition).copied().ok_or(NotKept::NotOutstanding)?;
        if !(first..next).contains(&offset) {
            return Err(NotKept::NotOutstanding);
        }
        if self.rejected.get(partition).is_some_and(|rejected| rejected.contains(&offset)) {
            return Ok(None);
        }
        let mut is_newer = false;
        for batch in self.kept.iter().filter(|batch| of(batch) == *partition) {
            if let Ok(at) = batch.records.binary_search_by_key(&offset, |record| batch.offset(record)) {
                return Ok(Some(batch.slice(at..at + 1)));
            }
            is_newer |= first_offset(batch) < Some(offset);
        }
        // Offsets can be missing between two records.
        Err(if is_newer { NotKept::NotOutstanding } else { NotKept::Dropped })
    }

    /// The plugin has called it bad.
    pub(super) fn rejected(&mut self, partition: TopicPartition, offset: i64) {
        self.rejected.entry(partition).or_default().insert(offset);
    }

    /// The plugin is sent elsewhere than to what is committed.
    pub(super) fn sought(&mut self, partition: TopicPartition) {
        self.sought.insert(partition);
    }

    /// Whether what is outstanding of it does not follow on what is committed.
    pub(super) fn is_sought(&self, partition: &TopicPartition) -> bool {
        self.sought.contains(partition)
    }

    /// What is committed of it, or where the plugin is sent: records in front of that are not handed over again.
    pub(super) fn is_past(&mut self, partition: &TopicPartition, offset: i64) {
        self.alone_until.retain(|other, (until, _)| other != partition || offset < *until);
    }

    /// It is read where it is committed.
    pub(super) fn rewound(&mut self, partition: &TopicPartition, committed: Option<i64>) {
        self.forget(partition);
        if let Some(offset) = committed {
            self.is_past(partition, offset);
        }
    }

    /// Everything below these offsets is done.
    pub(super) fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, offset) in offsets {
            if let Some((first, _)) = self.outstanding.get(partition) {
                match first <= offset {
                    true => self.sought.remove(partition),
                    false => self.sought.insert(partition.clone()),
                };
            }
            match self.outstanding.get_mut(partition) {
                Some((first, next)) if *offset < *next => *first = (*first).max(*offset),
                _ => {
                    self.outstanding.remove(partition);
                }
            }
            self.is_past(partition, *offset);
            if let Some((_, since)) = self.alone_until.get_mut(partition) {
                *since = self.polled;
            }
            if let Some(rejected) = self.rejected.get_mut(partition) {
                *rejected = rejected.split_off(offset);
            }
            self.dropped.retain(|other, until| other != partition || offset < until);
            self.drop_kept(|batch| of(batch) != *partition || last_offset(batch) >= Some(*offset));
        }
    }

    /// What is outstanding of the partition will be handed over again, or never.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.outstanding.remove(partition);
        self.rejected.remove(partition);
        self.dropped.remove(partition);
        self.sought.remove(partition);
        self.drop_kept(|batch| of(batch) != *partition);
    }

    pub(super) fn forget_all(&mut self) {
        (self.outstanding, self.kept, self.kept_bytes) = (BTreeMap::new(), VecDeque::new(), 0);
        self.rejected.clear();
        self.dropped.clear();
    }

    /// The others are another member's now.
    pub(super) fn retain(&mut self, is_owned: impl Fn(&TopicPartition) -> bool) {
        self.crashes.retain(|partition, _| is_owned(partition));
        self.alone_until.retain(|partition, _| is_owned(partition));
        self.sought.retain(|partition| is_owned(partition));
    }

    /// The plugin has crashed. Nothing is outstanding after it.
    pub(super) fn crashed(&mut self) -> Suspicion {
        let outstanding = std::mem::take(&mut self.outstanding);
        let mut kept: Vec<InputBatch> = std::mem::take(&mut self.kept).into();
        let dropped = std::mem::take(&mut self.dropped);
        self.forget_all();
        let is_alone = self.is_alone();
        let mut suspect: Option<(u32, &TopicPartition, i64)> = None;
        let (mut guilty, mut alone_until) = (BTreeSet::new(), BTreeMap::new());
        for (partition, (first, next)) in &outstanding {
            let entry = self.crashes.entry(partition.clone()).or_insert((*first, 0));
            *entry = if entry.0 == *first { (*first, entry.1 + 1) } else { (*first, 1) };
            let count = entry.1;
            if suspect.is_none_or(|(most, ..)| count > most) {
                suspect = Some((count, partition, *first));
            }
            // Of what is not kept nothing could be put aside.
            let is_whole = dropped.get(partition).is_none_or(|next| next <= first);
            if is_alone && count >= CRASHES_ALONE && is_whole {
                guilty.insert(partition);
            } else if !is_alone && count >= CRASHES_TOGETHER {
                alone_until.insert(partition.clone(), (*next, self.polled));
            }
        }
        for (_, since) in self.alone_until.values_mut() {
            *since = self.polled;
        }
        if !alone_until.is_empty() {
            // From here on it is counted what a record does alone.
            self.crashes.clear();
            self.alone_until = alone_until;
        }
        for partition in &guilty {
            self.crashes.remove(*partition);
        }
        kept.retain(|batch| guilty.contains(&of(batch)));
        match suspect {
            _ if !kept.is_empty() => Suspicion::Found(kept),
            Some((_, partition, first)) => Suspicion::From(partition.clone(), first),
            None => Suspicion::None,
        }
    }

    fn drop_kept(&mut self, keep: impl Fn(&InputBatch) -> bool) {
        self.kept.retain(keep);
        self.kept_bytes = self.kept.iter().map(bytes_of).sum();
    }
}

pub(super) fn of(batch: &InputBatch) -> TopicPartition {
    TopicPartition { topic: std::sync::Arc::clone(&batch.topic), partition: batch.partition }
}

pub(super) fn first_offset(batch: &InputBatch) -> Option<i64> {
    batch.records.first().map(|record| batch.offset(record))
}

pub(super) fn last_offset(batch: &InputBatch) -> Option<i64> {
    batch.records.last().map(|record| batch.offset(record))
}

/// What it takes in memory.
fn bytes_of(batch: &InputBatch) -> usize {
    size_of::<InputBatch>() + batch.section.len() + batch.records.len() * size_of::<InputRecord>()
}
