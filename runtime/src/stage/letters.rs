//! What becomes of rejected records, as the stage's policy has it.

use super::dead_letter::{self, Cause, Original};
use super::mill::Mill;
use super::rejections::Rejection;
use super::spec::{OnError, StagePlugin};
use super::status::StageFailure;
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
        let (spec, assembler) = (&self.shared.spec, &self.unit.assembler);
        let plugin = plugin.map(|index| self.chains.plugin(original.partition, index));
        let plugin_sha256 = plugin.map(|plugin| crate::engine::hex(plugin.plugin.sha256()));
        let plugin = plugin.map(StagePlugin::label);
        let cause =
            Cause { reason, plugin, plugin_sha256, stage: format!("{}.{}", spec.pipeline, spec.name) };
        let at = spec.to.len();
        let topic = &topology.outputs[at];
        let accepted = topic.rules.takes_timestamp(original.timestamp, now_ms);
        let timestamp = if accepted { original.timestamp } else { now_ms };
        let fits = |body: &[u8]| assembler.takes(at, timestamp, body, now_ms).is_ok();
        let body = dead_letter::body(original, &cause, assembler.body_bytes_max(at), fits);
        // Left are what no cutting mends: a limit that no letter keeps, a key that is missing.
        let refused =
            |reason: &dyn std::fmt::Display| Box::new(StageFailure::without_batch("dead_letter", reason));
        let body = body.ok_or_else(|| refused(&format!("topic {:?} takes no letter", topic.name)))?;
        assembler.takes(at, timestamp, &body, now_ms).map_err(|refusal| refused(&refusal))?;
        Ok(Letter { topic: at, partition: original.partition % topic.partitions, timestamp, body })
    }

    pub(super) fn put_letters(&mut self, letters: Vec<Letter>) {
        for Letter { topic, partition, timestamp, body } in letters {
            self.unit.assembler.append(topic, partition, timestamp, &body);
        }
    }
}

/// A dead letter that its topic takes.
pub(super) struct Letter {
    topic: usize,
    partition: i32,
    timestamp: i64,
    body: Vec<u8>,
}
