//! What becomes of rejected records, as the policy of the stage, or of the sink, has it.

use super::assemble::Assembler;
use super::dead_letter::{self, Cause, Original};
use super::mill::Mill;
use super::rejections::Rejection;
use super::spec::OnError;
use super::status::StageFailure;
use super::topic::OutputTopic;
use super::worker::Topology;
use crate::batch::InputBatch;

impl Mill {
    /// What the stage's policy makes of rejected records.
    pub(super) fn settle(
        &self,
        topology: &Topology,
        input: &InputBatch,
        rejected: &[Rejection],
        now_ms: i64,
    ) -> Result<Vec<Letter>, Box<StageFailure>> {
        let Some(first) = rejected.first() else { return Ok(Vec::new()) };
        match &self.shared.spec.on_error {
            OnError::Skip => Ok(Vec::new()),
            OnError::Stop => {
                let offset = input.offset(&input.records[first.origin as usize]);
                let reason = &first.reason;
                Err(Box::new(match first.plugin {
                    Some(plugin) => StageFailure {
                        plugin: Some(self.chains.of(input.partition).plugin_name(plugin).to_owned()),
                        ..StageFailure::without_batch(
                            "rejected",
                            &format!("the plugin rejected the record at offset {offset}: {reason}"),
                        )
                    },
                    None => StageFailure::without_batch(
                        "refused",
                        &format!("what comes of the record at offset {offset}: {reason}"),
                    ),
                }))
            }
            OnError::DeadLetter(_) => {
                let letter = |rejection: &Rejection| {
                    let original = Original::record(input, &input.records[rejection.origin as usize]);
                    self.letter(topology, &original, &rejection.reason, rejection.plugin, now_ms)
                };
                rejected.iter().map(letter).collect()
            }
        }
    }

    pub(super) fn letter(
        &self,
        topology: &Topology,
        original: &Original<'_>,
        reason: &str,
        plugin: Option<usize>,
        now_ms: i64,
    ) -> Result<Letter, Box<StageFailure>> {
        let spec = &self.shared.spec;
        let plugin = plugin.map(|index| self.chains.plugin(original.partition, index));
        let cause = Cause::of(spec, reason, plugin);
        let topic = &topology.outputs[spec.to.len()];
        let letter = Letter::new(&self.unit.assembler, (spec.to.len(), topic), original, &cause, now_ms);
        letter.map_err(|refused| Box::new(StageFailure::without_batch("dead_letter", &refused)))
    }

    pub(super) fn put_letters(&mut self, letters: Vec<Letter>) {
        letters.into_iter().for_each(|letter| letter.put(&mut self.unit.assembler));
    }
}

/// A dead letter that its topic takes.
pub(crate) struct Letter {
    topic: usize,
    partition: i32,
    timestamp: i64,
    body: Vec<u8>,
}

impl Letter {
    /// `topic` is the dead letter topic, with its index in the assembler. The error says why it takes no letter.
    pub(crate) fn new(
        assembler: &Assembler,
        (at, topic): (usize, &OutputTopic),
        original: &Original<'_>,
        cause: &Cause<'_>,
        now_ms: i64,
    ) -> Result<Self, String> {
        let accepted = topic.rules.takes_timestamp(original.timestamp, now_ms);
        let timestamp = if accepted { original.timestamp } else { now_ms };
        let fits = |body: &[u8]| assembler.takes(at, timestamp, body, now_ms).is_ok();
        let body = dead_letter::body(original, cause, assembler.body_bytes_max(at), fits);
        // Left are what no cutting mends: a limit that no letter keeps, a key that is missing.
        let body = body.ok_or_else(|| format!("topic {:?} takes no letter", topic.name))?;
        assembler.takes(at, timestamp, &body, now_ms).map_err(|refusal| refusal.to_string())?;
        Ok(Self { topic: at, partition: original.partition % topic.partitions, timestamp, body })
    }

    pub(crate) fn put(self, assembler: &mut Assembler) {
        assembler.append(self.topic, self.partition, self.timestamp, &self.body);
    }
}
