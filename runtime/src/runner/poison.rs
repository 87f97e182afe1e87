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

/// See the module.
#[derive(Default)]
pub(super) struct Poison {
    /// The last records that are outstanding, in the order in which they were handed over.
    kept: VecDeque<InputBatch>,
    kept_bytes: usize,
    /// Of each partition, the first record that is outstanding, and the offset behind the last one.
    outstanding: BTreeMap<TopicPartition, (i64, i64)>,
    /// Of those, what the plugin has called bad.
    rejected: BTreeSet<(TopicPartition, i64)>,
    /// When the last records were handed over.
    polled: Duration,
    /// Where each partition stood when the plugin crashed, and how often in a row.
    crashes: BTreeMap<TopicPartition, (i64, u32)>,
    /// Up to there each record is handed over alone.
    alone_until: BTreeMap<TopicPartition, i64>,
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
        let alone = self.is_alone();
        while self.kept_bytes > KEPT_BYTES_MAX && !alone {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= bytes_of(&oldest);
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
        self.is_alone() && !self.outstanding.is_empty() && (is_recent || self.kept_bytes > KEPT_BYTES_MAX)
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
        if self.rejected.contains(&(partition.clone(), offset)) {
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
        self.rejected.insert((partition, offset));
    }

    /// Everything below these offsets is done.
    pub(super) fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, offset) in offsets {
            match self.outstanding.get_mut(partition) {
                Some((first, next)) if *offset < *next => *first = (*first).max(*offset),
                _ => {
                    self.outstanding.remove(partition);
                }
            }
            self.alone_until.retain(|other, until| other != partition || offset < until);
            self.rejected.retain(|(other, at)| other != partition || at >= offset);
            self.drop_kept(|batch| of(batch) != *partition || last_offset(batch) >= Some(*offset));
        }
    }

    /// What is outstanding of the partition will be handed over again, or never.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.outstanding.remove(partition);
        self.rejected.retain(|(other, _)| other != partition);
        self.drop_kept(|batch| of(batch) != *partition);
    }

    pub(super) fn forget_all(&mut self) {
        (self.outstanding, self.kept, self.kept_bytes) = (BTreeMap::new(), VecDeque::new(), 0);
        self.rejected.clear();
    }

    /// The others are another member's now.
    pub(super) fn retain(&mut self, is_owned: impl Fn(&TopicPartition) -> bool) {
        self.crashes.retain(|partition, _| is_owned(partition));
        self.alone_until.retain(|partition, _| is_owned(partition));
    }

    /// The plugin has crashed. Nothing is outstanding after it.
    pub(super) fn crashed(&mut self) -> Suspicion {
        let outstanding = std::mem::take(&mut self.outstanding);
        let mut kept: Vec<InputBatch> = std::mem::take(&mut self.kept).into();
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
            if is_alone && count >= CRASHES_ALONE {
                guilty.insert(partition);
            } else if !is_alone && count >= CRASHES_TOGETHER {
                alone_until.insert(partition.clone(), *next);
            }
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

fn first_offset(batch: &InputBatch) -> Option<i64> {
    batch.records.first().map(|record| batch.offset(record))
}

pub(super) fn last_offset(batch: &InputBatch) -> Option<i64> {
    batch.records.last().map(|record| batch.offset(record))
}

/// What it takes in memory.
fn bytes_of(batch: &InputBatch) -> usize {
    batch.section.len() + batch.records.len() * size_of::<InputRecord>()
}
