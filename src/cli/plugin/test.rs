//! `millstream plugin test`: runs cases from files against a component, in this process and without a node.
//!
//! A case says which records go in, and what should come out. What it does not say is not looked at: an output without a
//! `key` may have any.

mod lent;
mod records;
mod runs;
mod transforms;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::engine::PluginForm;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::runs::RunCase;
use self::transforms::TransformCase;
use super::compile;
use super::project::Project;
use crate::cli::failure::Failure;
use crate::cli::node_args::PluginTestArgs;
use crate::cli::output::{Output, human_bytes};

/// Where cases are, beside the command line.
const CASES_DIR: &str = "cases";

/// What a case has come to.
struct Ran {
    problems: Vec<String>,
    records: usize,
    /// Time, where it is all the plugin's, and memory.
    cost: Option<(Option<Duration>, u64)>,
    log: Vec<String>,
}

/// What became of a case, for whoever asked.
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

pub(super) fn run(args: &PluginTestArgs, output: &mut Output) -> Result<(), Failure> {
    let (component, cases) = component_and_cases(&args.files)?;
    let is_projects = cases.len() == args.files.len();
    let files = case_files(cases)?;
    let bytes = fs::read(&component).map_err(|source| match source.kind() {
        ErrorKind::NotFound if is_projects => Failure::Plugin {
            path: component.clone(),
            reason: "it is not there yet: run `millstream plugin build`".to_owned(),
        },
        _ => Failure::Input { path: component.clone(), source },
    })?;
    let plugin = Arc::new(compile::load(&component, &bytes)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::Node(format!("can't start timers: {error}")))?;
    let mut reports = Vec::new();
    for file in files {
        let mut add = |name: String, ran| {
            let report = Report::new(&file, name, ran);
            if !output.json() {
                show(&report, output)?;
            }
            reports.push(report);
            Ok(())
        };
        if plugin.form() == PluginForm::Run {
            for case in read_cases::<RunCase>(&file, "name and output, and a sink's input")? {
                add(case.name.clone(), runtime.block_on(runs::run(&plugin, &case)))?;
            }
        } else {
            for case in read_cases::<TransformCase>(&file, "name, input and output")? {
                add(case.name.clone(), runtime.block_on(transforms::run(&plugin, &case)))?;
            }
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

/// A file holds one, or a list of them. `fields` are those that each must have.
fn read_cases<Case: DeserializeOwned>(file: &Path, fields: &str) -> Result<Vec<Case>, Failure> {
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
        reason: format!("it holds no cases, which have {fields}: {error}"),
    })
}

impl Report {
    fn new(file: &Path, case: String, ran: Ran) -> Self {
        let Ran { problems, records, cost, log } = ran;
        let time = cost.and_then(|(time, _)| time);
        Self {
            file: file.to_owned(),
            case,
            passed: problems.is_empty(),
            problems,
            records,
            nanoseconds_per_record: time.map(|time| time.as_nanos() / records.max(1) as u128),
            memory_bytes: cost.map(|(_, bytes)| bytes),
            log,
        }
    }
}

fn show(report: &Report, output: &mut Output) -> Result<(), Failure> {
    let Report { file, case, passed, problems, log, .. } = report;
    let cost = match (report.nanoseconds_per_record, report.memory_bytes) {
        (Some(nanoseconds), Some(bytes)) => {
            format!("  ({nanoseconds} ns a record, {} of memory)", human_bytes(bytes))
        }
        (None, Some(bytes)) => format!("  ({} of memory)", human_bytes(bytes)),
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
