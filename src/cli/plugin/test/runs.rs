//! Cases of sources and sinks: a `run` with topics, a group and a position in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::grants::{Grants, HostGrant};
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::plugin::Plugin;
use millstream_runtime::runner::RunnerKind;
use millstream_runtime::trial::{RunTrial, RunTrialEnd, RunTrialOutcome, TrialBatch};
use serde::Deserialize;
use serde_json::Value;

use super::Ran;
use super::lent::LentDir;
use super::records::{Expected, Input, Made, bytes, compare_outputs, is_same, present, text};
use super::transforms::{input_topic, output_topics};

/// Longest time that a case may ask for.
const WAIT_MS_MAX: u64 = 60_000;

/// What is around a source or a sink, and what it should do. It is a sink if it has an `input`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunCase {
    pub(super) name: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    limits: PluginLimits,
    /// Of a sink: the records that it polls, from this partition of this topic.
    input: Option<Vec<Input>>,
    #[serde(default = "input_topic")]
    topic: String,
    #[serde(default)]
    partition: i32,
    /// The offset of the first record.
    #[serde(default)]
    offset: i64,
    /// Of a source: what it finds as its position.
    #[serde(default)]
    found_position: Value,
    /// The topics that it may write, the first of which is the default; each has so many partitions.
    #[serde(default = "output_topics")]
    to: Vec<String>,
    #[serde(default = "one")]
    partitions: usize,
    /// What it is granted: secrets and files by name, with their contents.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// Hosts that it may call, and does.
    #[serde(default)]
    http: BTreeSet<HostGrant>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    output: Vec<Expected>,
    /// Of a source: where it says that it is.
    #[serde(default, deserialize_with = "present")]
    position: Option<Value>,
    /// Of a sink: how many records of the input are committed; all, if it is told to stop.
    committed: Option<usize>,
    /// Without it the plugin is told to stop when it has done what is expected.
    end: Option<End>,
    /// What takes longer has failed.
    #[serde(default = "wait_ms")]
    wait_ms: u64,
}

/// How it ends by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Finished,
    /// It wants to be run again later, or crashes, with a reason that contains this.
    Again(String),
    /// It needs a person.
    Failed(String),
}

fn one() -> usize {
    1
}

fn wait_ms() -> u64 {
    5000
}

/// Runs a case.
pub(super) async fn run(plugin: &Arc<Plugin>, case: &RunCase) -> Ran {
    let records = case.input.as_ref().map_or(case.output.len(), Vec::len);
    let ran = |problems, cost, log| Ran { problems, records, cost, log };
    match outcome(plugin, case).await {
        Ok(outcome) => {
            let problems = compare(case, &outcome);
            // Of its time most is waiting.
            let memory = Some(outcome.memory_bytes).filter(|bytes| *bytes > 0);
            ran(problems, memory.map(|bytes| (None, bytes)), outcome.log)
        }
        Err(problem) => ran(vec![problem], None, Vec::new()),
    }
}

async fn outcome(plugin: &Arc<Plugin>, case: &RunCase) -> Result<RunTrialOutcome, String> {
    let lent = LentDir::new(&case.secrets, &case.files)?;
    let trial = RunTrial {
        kind: if case.input.is_some() { RunnerKind::Sink } else { RunnerKind::Source },
        config: case.config.to_string(),
        limits: case.limits.clone(),
        grants: Grants {
            secrets: case.secrets.keys().cloned().collect(),
            files: case.files.keys().map(|name| (name.clone(), name.clone())).collect(),
            http: case.http.clone(),
        },
        environment: lent.environment(),
        to: case.to.clone(),
        partitions: case.partitions,
        input: TrialBatch {
            position: Position::Stream,
            topic: case.topic.clone(),
            partition: case.partition,
            base_offset: case.offset,
            records: case.input.iter().flatten().map(Input::to_record).collect(),
        },
        position: bytes(&case.found_position),
        messages: case.output.len() as u64,
        is_told_to_stop: case.end.is_none(),
        time_max: Duration::from_millis(case.wait_ms.min(WAIT_MS_MAX)),
    };
    trial.run(Arc::clone(plugin), SystemClock::shared()).await.map_err(|error| error.to_string())
}

/// What differs from what the case says.
fn compare(case: &RunCase, outcome: &RunTrialOutcome) -> Vec<String> {
    let mut problems = Vec::new();
    match (&case.end, &outcome.end) {
        (None, RunTrialEnd::Stopped | RunTrialEnd::Finished)
        | (Some(End::Finished), RunTrialEnd::Finished) => {}
        (Some(End::Again(expected)), RunTrialEnd::Again(reason))
        | (Some(End::Failed(expected)), RunTrialEnd::Failed(reason))
            if reason.contains(expected.as_str()) => {}
        (expected, end) => {
            let wanted = match expected {
                None => "with what is expected of it done".to_owned(),
                Some(End::Finished) => "because its work is done".to_owned(),
                Some(End::Again(reason)) => format!("to be run again, because of {reason:?}"),
                Some(End::Failed(reason)) => format!("for good, because of {reason:?}"),
            };
            problems.push(format!("{}; it should have ended {wanted}", ended(end, case)));
        }
    }
    let made = outcome.messages.iter().map(|message| Made {
        topic: &message.topic,
        partition: Some(message.partition),
        record: &message.record,
    });
    compare_outputs(&case.output, made.collect(), &mut problems);
    if let Some(expected) = &case.position
        && !is_same(expected, outcome.position.as_deref())
    {
        let (found, expected) = (text(outcome.position.as_deref()), text(bytes(expected).as_deref()));
        problems.push(format!("the position is {found}, not {expected}"));
    }
    let all = case.input.as_ref().map(Vec::len).filter(|_| case.end.is_none());
    if let Some(expected) = case.committed.or(all) {
        let committed = outcome.committed.map_or(0, |offset| offset - case.offset);
        if i64::try_from(expected) != Ok(committed) {
            problems.push(format!("{committed} records are committed, not {expected}"));
        }
    }
    problems
}

fn ended(end: &RunTrialEnd, case: &RunCase) -> String {
    match end {
        RunTrialEnd::Finished => "it said that its work is done".to_owned(),
        RunTrialEnd::Stopped => "it was told to stop".to_owned(),
        RunTrialEnd::Late => format!("it was not done after {} ms", case.wait_ms.min(WAIT_MS_MAX)),
        RunTrialEnd::Again(reason) => format!("a node would run it again: {reason}"),
        RunTrialEnd::Failed(reason) => format!("it failed: {reason}"),
    }
}
