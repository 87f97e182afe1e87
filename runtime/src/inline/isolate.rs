//! Finding the records of a batch that its plugin can't live with, where they may be left out: a batch that crashes it is
//! halved, and its halves, until what crashes is one record.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::answer::{InlineAnswer, InlineError, InlineRecords, answer};
use super::spec::OnFailure;
use super::worker::{Mapped, Worker};
use crate::batch::{InputBatch, Position};
use crate::stage::{Chains, OnError, Rejection};

/// Crashes that are spent on one batch. Beyond them what crashes is left out as a whole: each may take as long as a call
/// may.
const CRASHES_MAX: u32 = 64;
/// Records that are remembered.
const FOUND_MAX: usize = 1000;

/// The records of a view's source that its plugins crash at. To find one may take longer than a reader waits, and the next
/// reader must not begin anew.
#[derive(Default)]
pub(super) struct Found(Mutex<FoundRecords>);

/// Topic, partition and offset.
type Place = (Arc<str>, i32, i64);

#[derive(Default)]
struct FoundRecords {
    /// Of which deployment.
    generation: u64,
    /// The plugin's place in the chain, and why.
    reasons: BTreeMap<Place, (usize, Arc<str>)>,
}

impl Found {
    fn insert(&self, generation: u64, input: &InputBatch, index: usize, plugin: usize, reason: &Arc<str>) {
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
            found.reasons.insert(place, (plugin, Arc::clone(reason)));
        }
    }

    /// Those of a batch.
    fn of(&self, generation: u64, input: &InputBatch) -> Vec<Rejection> {
        let found = self.0.lock().expect("no code panics while it holds this lock");
        if input.position != Position::View || found.generation != generation || found.reasons.is_empty() {
            return Vec::new();
        }
        let rejection = |(origin, record)| {
            let place = (Arc::clone(&input.topic), input.partition, input.offset(record));
            let (plugin, reason) = found.reasons.get(&place)?.clone();
            Some(Rejection { origin, plugin: Some(plugin), reason })
        };
        (0..).zip(&input.records).filter_map(rejection).collect()
    }
}

impl Worker {
    /// Whether a record that its plugin crashes at is left out.
    pub(super) fn may_isolate(&self) -> bool {
        self.bench.spec.stage.on_error != OnError::Stop && self.bench.spec.on_failure != OnFailure::Pass
    }

    /// What is known to crash the plugins that run now.
    pub(super) fn found(&self, input: &InputBatch) -> Vec<Rejection> {
        let generation = self.chains.as_ref().map_or(0, Chains::generation);
        self.bench.found.of(generation, input)
    }

    /// Maps what can be mapped of a batch, and leaves out the rest: also the records in `found`.
    pub(super) async fn isolate(
        &mut self,
        input: &InputBatch,
        found: Vec<Rejection>,
    ) -> Result<Mapped, InlineError> {
        let (mut crashes_left, mut whole) = (CRASHES_MAX, InlineRecords::default());
        // Last in, first out: the records keep their order.
        let mut parts = parts_between(input.len(), &found);
        whole.rejected = found.len();
        let mut last_rejection = found.last().map(|rejection| Arc::clone(&rejection.reason));
        // A batch has room for millions of records.
        let mut rejections = Vec::new();
        let writes_letters = self.bench.letters.is_some();
        if writes_letters {
            rejections.extend(found);
        }
        while let Some(range) = parts.pop() {
            let part = input.slice(range.clone());
            let chains = self.chains.as_mut().expect("they were started before");
            let transformed = chains.of_mut(input.partition).transform(&part).await;
            let chains = self.chains.as_ref().expect("a call does not end them");
            let (chain, generation) = (chains.of(input.partition), chains.generation());
            let (plugin, error) = match transformed {
                Ok(()) => {
                    let mapped = answer(chain, &part, &self.bench.spec.stage.on_error)?;
                    self.show(chain, &part, &mapped);
                    whole.append(&part, mapped);
                    let rejected = chain.output(&part).rejected;
                    last_rejection = rejected.last().map(|r| Arc::clone(&r.reason)).or(last_rejection);
                    if writes_letters {
                        let start =
                            u32::try_from(range.start).expect("a batch's records are counted by an i32");
                        let moved = |r: &Rejection| Rejection { origin: start + r.origin, ..r.clone() };
                        rejections.extend(rejected.iter().map(moved));
                    }
                    continue;
                }
                Err(failed) => failed,
            };
            self.bench.shared.metrics.count_error(error.kind());
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
                let reason: Arc<str> = error.to_string().into();
                self.show_crashed(chain, &part, plugin, &reason);
                if range.len() == 1 {
                    self.bench.found.insert(generation, input, range.start, plugin, &reason);
                }
                whole.rejected += range.len();
                if writes_letters {
                    let origins = (0..input.count()).skip(range.start).take(range.len());
                    let rejection =
                        |origin| Rejection { origin, plugin: Some(plugin), reason: Arc::clone(&reason) };
                    rejections.extend(origins.map(rejection));
                }
                last_rejection = Some(reason);
            }
            self.restart(input.partition, plugin).await?;
        }
        if let Some(reason) = last_rejection {
            self.bench.shared.set_last_rejection(&reason);
        }
        Ok(Mapped { answer: InlineAnswer::Records(whole), rejections })
    }
}

/// What lies between the records that are left out, the last part first.
fn parts_between(count: usize, found: &[Rejection]) -> Vec<Range<usize>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for rejection in found {
        let index = rejection.origin as usize;
        parts.push(start..index);
        start = index + 1;
    }
    parts.push(start..count);
    parts.retain(|part| !part.is_empty());
    parts.reverse();
    parts
}
