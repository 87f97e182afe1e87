//! Cases of transforms: a batch goes in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::grants::Grants;
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::outputs::RejectedRecord;
use millstream_runtime::plugin::{InstanceConfig, Lent, LogLevel, Plugin, PluginLog, StageNames};
use millstream_runtime::trial::{Trial, TrialBatch, TrialOutcome};
use serde::Deserialize;
use serde_json::Value;

use super::Ran;
use super::lent::LentDir;
use super::records::{Expected, Input, Made, compare_outputs};

/// What goes in, and what should come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransformCase {
    pub(super) name: String,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    limits: PluginLimits,
    /// The topic that the records come from.
    #[serde(default = "input_topic")]
    topic: String,
    #[serde(default)]
    partition: i32,
    /// The offset of the first record.
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    position: PositionName,
    /// The topics that outputs may go to; the first is the default.
    #[serde(default = "output_topics")]
    to: Vec<String>,
    /// What it is granted, by name, with the contents.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    input: Vec<Input>,
    output: Vec<Expected>,
    #[serde(default)]
    rejected: Vec<ExpectedRejection>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PositionName {
    #[default]
    Stream,
    Ingest,
    View,
}

pub(super) fn input_topic() -> String {
    "input".to_owned()
}

pub(super) fn output_topics() -> Vec<String> {
    vec!["output".to_owned()]
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedRejection {
    /// The record's place in the input, from 0.
    index: u32,
    /// What the reason contains.
    #[serde(default)]
    reason: String,
}

/// The plugin's log, for whoever looks at a case.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl PluginLog for Lines {
    fn line(&self, level: LogLevel, line: &str) {
        let level = format!("{level:?}").to_lowercase();
        self.0.lock().expect("no code panics while it holds this lock").push(format!("{level}: {line}"));
    }
}

/// Runs a case.
pub(super) async fn run(plugin: &Plugin, case: &TransformCase) -> Ran {
    let log = Arc::new(Lines::default());
    let outcome = outcome(plugin, case, Arc::clone(&log)).await;
    let problems = match &outcome {
        Ok(outcome) => compare(case, outcome),
        Err(problem) => vec![problem.clone()],
    };
    let log = log.0.lock().expect("no code panics while it holds this lock").clone();
    let cost = outcome.ok().map(|outcome| (Some(outcome.time), outcome.memory_bytes));
    Ran { problems, records: case.input.len(), cost, log }
}

/// Each case has an instance of its own, so that the order of cases does not count.
async fn outcome(plugin: &Plugin, case: &TransformCase, log: Arc<Lines>) -> Result<TrialOutcome, String> {
    let names = StageNames {
        plugin: "plugin".to_owned(),
        from: vec![case.topic.as_str().into()],
        to: case.to.iter().map(|topic| topic.as_str().into()).collect(),
    };
    let lent = LentDir::new(&case.secrets, &BTreeMap::new())?;
    let grants = Grants { secrets: case.secrets.keys().cloned().collect(), ..Grants::default() };
    let config = InstanceConfig {
        config: case.config.to_string(),
        limits: case.limits.clone(),
        log,
        clock: SystemClock::shared(),
        names,
        lent: Lent::unseen(grants, lent.environment()),
    };
    let mut trial = Trial::start(plugin, config).await.map_err(|error| error.to_string())?;
    let batch = TrialBatch {
        position: match case.position {
            PositionName::Stream => Position::Stream,
            PositionName::Ingest => Position::Ingest,
            PositionName::View => Position::View,
        },
        topic: case.topic.clone(),
        partition: case.partition,
        base_offset: case.offset,
        records: case.input.iter().map(Input::to_record).collect(),
    };
    trial.run(&batch).await.map_err(|error| error.to_string())
}

/// What differs from what the case says.
fn compare(case: &TransformCase, outcome: &TrialOutcome) -> Vec<String> {
    let mut problems = Vec::new();
    let TrialOutcome { outputs, rejected, .. } = outcome;
    let made = outputs.iter().map(|output| Made {
        topic: &output.topic,
        partition: output.partition,
        record: &output.record,
    });
    compare_outputs(&case.output, made.collect(), &mut problems);
    for RejectedRecord { index, reason } in rejected {
        if !case.rejected.iter().any(|expected| expected.index == *index) {
            problems.push(format!("input {index} is rejected: {reason}"));
        }
    }
    for ExpectedRejection { index, reason } in &case.rejected {
        match rejected.iter().find(|rejected| rejected.index == *index) {
            None => problems.push(format!("input {index} is not rejected")),
            Some(rejected) if !rejected.reason.contains(reason.as_str()) => {
                problems.push(format!("input {index} is rejected for {:?}, not {reason:?}", rejected.reason));
            }
            Some(_) => {}
        }
    }
    problems
}
