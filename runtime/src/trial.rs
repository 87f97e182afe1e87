//! A plugin on its own, without a stage and without a broker: for whoever writes one, and tests it as it will run.

mod run;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_record::{BatchBuilder, Header, RecordBatch, RecordBody};

use crate::batch::{InputBatch, Position};
use crate::clock::SharedClock;
use crate::grants::Grants;
use crate::outputs::{RejectedRecord, Transformed};
use crate::plugin::{Instance, InstanceConfig, Plugin, PluginError, StartError};
use crate::runner::RunnerKind;

pub use run::{RunTrial, RunTrialEnd, RunTrialMessage, RunTrialOutcome};

/// Bytes of the records that one call gets.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One instance, as a stage would have it.
pub struct Trial {
    instance: Instance,
    /// What outputs may go to; the first is the default.
    topics: Vec<Arc<str>>,
    clock: SharedClock,
}

/// A record, in or out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrialRecord {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Where a batch is said to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialBatch {
    pub position: Position,
    pub topic: String,
    pub partition: i32,
    pub base_offset: i64,
    pub records: Vec<TrialRecord>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialOutcome {
    pub outputs: Vec<TrialOutput>,
    pub rejected: Vec<RejectedRecord>,
    /// Of the call.
    pub time: Duration,
    /// The most linear memory that the instance has had.
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialOutput {
    /// The place of the record that it was made from.
    pub input: u32,
    pub topic: String,
    /// None: chosen from the key.
    pub partition: Option<i32>,
    pub record: TrialRecord,
}

#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error("the records are more than the {BATCH_BYTES_MAX} bytes that one call gets")]
    TooLarge,
    #[error("the plugin imports {}, which the case does not grant to a {kind}", .interfaces.join(" and "))]
    NotGranted { interfaces: Vec<&'static str>, kind: &'static str },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

impl Trial {
    pub async fn start(plugin: &Plugin, config: InstanceConfig) -> Result<Self, TrialError> {
        check_grants(plugin, None, true, &config.lent.grants)?;
        let (clock, topics) = (Arc::clone(&config.clock), config.names.to.clone());
        let instance = Instance::start(plugin, config).await?;
        Ok(Self { instance, topics, clock })
    }

    /// Hands over one batch. After an error the instance may be gone: start another one.
    pub async fn run(&mut self, batch: &TrialBatch) -> Result<TrialOutcome, TrialError> {
        if batch.records.is_empty() {
            let memory_bytes = self.instance.memory_bytes();
            let (outputs, rejected) = (Vec::new(), Vec::new());
            return Ok(TrialOutcome { outputs, rejected, time: Duration::ZERO, memory_bytes });
        }
        let input = input(batch)?;
        let mut out = Transformed::default();
        let before = self.clock.monotonic();
        self.instance.transform(&input, &self.topics, &mut out).await?;
        let time = self.clock.monotonic().saturating_sub(before);
        let outputs = out.outputs.iter().map(|output| {
            let origin = &input.records[output.index as usize];
            let body = output.body.map_or_else(|| input.body(origin), |span| span.of(&out.payload));
            TrialOutput {
                input: output.index,
                topic: self.topics[usize::from(output.topic.unwrap_or(0))].to_string(),
                partition: output.partition,
                record: record(
                    output.timestamp.unwrap_or(origin.timestamp),
                    RecordBody::parse(body).expect("outputs have been checked, and inputs were built here"),
                ),
            }
        });
        let outputs = outputs.collect();
        let memory_bytes = self.instance.memory_bytes();
        Ok(TrialOutcome { outputs, rejected: out.rejected, time, memory_bytes })
    }
}

/// Whether the plugin imports only what it is granted: in a source or a sink, or else as a transform.
fn check_grants(
    plugin: &Plugin,
    kind: Option<RunnerKind>,
    writes: bool,
    grants: &Grants,
) -> Result<(), TrialError> {
    let refused = plugin.needs().iter().filter(|capability| !capability.is_granted(kind, writes, grants));
    let interfaces: Vec<&'static str> = refused.map(|capability| capability.interface()).collect();
    match interfaces.is_empty() {
        true => Ok(()),
        false => Err(TrialError::NotGranted { interfaces, kind: kind.map_or("transform", RunnerKind::name) }),
    }
}

fn input(batch: &TrialBatch) -> Result<InputBatch, TrialError> {
    let TrialBatch { position, topic, partition, base_offset, .. } = batch;
    let bytes = encoded(batch)?;
    let view = RecordBatch::new(&bytes).expect("it was just built");
    let opened = InputBatch::open(*position, &topic.as_str().into(), *partition, &view, &bytes, *base_offset);
    Ok(opened.expect("it was just built").expect("it has records"))
}

/// As it would lie in its topic.
fn encoded(batch: &TrialBatch) -> Result<Bytes, TrialError> {
    let TrialBatch { base_offset, records, .. } = batch;
    let mut builder = BatchBuilder::new(BATCH_BYTES_MAX).base_offset(*base_offset);
    for TrialRecord { timestamp, key, value, headers } in records {
        let headers =
            headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() });
        let headers: Vec<Header<'_>> = headers.collect();
        let appended = builder.append(*timestamp, key.as_deref(), value.as_deref(), headers);
        appended.map_err(|_| TrialError::TooLarge)?;
    }
    Ok(builder.finish().expect("an uncompressed batch has nothing that can fail").into())
}

fn record(timestamp: i64, body: RecordBody<'_>) -> TrialRecord {
    let (key, value, headers) = body.fields();
    let header = |header: Header<'_>| {
        (String::from_utf8_lossy(header.key).into_owned(), header.value.map(<[u8]>::to_vec))
    };
    TrialRecord {
        timestamp,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: headers.map(header).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::engine::{EngineConfig, PluginEngine};
    use crate::guests;
    use crate::limits::PluginLimits;
    use crate::plugin::{Lent, StageNames, TracingLog};

    #[tokio::test]
    async fn a_plugin_runs_on_its_own() {
        let engine = PluginEngine::new(EngineConfig { instances_max: 2, ..EngineConfig::default() });
        let plugin = engine.load(&guests::returning(&[0, 4, 2, 1, 6, b'f', b'o', b'o'])).unwrap();
        let log = TracingLog { pipeline: "p".to_owned(), stage: "s".to_owned(), plugin: "x".to_owned() };
        let config = InstanceConfig {
            config: "null".to_owned(),
            limits: PluginLimits::default(),
            log: Arc::new(log),
            clock: SystemClock::shared(),
            names: StageNames { to: vec!["out".into(), "foo".into()], ..StageNames::default() },
            lent: Lent::default(),
        };
        let mut trial = Trial::start(&plugin, config).await.unwrap();
        let records = ["a", "b"].map(|value| TrialRecord {
            timestamp: 7,
            value: Some(value.into()),
            headers: vec![("h".to_owned(), None)],
            ..TrialRecord::default()
        });
        let mut batch = TrialBatch {
            position: Position::Stream,
            topic: "in".to_owned(),
            partition: 0,
            base_offset: 100,
            records: records.to_vec(),
        };
        let outcome = trial.run(&batch).await.unwrap();
        let output = |input: u32, topic: &str| TrialOutput {
            input,
            topic: topic.to_owned(),
            partition: None,
            record: records[input as usize].clone(),
        };
        assert_eq!(outcome.outputs, [output(1, "out"), output(0, "foo")]);
        assert!(outcome.memory_bytes >= 65_536);
        batch.records.clear();
        assert_eq!(trial.run(&batch).await.unwrap().outputs, []);
    }
}
