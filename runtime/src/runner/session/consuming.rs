//! Polling, committing and seeking.

use std::sync::Arc;
use std::time::Duration;

use super::{POLL_WAIT_MAX, Result, SeekPlace, Session, SessionError};
use crate::batch::InputBatch;
use crate::runner::desk::Request;
use crate::runner::reading::{Resumed, Taken, Unreadable};
use crate::stage::{FetchedPartition, Polled, SeekTo, StageFailure, TopicPartition};

/// Partitions that one call may name.
const PARTITIONS_MAX: usize = 10_000;
/// While nothing may be handed over, a poll asks so often what the group does.
const HOLDING_LOOK_UP: Duration = Duration::from_secs(1);

impl Session {
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

    pub(super) async fn change_subscription(&mut self, topics: Vec<Arc<str>>) -> Result<()> {
        self.reading.reset();
        self.poison.forget_all();
        self.subscribed.clone_from(&topics);
        self.ask(|reply| Request::Subscribe { topics, reply }).await
    }

    /// What is there, or comes within that time. With `typed_bytes_max`, in typed form, for a plugin with so much memory.
    pub(crate) async fn poll(
        &mut self,
        records_max: u32,
        timeout: Duration,
        typed_bytes_max: Option<usize>,
    ) -> Result<Vec<InputBatch>> {
        self.may_go_on()?;
        if records_max == 0 {
            return Err(SessionError::Invalid("a poll for 0 records".to_owned()));
        }
        let deadline = tokio::time::Instant::now().checked_add(timeout);
        if self.reading.let_go() {
            self.poison.forget_all();
        }
        loop {
            let now = self.shared.clock().monotonic();
            self.poison.expire(now);
            // When the plugin crashes at what comes next, that is committed, and so is what was put aside in front of it.
            if self.poison.is_alone() {
                self.flush().await?;
            }
            let is_holding = self.poison.is_holding(now);
            let records_max = match self.poison.is_alone() {
                true => u32::from(!is_holding),
                false => records_max,
            };
            let Taken { batches, records, bytes } =
                match self.reading.take(records_max as usize, typed_bytes_max) {
                    Ok(taken) => taken,
                    Err(unreadable) => {
                        self.put_unfit_aside(unreadable).await?;
                        continue;
                    }
                };
            if records > 0 {
                self.poison.polled(&batches, now);
                self.counts.records_in += records;
                self.counts.batches_in += batches.len() as u64;
                self.counts.bytes_in += bytes;
                return Ok(batches);
            }
            self.flush().await?;
            let left = deadline
                .map_or(POLL_WAIT_MAX, |at| at.saturating_duration_since(tokio::time::Instant::now()));
            let max_wait = left.min(POLL_WAIT_MAX);
            if is_holding && !self.reading.is_empty() {
                let wait = max_wait.min(HOLDING_LOOK_UP);
                self.unless_stopped(tokio::time::sleep(wait)).await?;
                if self.look_up().await? || left <= wait {
                    return Ok(Vec::new());
                }
                continue;
            }
            let polled = self.ask_polled(max_wait).await?;
            let nothing =
                polled.fetched.is_empty() && polled.assigned.is_empty() && polled.revoked.is_empty();
            // What is uncommitted is to be committed before the partitions are let go of.
            if self.accept(polled)? || (nothing && left <= max_wait) {
                return Ok(Vec::new());
            }
        }
    }

    async fn ask_polled(&mut self, max_wait: Duration) -> Result<Polled> {
        let polled = self.unless_stopped(self.ask_once(|reply| Request::Poll { max_wait, reply })).await?;
        polled.map_err(|error| {
            self.reading.reset();
            self.poison.forget_all();
            self.refused(error)
        })
    }

    /// Learns what the group does while enough is there. What is fetched meanwhile is fetched again when it is wanted.
    async fn look_up(&mut self) -> Result<bool> {
        let mut polled = self.ask_polled(Duration::ZERO).await?;
        for FetchedPartition { topic, partition, position, .. } in std::mem::take(&mut polled.fetched) {
            self.ask_seek(&TopicPartition { topic, partition }, SeekTo::Offset(position)).await?;
        }
        self.accept(polled)
    }

    /// True if the group takes partitions away of which something is uncommitted.
    fn accept(&mut self, polled: Polled) -> Result<bool> {
        let Polled { revoked, assigned, fetched } = polled;
        let mut is_revoking = false;
        if !revoked.is_empty() {
            self.shared.metrics.forget_lags(&revoked);
            is_revoking = self.reading.revoke();
            if !is_revoking {
                self.poison.forget_all();
            }
        }
        if !assigned.is_empty() {
            assigned.iter().for_each(|partition| self.poison.forget(partition));
            self.reading.assign(assigned);
            self.poison.retain(|partition| self.reading.owns(partition));
        }
        for found in fetched {
            self.reading.accept(found).map_err(|unreadable| self.unreadable(unreadable))?;
        }
        Ok(is_revoking)
    }

    pub(super) fn unreadable(&mut self, unreadable: Unreadable) -> SessionError {
        let Unreadable { partition, offset, error, .. } = unreadable;
        self.fail(StageFailure::without_batch("input", &error).at(&partition, offset))
    }

    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.may_finish()?;
        let offsets = self.reading.uncommitted();
        self.commit_as_told(offsets).await
    }

    async fn commit_as_told(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<()> {
        let has_offsets = !offsets.is_empty();
        self.write(None, offsets).await?;
        if has_offsets {
            self.found_in_a_row = 0;
        }
        Ok(())
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
        self.commit_as_told(offsets).await
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
                self.poison.rewound(&partition, offset);
                self.reading.rewind(&partition, offset);
                return self.ask_seek(&partition, offset.map_or(SeekTo::Beginning, SeekTo::Offset)).await;
            }
        };
        self.poison.forget(&partition);
        self.poison.sought(partition.clone());
        if let SeekTo::Offset(offset) = to {
            self.poison.is_past(&partition, offset);
        }
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

    pub(super) fn check_owned(&self, partition: &TopicPartition) -> Result<()> {
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
}

fn not_owned(partition: &TopicPartition) -> SessionError {
    let TopicPartition { topic, partition } = partition;
    SessionError::NotOwned(format!("{topic}-{partition} is not this member's"))
}
