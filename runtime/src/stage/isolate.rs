//! Finding the records that a plugin can't live with: a batch that crashes it is halved, and its halves, until what
//! crashes is one record. That is rejected, and the rest goes on.

use std::sync::Arc;

use std::ops::Range;

use super::mill::{Halt, Mill};
use super::port::TopicPartition;
use super::rejections::Rejection;
use super::status::StageState;
use super::tap::TappedBatch;
use super::unit::BatchCounts;
use super::worker::Topology;
use crate::batch::InputBatch;
use crate::plugin::PluginError;

/// Crashes that are spent on one batch. Beyond them what crashes is rejected as a whole: each may take as long as a call
/// may.
const CRASHES_MAX: u32 = 64;

impl Mill {
    /// Maps what can be mapped of a batch that failed as a whole, and rejects the rest. What is done is in the unit, and
    /// its offset with it.
    pub(super) async fn isolate(&mut self, topology: &Topology, input: &InputBatch) -> Result<(), Halt> {
        let (mut crashes_left, mut memory_waits) = (CRASHES_MAX, 0);
        // Last in, first out: the records keep their order.
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..input.len());
        while let Some(range) = parts.pop() {
            tokio::task::yield_now().await;
            if self.is_finishing() {
                return Err(Halt::Asked);
            }
            let part = input.slice(range.clone());
            self.pay(input.partition).await?;
            let chain = self.chains.of_mut(input.partition);
            let (plugin, error) = match chain.transform(&part).await {
                Ok(()) => {
                    let rejected =
                        self.append(topology, &part).map_err(|failure| at(failure.into(), &part))?;
                    self.end_part(input, &range, &part, rejected).await;
                    continue;
                }
                Err(failed) => failed,
            };
            self.shared.metrics.count_error(error.kind());
            if matches!(error, PluginError::NodeMemory { .. }) {
                memory_waits += 1;
                self.wait_for_memory(input.partition, plugin, &error, memory_waits).await?;
                self.shared.set_state(StageState::Running);
                parts.push(range);
                continue;
            }
            self.renew(input.partition, plugin, &error).await?;
            if matches!(error, PluginError::Stop(_)) {
                return Err(at(self.stopped(input.partition, plugin, error), &part));
            }
            if range.len() > 1 && crashes_left > 0 {
                crashes_left -= 1;
                let middle = range.start + range.len() / 2;
                parts.push(middle..range.end);
                parts.push(range.start..middle);
                continue;
            }
            let rejected = self.reject(topology, &part, plugin, &error).map_err(|halt| at(halt, &part))?;
            self.end_part(input, &range, &part, rejected).await;
        }
        Ok(())
    }

    /// Rejects all records of a part.
    fn reject(
        &mut self,
        topology: &Topology,
        part: &InputBatch,
        plugin: usize,
        error: &PluginError,
    ) -> Result<usize, Halt> {
        let reason = error.to_string();
        let reason: Arc<str> = reason.as_str().into();
        let rejection = |origin| Rejection { origin, plugin: Some(plugin), reason: Arc::clone(&reason) };
        let rejections: Vec<Rejection> = (0..part.count()).map(rejection).collect();
        let now_ms = self.shared.clock().wall_ms();
        let letters = self.settle(topology, part, &rejections, now_ms)?;
        self.put_letters(letters);
        if self.shared.taps.is_open() {
            let (rejected, chain) = (self.shared.spec.on_error.fate(), self.chains.of(part.partition));
            let batch = TappedBatch {
                input: part,
                output: None,
                rejections: &rejections,
                rejected,
                without_output: rejected,
            };
            let name = |index: usize| chain.plugin_name(index).to_owned();
            self.shared.taps.show(&batch, name, |_| unreachable!("nothing comes of what is rejected"));
        }
        self.shared.set_last_rejection(&reason);
        Ok(rejections.len())
    }

    async fn end_part(
        &mut self,
        input: &InputBatch,
        range: &Range<usize>,
        part: &InputBatch,
        rejected: usize,
    ) {
        let bytes = part.section.len();
        let counts = BatchCounts { records: part.len(), rejected, bytes, bytes_uncompressed: bytes };
        self.unit.end_batch(counts);
        // Behind the last part lies the end of the batch, which is not this function's.
        let Some(next) = input.records.get(range.end) else { return };
        let partition =
            TopicPartition { topic: std::sync::Arc::clone(&input.topic), partition: input.partition };
        self.move_to(&partition, input.offset(next));
        if self.unit.is_full(self.shared.clock().monotonic()) {
            self.hand_over(None).await;
        }
    }
}

/// Says where in the batch it happened.
fn at(halt: Halt, part: &InputBatch) -> Halt {
    match halt {
        Halt::Failed(mut failed) => {
            failed.offset = part.records.first().map(|record| part.offset(record));
            Halt::Failed(failed)
        }
        halt => halt,
    }
}
