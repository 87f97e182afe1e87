//! `millstream plugin test`: runs cases from files against a component, in this process and without a node.
//!
//! A case says which records go in, and what should come out. What it does not say is not looked at: an output without a
//! `key` may have any.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream_runtime::batch::Position;
use millstream_runtime::clock::SystemClock;
use millstream_runtime::engine::{EngineConfig, PluginEngine};
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::outputs::RejectedRecord;
use millstream_runtime::plugin::{LogLevel, Plugin, PluginLog, StageNames};
use millstream_runtime::trial::{Trial, TrialBatch, TrialOutcome, TrialOutput, TrialRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::project::Project;
use crate::cli::failure::Failure;
use crate::cli::node_args::PluginTestArgs;
use crate::cli::output::{Output, human_bytes};
use crate::cli::up::chain;
use crate::compile_plugin;

/// Where cases are, beside the command line.
const CASES_DIR: &str = "cases";

/// A file holds one, or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
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

fn input_topic() -> String {
    "input".to_owned()
}

fn output_topics() -> Vec<String> {
    vec!["output".to_owned()]
}

/// A record that goes in. A value that is no text is written as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    key: Value,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    timestamp: i64,
}

/// A record that should come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default, deserialize_with = "present")]
    key: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    headers: Option<BTreeMap<String, Value>>,
    timestamp: Option<i64>,
    topic: Option<String>,
    partition: Option<i32>,
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

/// Null is a value to be compared with, too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What became of a case.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    case: String,
    passed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    records: usize,
    nanoseconds_per_record: Option<u128>,
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<String>,
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

pub(super) fn run(args: &PluginTestArgs, output: &mut Output) -> Result<(), Failure> {
    let (component, cases) = component_and_cases(&args.files)?;
    let files = case_files(cases)?;
    let plugin = load(&component)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::Node(format!("can't start timers: {error}")))?;
    let mut reports = Vec::new();
    for file in files {
        for case in read_cases(&file)? {
            let report = runtime.block_on(report(&plugin, &file, &case));
            if !output.json() {
                show(&report, output)?;
            }
            reports.push(report);
        }
    }
    if output.json() {
        output.document(&reports)?;
    }
    let failed = reports.iter().filter(|report| !report.passed).count();
    match (failed, reports.len()) {
        (_, 0) => Err(Failure::Usage("the files have no cases".to_owned())),
        (0, count) if output.json() || count == 0 => Ok(()),
        (0, count) => output.line(format_args!("{count} passed")),
        (failed, count) => Err(Failure::Incomplete(format!("{failed} of {count} cases failed"))),
    }
}

/// The first file is the component, unless it is one of cases.
fn component_and_cases(files: &[PathBuf]) -> Result<(PathBuf, &[PathBuf]), Failure> {
    match files {
        [component, cases @ ..] if !is_of_cases(component) => Ok((component.clone(), cases)),
        cases => Ok((Project::here()?.component(), cases)),
    }
}

fn is_of_cases(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e))
}

/// The files that were named, or all of the directory of cases.
fn case_files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let dir = Path::new(CASES_DIR);
    let unreadable = |source| Failure::Input { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_of_cases(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn load(file: &Path) -> Result<Plugin, Failure> {
    let bytes = fs::read(file).map_err(|source| Failure::Input { path: file.to_owned(), source })?;
    let compiler = Box::new(compile_plugin::compiler());
    let engine = PluginEngine::new(EngineConfig { compiler, instances_max: 1, ..EngineConfig::default() });
    let plugin = engine.load(&bytes);
    plugin.map_err(|error| Failure::Plugin { path: file.to_owned(), reason: chain(&error) })
}

fn read_cases(file: &Path) -> Result<Vec<Case>, Failure> {
    let text = fs::read_to_string(file).map_err(|source| Failure::Input { path: file.to_owned(), source })?;
    // YAML 1.1 takes words like yes and n for booleans, which nobody means here.
    let options = serde_saphyr::options! { strict_booleans: true };
    let first = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'));
    let cases = match first.is_some_and(|line| line.starts_with(['-', '['])) {
        true => serde_saphyr::from_str_with_options::<Vec<Case>>(&text, options),
        false => serde_saphyr::from_str_with_options(&text, options).map(|case| vec![case]),
    };
    cases.map_err(|error| Failure::Plugin {
        path: file.to_owned(),
        reason: format!("it holds no cases, which have name, input and output: {error}"),
    })
}

async fn report(plugin: &Plugin, file: &Path, case: &Case) -> Report {
    let log = Arc::new(Lines::default());
    let outcome = outcome(plugin, case, Arc::clone(&log)).await;
    let problems = match &outcome {
        Ok(outcome) => compare(case, outcome),
        Err(problem) => vec![problem.clone()],
    };
    let records = case.input.len();
    let outcome = outcome.ok();
    let log = log.0.lock().expect("no code panics while it holds this lock").clone();
    Report {
        file: file.to_owned(),
        case: case.name.clone(),
        passed: problems.is_empty(),
        problems,
        records,
        nanoseconds_per_record: outcome
            .as_ref()
            .map(|outcome| outcome.time.as_nanos() / records.max(1) as u128),
        memory_bytes: outcome.as_ref().map(|outcome| outcome.memory_bytes),
        log,
    }
}

/// Each case has an instance of its own, so that the order of cases does not count.
async fn outcome(plugin: &Plugin, case: &Case, log: Arc<Lines>) -> Result<TrialOutcome, String> {
    let names = StageNames {
        plugin: "plugin".to_owned(),
        from: vec![case.topic.as_str().into()],
        to: case.to.iter().map(|topic| topic.as_str().into()).collect(),
    };
    let (config, limits) = (case.config.to_string(), case.limits.clone());
    let started = Trial::start(plugin, config, limits, names, log, SystemClock::shared()).await;
    let mut trial = started.map_err(|error| error.to_string())?;
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

impl Input {
    fn to_record(&self) -> TrialRecord {
        let header = |(key, value): (&String, &Value)| (key.clone(), bytes(value));
        TrialRecord {
            timestamp: self.timestamp,
            key: bytes(&self.key),
            value: bytes(&self.value),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// Text is itself, null is null, and whatever else is JSON.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        value => Some(value.to_string().into_bytes()),
    }
}

/// What differs from what the case says.
fn compare(case: &Case, outcome: &TrialOutcome) -> Vec<String> {
    let mut problems = Vec::new();
    let TrialOutcome { outputs, rejected, .. } = outcome;
    if outputs.len() != case.output.len() {
        problems.push(format!("{} outputs instead of {}", outputs.len(), case.output.len()));
        let unexpected = outputs.iter().skip(case.output.len());
        problems.extend(unexpected.map(|output| format!("not expected: {}", shown(&output.record))));
    }
    for (number, (expected, output)) in case.output.iter().zip(outputs).enumerate() {
        expected.compare(output, |problem| problems.push(format!("output {number}: {problem}")));
    }
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

impl Expected {
    fn compare(&self, output: &TrialOutput, mut differs: impl FnMut(String)) {
        let TrialOutput { topic, partition, record, .. } = output;
        for (what, expected, found) in
            [("key", &self.key, &record.key), ("value", &self.value, &record.value)]
        {
            if let Some(expected) = expected
                && !is_same(expected, found.as_deref())
            {
                differs(format!(
                    "{what} is {}, not {}",
                    text(found.as_deref()),
                    text(bytes(expected).as_deref())
                ));
            }
        }
        if let Some(expected) = &self.headers {
            let found: BTreeMap<&str, Option<&[u8]>> =
                record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let same = expected.len() == found.len()
                && expected
                    .iter()
                    .all(|(key, value)| found.get(key.as_str()).is_some_and(|found| is_same(value, *found)));
            if !same {
                let found: Vec<_> =
                    found.iter().map(|(key, value)| format!("{key}={}", text(*value))).collect();
                differs(format!("headers are {}", found.join(", ")));
            }
        }
        if let Some(expected) = self.timestamp.filter(|expected| *expected != record.timestamp) {
            differs(format!("timestamp is {}, not {expected}", record.timestamp));
        }
        if let Some(expected) = self.topic.as_ref().filter(|expected| *expected != topic) {
            differs(format!("topic is {topic:?}, not {expected:?}"));
        }
        if let Some(expected) = self.partition.filter(|expected| Some(*expected) != *partition) {
            differs(format!("partition is {partition:?}, not {expected}"));
        }
    }
}

/// JSON is compared as JSON: the order of an object's keys does not count.
fn is_same(expected: &Value, found: Option<&[u8]>) -> bool {
    match (expected, found) {
        (Value::Null, found) => found.is_none(),
        (_, None) => false,
        (Value::String(text), Some(found)) => text.as_bytes() == found,
        (expected, Some(found)) => {
            serde_json::from_slice::<Value>(found).is_ok_and(|found| found == *expected)
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)))
}

fn shown(record: &TrialRecord) -> String {
    format!("key {}, value {}", text(record.key.as_deref()), text(record.value.as_deref()))
}

fn show(report: &Report, output: &mut Output) -> Result<(), Failure> {
    let Report { file, case, passed, problems, log, .. } = report;
    let cost = match (report.nanoseconds_per_record, report.memory_bytes) {
        (Some(nanoseconds), Some(bytes)) => {
            format!("  ({nanoseconds} ns a record, {} of memory)", human_bytes(bytes))
        }
        _ => String::new(),
    };
    let word = if *passed { "ok    " } else { "FAILED" };
    output.line(format_args!("{word}  {}: {case}{cost}", file.display()))?;
    if !*passed {
        problems.iter().try_for_each(|problem| output.line(format_args!("        {problem}")))?;
        log.iter().try_for_each(|line| output.line(format_args!("        log: {line}")))?;
    }
    Ok(())
}
