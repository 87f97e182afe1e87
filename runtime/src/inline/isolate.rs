//! Finding the records of a batch that its plugin can't live with, where they may be left out: a batch that crashes it is
//! halved, and its halves, until what crashes is one record.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::answer::{InlineAnswer, InlineError, InlineRecords, answer};
use super::spec::OnFailure;
use super::worker::Worker;
use crate::batch::{InputBatch, Position};
use crate::stage::{Chains, OnError};

/// Crashes that are spent on one batch. Beyond them what crashes is left out as a whole: each may take as long as a call
/// may.
const CRASHES_MAX: u32 = 64;
/// Records that are remembered.
const FOUND_MAX: usize = 1000;

/// The records of a view's source that its plugins crash at. To find one may take longer than a reader waits, and the next
/// reader must not begin anew.
#[derive(Default)]
pub(super) struct Found(Mutex<FoundRecords>);

#[derive(Default)]
struct FoundRecords {
    /// Of which deployment.
    generation: u64,
    /// By topic, partition and offset: why.
    reasons: BTreeMap<(Arc<str>, i32, i64), String>,
}

impl Found {
    fn insert(&self, generation: u64, input: &InputBatch, index: usize, reason: &str) {
        if input.position != Position::View {
            return;
        }
        let mut found = self.0.lock().expect("no code panics while it holds this lock");
        if found.generation != generation {
            *found = FoundRecords { generation, reasons: BTreeMap::new() };
        }
        if found.reasons.len() < FOUND_MAX {
            let offset = input.offset(&input.records[index]);
            let place = (Arc::clone(&input.topic), input.partition, offset);
            found.reasons.insert(place, reason.to_owned());
        }
    }

    /// Those of a batch, by their places in it.
    fn of(&self, generation: u64, input: &InputBatch) -> Vec<(usize, String)> {
        let found = self.0.lock().expect("no code panics while it holds this lock");
        if input.position != Position::View || found.generation != generation || found.reasons.is_empty() {
            return Vec::new();
        }
        let reason = |(index, record)| {
            let place = (Arc::clone(&input.topic), input.partition, input.offset(record));
            Some((index, found.reasons.get(&place)?.clone()))
        };
        input.records.iter().enumerate().filter_map(reason).collect()
    }
}

impl Worker {
    /// Whether a record that its plugin crashes at is left out.
    pub(super) fn may_isolate(&self) -> bool {
        self.spec.stage.on_error != OnError::Stop && self.spec.on_failure != OnFailure::Pass
    }

    /// What is known to crash the plugins that run now.
    pub(super) fn found(&self, input: &InputBatch) -> Vec<(usize, String)> {
        let generation = self.chains.as_ref().map_or(0, Chains::generation);
        self.found.of(generation, input)
    }

    /// Maps what can be mapped of a batch, and leaves out the rest: also the records in `found`, by their places.
    pub(super) async fn isolate(
        &mut self,
        input: &InputBatch,
        found: &[(usize, String)],
    ) -> Result<InlineAnswer, InlineError> {
        let (mut crashes_left, mut whole) = (CRASHES_MAX, InlineRecords::default());
        let mut last_rejection = found.last().map(|(_, reason)| reason.clone());
        whole.rejected = found.len();
        // Last in, first out: the records keep their order.
        let mut parts = parts_between(input.len(), found);
        while let Some(range) = parts.pop() {
            let part = input.slice(range.clone());
            let chains = self.chains.as_mut().expect("they were started before");
            let transformed = chains.of_mut(input.partition).transform(&part).await;
            let chains = self.chains.as_ref().expect("a call does not end them");
            let (chain, generation) = (chains.of(input.partition), chains.generation());
            let (plugin, error) = match transformed {
                Ok(()) => {
                    let mapped = answer(chain, &part, &self.spec.stage.on_error)?;
                    self.show(chain, &part, &mapped);
                    whole.append(&part, mapped);
                    let rejected = chain.output(&part).rejected.last();
                    last_rejection = rejected.map(|rejected| rejected.reason.clone()).or(last_rejection);
                    continue;
                }
                Err(failed) => failed,
            };
            self.shared.metrics.count_error(error.kind());
            if !error.is_the_plugins_crash() {
                let plugin = chain.plugin_name(plugin).to_owned();
                return Err(self.not_mapped(plugin, error));
            }
            if range.len() > 1 && crashes_left > 0 {
                crashes_left -= 1;
                let middle = range.start + range.len() / 2;
                parts.push(middle..range.end);
                parts.push(range.start..middle);
            } else {
                let reason = error.to_string();
                self.show_crashed(chain, &part, plugin, &reason);
                if range.len() == 1 {
                    self.found.insert(generation, input, range.start, &reason);
                }
                whole.rejected += range.len();
                last_rejection = Some(reason);
            }
            self.restart(input.partition, plugin).await?;
        }
        if let Some(reason) = last_rejection {
            self.shared.set_last_rejection(&reason);
        }
        Ok(InlineAnswer::Records(whole))
    }
}

/// What lies between the records that are left out, the last part first.
fn parts_between(count: usize, found: &[(usize, String)]) -> Vec<Range<usize>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for (index, _) in found {
        parts.push(start..*index);
        start = index + 1;
    }
    parts.push(start..count);
    parts.retain(|part| !part.is_empty());
    parts.reverse();
    parts
}
