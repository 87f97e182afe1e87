//! `millstream demo`: the whole path of a record on one screen. A node starts, a pipeline of two plugins is
//! applied to it, an access log is produced, and what the pipeline makes of it is consumed while it runs.

mod feed;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::config::BrokerConfig;
use millstream_runtime::pipeline::parse;
use millstream_runtime::stage::{StageState, StageStatus};

use self::feed::{Follower, Sent, send_lines};
use self::report::Report;
use super::clock::Stopwatch;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::node_args::DemoArgs;
use super::output::Output;
use super::up::{chain, runtime};
use crate::node::{ApplyRequest, Node, plugin_hash};

const PIPELINE_FILE: &str = "examples/access-log/pipeline.yaml";
const PIPELINE: &str = include_str!("../../examples/access-log/pipeline.yaml");
const SAMPLE: &[u8] = include_bytes!("../../examples/access-log/access.log");
const PARSER: &[u8] = include_bytes!(env!("GUEST_ACCESS_LOG_PARSER"));
const ERRORS: &[u8] = include_bytes!(env!("GUEST_ACCESS_LOG_ERRORS"));

const INPUT_TOPIC: &str = "access-log";
const OUTPUT_TOPIC: &str = "access-log.errors";
const PARSE_STAGE: &str = "parse";
const ERRORS_STAGE: &str = "errors";

/// How often the stages are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Without any progress for so long, something is wrong.
const STALL_MAX: Duration = Duration::from_secs(30);

pub(super) fn run(args: &DemoArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    // Thrown away at the end, unless the user named a place for it.
    let (dir, temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let made = tempfile::Builder::new().prefix("millstream-demo-").tempdir();
            let made =
                made.map_err(|error| Failure::Node(format!("can't make a data directory: {error}")))?;
            (made.path().to_owned(), Some(made))
        }
    };
    let dir_text = dir.display().to_string();
    let flags = [("data.dir", &*dir_text), ("listeners", &args.listen), ("admin.listener", &args.admin)];
    let config = BrokerConfig::from_flags(&flags).map_err(|error| Failure::Usage(chain(&error)))?;
    let runtime = runtime()?;
    let node = runtime.block_on(Node::start(config)).map_err(|error| {
        Failure::Node(format!("{}; --listen 127.0.0.1:0 takes a free port", chain(&error)))
    })?;
    let shown = show(args, &node, &runtime, &interrupt, output);
    let shown = shown.and_then(|()| match args.keep_running {
        true => keep_running(&node, &dir_text, &interrupt, output),
        false => Ok(()),
    });
    runtime.block_on(node.stop());
    if shown.is_ok() && temporary.is_none() {
        output.line(format_args!(
            "the data is kept in {dir_text}: `millstream up --data-dir {dir_text}` goes on with it"
        ))?;
    }
    shown
}

fn show(
    args: &DemoArgs,
    node: &Node,
    runtime: &tokio::runtime::Runtime,
    interrupt: &Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let address = node.kafka_address().to_string();
    let state = &node.state;
    runtime.block_on(async {
        state.apply_pipeline(pipeline(node)?).await.map_err(|error| Failure::Node(chain(&error)))
    })?;
    let before = counts(&state.stages());
    if !output.json() {
        output.line(format_args!(
            "node     Kafka clients on {address}, admin on http://{}",
            node.admin_address()
        ))?;
        output.line("pipeline access-log -> [access-log-parser] -> access-log.parsed -> [access-log-errors] -> access-log.errors")?;
        output.line(format_args!("input    {}", input_name(args.input.as_ref())))?;
        output.line("")?;
        output.flush()?;
    }
    let watch = Stopwatch::start();
    let mut follower = Follower::start(&address, OUTPUT_TOPIC)?;
    let sent = send_lines(&address, INPUT_TOPIC, args.input.as_deref(), SAMPLE, interrupt)?;
    let mut report = Report::new(output.json());
    let mut progress = Progress::default();
    loop {
        follower.take(|error| report.show(error, output))?;
        let stages = state.stages();
        if let Some(failed) = stages.iter().find_map(failure) {
            return Err(Failure::Incomplete(failed));
        }
        let now = counts(&stages);
        if interrupt.requested() || now.is_done(&before, &sent, report.shown()) {
            break;
        }
        if progress.stalled(&now, &watch) {
            return Err(Failure::Incomplete(format!("the pipeline made no progress for {STALL_MAX:?}")));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    let seconds = watch.seconds();
    report.finish(&sent, &counts(&state.stages()).since(&before), seconds, output)
}

/// The example's pipeline, with the plugins that this binary carries.
fn pipeline(node: &Node) -> Result<ApplyRequest, Failure> {
    let lines = |problems: Vec<millstream_runtime::pipeline::Problem>| {
        Failure::Problems(problems.iter().map(ToString::to_string).collect())
    };
    let spec = parse(PIPELINE_FILE, PIPELINE).map_err(lines)?;
    let mut plugins = BTreeMap::new();
    for plugin in &spec.plugins {
        let bytes = if plugin.name == "access-log-parser" { PARSER } else { ERRORS };
        let sha256 = plugin_hash(bytes);
        node.state.put_plugin(&sha256, bytes, None).map_err(|error| Failure::Node(chain(&error)))?;
        plugins.insert(plugin.file.clone(), sha256);
    }
    Ok(ApplyRequest { file: PIPELINE_FILE.to_owned(), text: PIPELINE.to_owned(), plugins })
}

fn input_name(input: Option<&PathBuf>) -> String {
    match input {
        Some(path) => path.display().to_string(),
        None => "the example's sample; --input FILE takes your own access log".to_owned(),
    }
}

fn failure(stage: &StageStatus) -> Option<String> {
    match &stage.state {
        StageState::Failed(failure) => Some(format!("stage {} failed: {}", stage.stage, failure.reason)),
        _ => None,
    }
}

/// What the two stages have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    read: u64,
    parsed: u64,
    rejected: u64,
    examined: u64,
    kept: u64,
}

fn counts(stages: &[StageStatus]) -> Counts {
    let stage = |name: &str| stages.iter().find(|stage| stage.stage == name);
    let (parse, errors) = (stage(PARSE_STAGE), stage(ERRORS_STAGE));
    Counts {
        read: parse.map_or(0, |stage| stage.records_in),
        parsed: parse.map_or(0, |stage| stage.records_out - stage.records_rejected.min(stage.records_out)),
        rejected: parse.map_or(0, |stage| stage.records_rejected),
        examined: errors.map_or(0, |stage| stage.records_in),
        kept: errors.map_or(0, |stage| stage.records_out),
    }
}

impl Counts {
    fn since(&self, before: &Self) -> Self {
        Self {
            read: self.read - before.read,
            parsed: self.parsed - before.parsed,
            rejected: self.rejected - before.rejected,
            examined: self.examined - before.examined,
            kept: self.kept - before.kept,
        }
    }

    /// Every line has gone all the way, to this screen. A stage's counts are of what it has committed, all as of one
    /// moment, so that results that are still on their way are missing from both sides of a comparison.
    fn is_done(&self, before: &Self, sent: &Sent, shown: u64) -> bool {
        let now = self.since(before);
        now.read >= sent.lines && now.examined >= now.parsed && shown >= now.kept
    }
}

#[derive(Debug, Default)]
struct Progress {
    last: Counts,
    at_seconds: f64,
}

impl Progress {
    fn stalled(&mut self, now: &Counts, watch: &Stopwatch) -> bool {
        if *now != self.last {
            (self.last, self.at_seconds) = (*now, watch.seconds());
        }
        watch.seconds() - self.at_seconds > STALL_MAX.as_secs_f64()
    }
}

fn keep_running(node: &Node, dir: &str, interrupt: &Interrupt, output: &mut Output) -> Result<(), Failure> {
    let (kafka, admin) = (Arc::new(node.kafka_address()), node.admin_address());
    output.line("")?;
    output.line(format_args!("the node runs until Ctrl-C, its data is in {dir}; look around:"))?;
    output.line(format_args!("  kcat -b {kafka} -L"))?;
    output.line(format_args!("  kcat -b {kafka} -C -t {OUTPUT_TOPIC} -o beginning -e"))?;
    output.line(format_args!(
        "  millstream consume --bootstrap {kafka} --topic access-log.parsed --from beginning"
    ))?;
    output.line(format_args!("  millstream status --admin {admin}"))?;
    output.line(format_args!("  curl http://{admin}/metrics"))?;
    output.flush()?;
    while !interrupt.requested() {
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}
