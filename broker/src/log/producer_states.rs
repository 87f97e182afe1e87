//! Idempotence: the last batches of each producer, and whether the next one follows them.
//!
//! Pure. The partition's leader keeps one to check what arrives, storage keeps another of what is
//! on disk; both change through [`ProducerStates::update`].

use std::collections::{BTreeMap, VecDeque};

use super::batch::{BatchMeta, ProducerBatch};
use crate::ids::{Offset, ProducerEpoch, ProducerId};

/// Batches remembered per producer: as many as a producer may have in flight
/// (`max.in.flight.requests.per.connection` with idempotence).
pub const PRODUCER_BATCHES_MAX: usize = 5;

/// Producers remembered per partition. Beyond it the longest idle are forgotten, as if expired: a
/// client can make up producer ids faster than `producer.id.expiration.ms` forgets them.
pub const PRODUCERS_MAX: usize = 50_000;

/// A batch that a producer appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedBatch {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: Offset,
    /// Inclusive.
    pub last_offset: Offset,
}

/// One producer on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: ProducerEpoch,
    /// Timestamp of its last batch: what expiration counts from.
    pub last_timestamp: i64,
    /// The last batches of this epoch, oldest first; empty after a transaction marker alone.
    pub batches: VecDeque<AppendedBatch>,
}

/// What to do with a batch that may be appended or answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerCheck {
    /// Append it.
    New,
    /// It is on the log already: answer with where.
    Duplicate { base_offset: Offset, last_offset: Offset },
}

/// Why a batch may not be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerCheckError {
    #[error("sequence {found} doesn't follow {last}")]
    OutOfOrderSequence { found: i32, last: i32 },
    #[error("producer epoch {} is older than {}", found.0, current.0)]
    InvalidProducerEpoch { found: ProducerEpoch, current: ProducerEpoch },
}

/// Every producer of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerState>,
}

impl ProducerStates {
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    pub fn get(&self, id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&id)
    }

    pub fn len(&self) -> usize {
        self.producers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Whether a client's batch follows what its producer appended. A producer without state may
    /// start anywhere: its state may have expired, or its records may have been deleted (KIP-360).
    pub fn check(
        &self,
        batch: &ProducerBatch,
        last_offset_delta: i32,
    ) -> Result<ProducerCheck, ProducerCheckError> {
        let Some(state) = self.producers.get(&batch.id) else {
            return Ok(ProducerCheck::New);
        };
        if batch.epoch < state.epoch {
            return Err(ProducerCheckError::InvalidProducerEpoch {
                found: batch.epoch,
                current: state.epoch,
            });
        }
        if batch.epoch > state.epoch {
            return match batch.base_sequence {
                0 => Ok(ProducerCheck::New),
                found => Err(ProducerCheckError::OutOfOrderSequence { found, last: -1 }),
            };
        }
        let last_sequence = batch.last_sequence(last_offset_delta);
        let duplicate = state
            .batches
            .iter()
            .find(|known| known.base_sequence == batch.base_sequence && known.last_sequence == last_sequence);
        if let Some(known) = duplicate {
            return Ok(ProducerCheck::Duplicate {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
            });
        }
        let last = state.batches.back().map_or(-1, |known| known.last_sequence);
        let follows = match last {
            i32::MAX => batch.base_sequence == 0,
            _ => batch.base_sequence == last + 1,
        };
        if follows {
            Ok(ProducerCheck::New)
        } else {
            Err(ProducerCheckError::OutOfOrderSequence { found: batch.base_sequence, last })
        }
    }

    /// Takes note of an appended batch. Unconditional: what is on the log has happened.
    pub fn update(&mut self, batch: &BatchMeta) {
        let Some(producer) = batch.producer else { return };
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&producer.id) {
            self.forget_longest_idle();
        }
        let state = self.producers.entry(producer.id).or_insert_with(|| ProducerState {
            epoch: producer.epoch,
            last_timestamp: batch.max_timestamp,
            batches: VecDeque::new(),
        });
        if state.epoch != producer.epoch {
            state.epoch = producer.epoch;
            state.batches.clear();
        }
        state.last_timestamp = batch.max_timestamp;
        if batch.is_control {
            return;
        }
        if state.batches.len() == PRODUCER_BATCHES_MAX {
            state.batches.pop_front();
        }
        let delta = (batch.last_offset.0 - batch.base_offset.0) as i32;
        state.batches.push_back(AppendedBatch {
            base_sequence: producer.base_sequence,
            last_sequence: producer.last_sequence(delta),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
        });
    }

    /// Forgets producers whose last batch is older than `producer.id.expiration.ms`.
    pub fn expire(&mut self, now_ms: i64, producer_id_expiration_ms: i64) {
        let cutoff = now_ms.saturating_sub(producer_id_expiration_ms);
        self.producers.retain(|_, state| state.last_timestamp > cutoff);
    }

    /// The log now ends at `end`: forgets the batches from there on. A producer left with none is
    /// forgotten, so that its next batch is accepted rather than refused for a gap that the
    /// truncation made.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.producers.retain(|_, state| {
            let before = state.batches.len();
            state.batches.retain(|batch| batch.last_offset < end);
            before == 0 || !state.batches.is_empty()
        });
    }

    pub(crate) fn clear(&mut self) {
        self.producers.clear();
    }

    /// Restores a producer from a checkpoint.
    pub(crate) fn insert(&mut self, id: ProducerId, state: ProducerState) {
        self.producers.insert(id, state);
    }

    /// Makes room for a tenth, so that the scan is paid once for many.
    fn forget_longest_idle(&mut self) {
        let mut idle: Vec<(i64, ProducerId)> =
            self.producers.iter().map(|(id, state)| (state.last_timestamp, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(PRODUCERS_MAX / 10) {
            self.producers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
