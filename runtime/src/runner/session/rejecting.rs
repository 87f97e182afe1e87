//! Records of a sink that are bad: because its plugin says so, because it crashes at them, or because they can't be read.

use std::sync::Arc;

use millstream_record::RecordBatch;

use super::{Result, Session, SessionError};
use crate::batch::InputBatch;
use crate::outputs::cut;
use crate::runner::poison::{NotKept, Suspicion, first_offset, last_offset, of};
use crate::runner::reading::{Unfit, Unreadable};
use crate::stage::{Cause, OnError, Original, Rejection, StageFailure, TappedBatch, TopicPartition};

/// So many times in a row, without a commit by the plugin in between, records are found that it crashes at.
const FOUND_MAX: u32 = 20;

impl Session {
    /// The plugin says that a record which it has polled and not committed is bad.
    pub(crate) async fn reject(
        &mut self,
        partition: TopicPartition,
        offset: i64,
        reason: &str,
    ) -> Result<()> {
        self.may_finish()?;
        self.check_owned(&partition)?;
        let record = self.poison.find(&partition, offset).map_err(|not_kept| {
            let TopicPartition { topic, partition } = &partition;
            SessionError::Invalid(match not_kept {
                NotKept::NotOutstanding => {
                    format!("{topic}-{partition} has no record {offset} that was polled and is not committed")
                }
                NotKept::Dropped => format!(
                    "record {offset} of {topic}-{partition} was polled too long ago: commit, or reject earlier"
                ),
            })
        })?;
        if !self.stopped_at.is_empty() {
            self.keep_in_front_of(partition, offset);
            return Err(SessionError::Stopping);
        }
        let Some(record) = record else { return Ok(()) };
        let reason = cut(reason);
        if self.shared.spec.on_error == OnError::Stop {
            let said = format!("the plugin rejected the record: {reason}");
            let plugin = self.plugin.as_ref().map(|plugin| plugin.name.clone());
            let failure = StageFailure { plugin, ..StageFailure::without_batch("rejected", &said) };
            return Err(self.stop_at(partition, offset, failure));
        }
        self.put_aside(&record, &reason, true).await?;
        self.poison.rejected(partition, offset);
        self.counts.records_rejected += 1;
        Ok(())
    }

    /// The plugin's instance is gone.
    pub(in crate::runner) fn crashed(&mut self, reason: &str) -> Suspicion {
        let suspicion = self.poison.crashed();
        if let (Suspicion::Found(batches), false) = (&suspicion, self.shared.spec.on_error == OnError::Stop) {
            self.found = Some((batches.clone(), reason.to_owned()));
        }
        suspicion
    }

    /// Writes what the plugin can't live with to where it belongs, and commits that it is done.
    pub(super) async fn put_found_aside(&mut self) -> Result<()> {
        let Some((batches, reason)) = self.found.take() else { return Ok(()) };
        let put = self.try_put_found_aside(&batches, &reason).await;
        match put {
            // It is for the member that has the partition now to find out.
            Err(SessionError::NotOwned(_)) => {
                self.writing.forget();
                self.counts = Default::default();
                Ok(())
            }
            Err(error) => {
                self.found = Some((batches, reason));
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    async fn try_put_found_aside(&mut self, batches: &[InputBatch], reason: &str) -> Result<()> {
        for batch in batches {
            self.check_owned(&of(batch))?;
            if let Some(why) = self.not_put_aside(batch).await? {
                let said = format!("{why}: {reason}");
                let plugin = self.plugin.as_ref().map(|plugin| plugin.name.clone());
                let failure = StageFailure { plugin, ..StageFailure::without_batch("rejected", &said) };
                let first = first_offset(batch).unwrap_or(batch.base_offset);
                return Err(self.fail(failure.at(&of(batch), first)));
            }
        }
        let mut offsets: Vec<(TopicPartition, i64)> = Vec::new();
        for batch in batches {
            let (partition, Some(last)) = (of(batch), last_offset(batch)) else { continue };
            self.put_aside(batch, reason, true).await?;
            self.counts.records_in += batch.len() as u64;
            self.counts.records_rejected += batch.len() as u64;
            offsets.retain(|(other, _)| *other != partition);
            offsets.push((partition, last.saturating_add(1)));
        }
        for (TopicPartition { topic, partition }, next) in &offsets {
            let stage = &self.shared.spec.name;
            tracing::warn!(stage, %topic, partition, next, reason, "put aside what the plugin crashes at");
        }
        self.write(None, offsets).await?;
        self.found_in_a_row += 1;
        Ok(())
    }

    /// Why a person has to look at what the plugin crashes at.
    async fn not_put_aside(&mut self, batch: &InputBatch) -> Result<Option<String>> {
        if self.found_in_a_row >= FOUND_MAX {
            return Ok(Some(format!(
                "the plugin crashes at this record too, after {FOUND_MAX} places before it that were put aside, and has \
                 committed nothing in between: the plugin may be to blame, not the records"
            )));
        }
        let partition = of(batch);
        // It may have been sent to just what is committed.
        if !self.poison.is_sought(&partition) {
            return Ok(None);
        }
        let committed = self.ask_committed(vec![partition]).await?.into_iter().next().flatten();
        Ok((committed != first_offset(batch)).then(|| {
            "the plugin crashes at this record, and has sought it away from what is committed: to commit it would leave out \
             what lies between"
                .to_owned()
        }))
    }

    /// What can't be handed over is as bad as a record that a plugin rejects.
    pub(super) async fn put_unfit_aside(&mut self, mut unreadable: Unreadable) -> Result<()> {
        let what = unreadable.what.take().filter(|_| self.shared.spec.on_error != OnError::Stop);
        let Some(what) = what else { return Err(self.unreadable(unreadable)) };
        let Unreadable { partition, offset, error, .. } = &unreadable;
        let reason = cut(&error.to_string());
        let records = match what {
            Unfit::Record(record) => {
                self.put_aside(&record, &reason, false).await?;
                1
            }
            Unfit::Batch(bytes) => {
                let Ok(batch) = RecordBatch::new(&bytes) else { return Err(self.unreadable(unreadable)) };
                if self.shared.spec.on_error.dead_letter().is_some() {
                    let offset = (*offset).max(batch.base_offset());
                    let original = Original::batch(&partition.topic, partition.partition, offset, &batch);
                    self.put_letter(&original, &reason, false).await?;
                }
                u64::from(batch.records_count().unsigned_abs())
            }
        };
        self.shared.metrics.count_error("input");
        let told = format!("{}-{} at {offset}: {error}", partition.topic, partition.partition);
        self.shared.set_last_rejection(&told);
        self.counts.records_in += records;
        self.counts.records_rejected += records;
        self.reading.skip();
        Ok(())
    }

    /// What the policy makes of records that the plugin can't live with, or can't be given.
    async fn put_aside(&mut self, input: &InputBatch, reason: &str, by_plugin: bool) -> Result<()> {
        if self.shared.spec.on_error.dead_letter().is_some() {
            for record in &input.records {
                self.put_letter(&Original::record(input, record), reason, by_plugin).await?;
            }
        }
        self.shared.set_last_rejection(reason);
        if self.shared.taps.is_open() {
            let plugin = by_plugin.then_some(0);
            let reason: Arc<str> = reason.into();
            let rejection = |origin| Rejection { origin, plugin, reason: Arc::clone(&reason) };
            let rejections: Vec<Rejection> = (0..input.count()).map(rejection).collect();
            let fate = self.shared.spec.on_error.fate();
            let batch = TappedBatch {
                input,
                output: None,
                rejections: &rejections,
                rejected: fate,
                without_output: fate,
            };
            let name = |_| self.plugin.as_ref().map_or_else(String::new, |plugin| plugin.name.clone());
            self.shared.taps.show(&batch, name, |_| unreachable!("nothing comes of what is rejected"));
        }
        Ok(())
    }

    /// It is written before an offset behind it is committed.
    async fn put_letter(&mut self, original: &Original<'_>, reason: &str, by_plugin: bool) -> Result<()> {
        self.know_topics().await?;
        if self.writing.is_full() {
            self.write(None, Vec::new()).await?;
        }
        let plugin = self.plugin.as_ref().filter(|_| by_plugin);
        let cause = Cause::of(&self.shared.spec, reason, plugin);
        let put = self.writing.put_letter(original, &cause, self.shared.clock().wall_ms());
        put.map_err(|refused| {
            let partition = TopicPartition { topic: original.topic.into(), partition: original.partition };
            let failure = StageFailure::without_batch("dead_letter", &refused);
            self.stop_at(partition, original.offset, failure)
        })
    }

    /// A person has to look at that record: nothing from there on is committed.
    fn stop_at(&mut self, partition: TopicPartition, offset: i64, failure: StageFailure) -> SessionError {
        let error = self.fail(failure.at(&partition, offset));
        self.keep_in_front_of(partition, offset);
        error
    }

    fn keep_in_front_of(&mut self, partition: TopicPartition, offset: i64) {
        let at = self.stopped_at.entry(partition).or_insert(offset);
        *at = offset.min(*at);
    }

    /// What of these offsets may be committed.
    pub(super) fn in_front_of_stop(&self, offsets: Vec<(TopicPartition, i64)>) -> Vec<(TopicPartition, i64)> {
        let limit = |(partition, offset): (TopicPartition, i64)| match self.stopped_at.get(&partition) {
            Some(at) => (partition, offset.min(*at)),
            None => (partition, offset),
        };
        offsets.into_iter().map(limit).collect()
    }
}
