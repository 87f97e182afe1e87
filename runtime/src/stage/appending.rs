//! What came of a batch goes into the unit: outputs, and letters for what was rejected.

use std::sync::Arc;

use millstream_record::RecordBatch;

use super::dead_letter::Original;
use super::mill::Mill;
use super::port::FetchedPartition;
use super::rejections::Rejections;
use super::spec::OnError;
use super::status::StageFailure;
use super::tap::{TapFate, TappedBatch};
use super::unit::BatchCounts;
use super::worker::{Job, Topology};
use crate::batch::{InputBatch, InputError};
use crate::outputs::OutputError;
use crate::plugin::PluginError;

impl Mill {
    /// Puts what came of the batch into the unit, as a whole or not at all. Returns how many records were rejected.
    pub(super) fn append(
        &mut self,
        topology: &Topology,
        input: &InputBatch,
    ) -> Result<usize, Box<StageFailure>> {
        let now_ms = self.shared.clock().wall_ms();
        let output = self.chains.of(input.partition).output(input);
        let refused = self.unit.assembler.check(&output, now_ms).map_err(|error| {
            let reason = OutputError::NoSuchPartition(error.to_string());
            let reason = PluginError::InvalidOutput(reason);
            let last = self.chains.of(input.partition).last_name();
            Box::new(StageFailure { plugin: last, ..StageFailure::without_batch(reason.kind(), &reason) })
        })?;
        let rejections = Rejections::new([output.rejected, &refused].concat());
        let letters = self.settle(topology, input, rejections.as_slice(), now_ms)?;
        let sources = topology.sources_of(&input.topic);
        if self.shared.taps.is_open() {
            let batch = TappedBatch {
                input,
                output: Some(&output),
                rejections: rejections.as_slice(),
                rejected: self.shared.spec.on_error.fate(),
                without_output: TapFate::Dropped,
            };
            let name = |index: usize| self.chains.of(input.partition).plugin_name(index).to_owned();
            self.shared.taps.show(&batch, name, |record| {
                let (topic, partition) = self.unit.assembler.place(input, sources, record);
                (Arc::clone(topic), partition)
            });
        }
        let assembler = &mut self.unit.assembler;
        let Ok(()) = output.for_each(|record| {
            if !rejections.contains(record.origin) {
                assembler.push(input, sources, &record);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        self.put_letters(letters);
        if let Some(last) = rejections.as_slice().last() {
            self.shared.set_last_rejection(&last.reason);
        }
        Ok(rejections.as_slice().len())
    }

    /// A batch that can't be opened is as bad as a record that a plugin rejects, and must not hold up its partition
    /// for longer.
    pub(super) fn reject_batch(
        &mut self,
        job: &Job,
        fetched: &FetchedPartition,
        batch: &RecordBatch<'_>,
        position: i64,
        error: &InputError,
    ) -> Result<(), Box<StageFailure>> {
        let failed = self.failure("input", error, fetched, position);
        match self.shared.spec.on_error {
            OnError::Stop => return Err(failed),
            OnError::Skip => {}
            OnError::DeadLetter(_) => {
                let offset = position.max(batch.base_offset());
                let original = Original::batch(&fetched.topic, fetched.partition, offset, batch);
                let now_ms = self.shared.clock().wall_ms();
                let letter = self.letter(&job.topology, &original, &failed.reason, None, now_ms)?;
                self.put_letters(vec![letter]);
            }
        }
        let FetchedPartition { topic, partition, .. } = fetched;
        self.shared.set_last_rejection(&format!("{topic}-{partition} at {position}: {error}"));
        let records = usize::try_from(batch.records_count()).unwrap_or(0);
        let bytes = batch.size_in_bytes();
        self.unit.end_batch(BatchCounts { records, rejected: records, bytes, bytes_uncompressed: bytes });
        Ok(())
    }

    pub(super) fn failure(
        &self,
        kind: &'static str,
        error: &dyn std::fmt::Display,
        fetched: &FetchedPartition,
        offset: i64,
    ) -> Box<StageFailure> {
        self.shared.metrics.count_error(kind);
        Box::new(StageFailure {
            topic: Some(fetched.topic.to_string()),
            partition: Some(fetched.partition),
            offset: Some(offset),
            ..StageFailure::without_batch(kind, error)
        })
    }
}
