//! Pipelines on a running node, through the command line: a real log and the example's plugins, also with a node that
//! is killed in the middle; plugins that misbehave; files with mistakes.

#![expect(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[path = "pipeline/approval.rs"]
mod approval;
#[path = "pipeline/cases.rs"]
mod cases;
#[path = "pipeline/conformance.rs"]
mod conformance;
#[path = "support/dice.rs"]
mod dice;
#[path = "pipeline/earthquakes.rs"]
mod earthquakes;
#[path = "pipeline/http.rs"]
mod http;
#[path = "pipeline/inlines.rs"]
mod inlines;
#[path = "support/node.rs"]
mod node;
#[path = "pipeline/operations.rs"]
mod operations;
#[path = "pipeline/projects.rs"]
mod projects;
#[path = "pipeline/redpanda.rs"]
mod redpanda;
#[path = "pipeline/runners.rs"]
mod runners;
#[path = "pipeline/signatures.rs"]
mod signatures;
#[path = "pipeline/tools.rs"]
mod tools;
#[path = "pipeline/versions.rs"]
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::dice::{Dice, seed};
use self::node::{Ended, Node, PATIENCE, Settings, run_to_end, until};

const PARSER: &str = env!("GUEST_ACCESS_LOG_PARSER");
const ERRORS: &str = env!("GUEST_ACCESS_LOG_ERRORS");
const FILTER: &str = env!("GUEST_FILTER");
const HOSTILE: &str = env!("GUEST_HOSTILE");

/// How often the node is killed while the log goes through the pipeline.
const KILLS: usize = 4;
/// How often the outputs are read until they are complete, which takes a large part of a second each.
const READS_MAX: usize = 60;

/// A log, and what its pipeline makes of it.
struct Log {
    lines: Vec<String>,
    parsed: usize,
    rejected: usize,
    by_status: &'static [(u64, usize)],
}

/// The public log where it is at hand, as the benchmarks have it; otherwise the example's own sample of it.
fn log() -> Log {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let public = std::env::var_os("MILLSTREAM_ACCESS_LOG")
        .map_or_else(|| root.join("../shared/data/apache_access.log"), PathBuf::from);
    let (path, parsed, rejected, by_status): (_, _, _, &[_]) = if public.exists() {
        (public, 10_000, 0, &[(403, 2), (404, 213), (416, 2), (500, 3)])
    } else {
        let sample = root.join("examples/access-log/access.log");
        (sample, 309, 5, &[(400, 1), (403, 2), (404, 37), (416, 2), (500, 3)])
    };
    let text = fs::read(&path).expect("the log can be read");
    let lines: Vec<_> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), parsed + rejected, "{} is another log", path.display());
    Log { lines, parsed, rejected, by_status }
}

#[test]
fn a_log_goes_through_once_and_survives_kills() {
    let log = log();
    let expected = clean_run(&log);
    killed_run(&log, &expected);
}

/// What a run has written: values, or what identifies them, and how often each is there.
type Counted = BTreeMap<String, usize>;

#[derive(Default)]
struct Outcome {
    parsed: Counted,
    rejected: Counted,
    /// Without the count, which is that of one instance of the plugin.
    errors: Counted,
    by_status: BTreeMap<u64, usize>,
}

impl Outcome {
    fn read(node: &Node) -> Self {
        let mut outcome = Self::default();
        for record in read(node, "access-log.parsed") {
            *outcome.parsed.entry(record).or_default() += 1;
        }
        for record in read(node, "access-log.rejected") {
            *outcome.rejected.entry(record).or_default() += 1;
        }
        for record in read(node, "access-log.errors") {
            let mut error: Value = serde_json::from_str(&record).expect("errors are JSON");
            error.as_object_mut().expect("an object").remove("count");
            *outcome.errors.entry(error.to_string()).or_default() += 1;
            *outcome.by_status.entry(error["status"].as_u64().expect("a status")).or_default() += 1;
        }
        outcome
    }

    /// At least as many of each, and nothing else.
    fn covers(&self, expected: &Self) -> bool {
        let covers = |found: &Counted, expected: &Counted| {
            expected.iter().all(|(value, count)| found.get(value) >= Some(count))
                && found.keys().all(|value| expected.contains_key(value))
        };
        covers(&self.parsed, &expected.parsed)
            && covers(&self.rejected, &expected.rejected)
            && covers(&self.errors, &expected.errors)
    }
}

fn clean_run(log: &Log) -> Outcome {
    let node = Node::start();
    let (_dir, file) = access_log_pipeline();
    let applied = succeed(&apply(&node, &file));
    assert_eq!(names(&applied["started"]), ["errors", "parse"], "{applied}");
    let producer = producer(&node.bootstrap());
    send(&producer, &log.lines);
    producer.flush(PATIENCE).expect("everything is acknowledged");
    until_done(&node, log);
    let outcome = Outcome::read(&node);
    assert_eq!(total(&outcome.parsed), log.parsed);
    assert_eq!(total(&outcome.rejected), log.rejected);
    let by_status: Vec<_> = outcome.by_status.iter().map(|(status, count)| (*status, *count)).collect();
    assert_eq!(by_status, log.by_status);
    let again = succeed(&apply(&node, &file));
    assert_eq!(names(&again["unchanged"]), ["errors", "parse"], "{again}");
    assert!(node.stop().status.success());
    outcome
}

/// In alphabetical order; the answer's is of no meaning.
fn names(list: &Value) -> Vec<&str> {
    let mut names: Vec<_> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names
}

fn total(counted: &Counted) -> usize {
    counted.values().sum()
}

/// Both stages have read all that is there for them.
fn until_done(node: &Node, log: &Log) {
    let lines = log.lines.len();
    let done = until(|| {
        let status = status(node);
        let read = |stage: &str| stage_of(&status, stage)["records_in"].as_u64().unwrap_or_default() as usize;
        let errors: usize = log.by_status.iter().map(|(_, count)| count).sum();
        read("parse") >= lines && read("errors") >= log.parsed && stored(node, "access-log.errors") >= errors
    });
    assert!(done, "{:#}\n{}", status(node), node.stderr());
}

/// The node is killed while lines wait at every stage. Nothing may be missing then; some may be there twice.
fn killed_run(log: &Log, expected: &Outcome) {
    let seed = seed();
    println!("MILLSTREAM_CRASH_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut node = Node::start();
    let (_dir, file) = access_log_pipeline();
    succeed(&apply(&node, &file));
    // The same client all along: it sends again what the node had no time to acknowledge.
    let producer = producer(&node.bootstrap());
    for lines in log.lines.chunks(log.lines.len().div_ceil(KILLS)) {
        let before = stored(&node, "access-log.parsed");
        send(&producer, lines);
        let more = usize::try_from(dice.below(lines.len() as u64 / 2)).expect("a small number");
        let grown = until(|| stored(&node, "access-log.parsed") >= before + more);
        assert!(grown, "the pipeline stands still: {:#}\n{}", status(&node), node.stderr());
        node = node.kill().start();
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert_eq!(stored(&node, "access-log"), log.lines.len(), "the producer is idempotent");
    until(|| stored(&node, "access-log.parsed") >= log.parsed);
    let complete = (0..READS_MAX).any(|_| Outcome::read(&node).covers(expected));
    let found = Outcome::read(&node);
    assert!(complete, "{} parsed: {:#}\n{}", total(&found.parsed), status(&node), node.stderr());
    println!("{KILLS} kills: {} lines, {} parsed", log.lines.len(), total(&found.parsed));
}

/// The example, with the plugins of this build.
fn access_log_pipeline() -> (TempDir, PathBuf) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/access-log/pipeline.yaml");
    let text = fs::read_to_string(example).expect("the example is there");
    let built = "../../target/guests/wasm32-wasip2/guest/";
    let (parser, errors) =
        (format!("{built}access_log_parser.wasm"), format!("{built}access_log_errors.wasm"));
    assert!(text.contains(&parser) && text.contains(&errors), "{text}");
    pipeline_file(&text.replace(&parser, PARSER).replace(&errors, ERRORS))
}

fn pipeline_file(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("pipeline.yaml");
    fs::write(&file, text).expect("the directory is writable");
    (dir, file)
}

/// How each of them fails is shown in `tests/hostile/plugins.rs`.
#[test]
fn a_stage_that_failed_is_shown_with_its_place_and_its_neighbours_go_on() {
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: misbehaving\nplugins: {{hostile: {HOSTILE}}}\n\
         topics: {{in-good: {{partitions: 1}}, in-bad: {{partitions: 1}}, out: {{partitions: 1}}}}\n\
         stages:\n  good: {{from: in-good, plugin: hostile, to: out}}\n  bad: {{from: in-bad, plugin: hostile, to: out}}\n"
    ));
    let node = Node::start();
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    for value in ["harmless", "panic"] {
        produce(&producer, "in-bad", value);
        producer.flush(PATIENCE).expect("everything is acknowledged");
    }
    let mut stage = Value::Null;
    until(|| {
        stage = stage_of(&status(&node), "bad").clone();
        stage["state"] == "failed"
    });
    assert_eq!((&stage["topic"], &stage["partition"]), (&json!("in-bad"), &json!(0)), "{stage:#}");
    let readable = admin(&node, &["status"]);
    assert!(readable.stdout.contains("bad: failed in plugin hostile at in-bad-0"), "{}", readable.stdout);
    produce(&producer, "in-good", "later");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 2), "{:#}", status(&node));
    assert_eq!(read(&node, "out"), ["harmless", "later"]);
    assert_eq!(stage_of(&status(&node), "good")["state"], "running");
    assert!(node.stop().status.success());
}

const FILTERING: &str = "\
pipeline: filtering
topics:
  all: {partitions: 1}
  some: {partitions: 1}
plugins:
  filter: FILTER
stages:
  keep:
    from: all
    plugin: filter
    config: {field: status, gte: 400}
    to: some
";

/// Replacements in `FILTERING`, and what is said: place, message and remedy.
const MISTAKES: [(&str, &str, &str); 7] = [
    ("topics:", "topcis:", ":2:1: error: unknown key \"topcis\" in the pipeline; did you mean \"topics\"?"),
    ("from: all", "from: al", ":9:11: error: topic \"al\" does not exist; did you mean \"all\"?"),
    ("    to: some\n", "", ":9:5: error: stage \"keep\" has no \"to\"; add \"to: ...\""),
    ("FILTER", "gone.wasm", ":6:11: error: cannot read \"gone.wasm\" of plugin \"filter\""),
    ("FILTER", "pipeline.yaml", ":6:11: error: \"pipeline.yaml\" of plugin \"filter\""),
    (
        "plugin: filter",
        "plugin: fliter",
        ":10:13: error: plugin \"fliter\" is not declared; did you mean \"filter\"?",
    ),
    ("field: status, gte", "feld: status, gte", ":10:13: error: plugin \"filter\" in stage \"keep\""),
];

#[test]
fn a_filter_keeps_running_whatever_is_wrong_with_later_files() {
    let node = Node::start();
    let producer = producer(&node.bootstrap());
    let (dir, file) = pipeline_file(&FILTERING.replace("FILTER", FILTER));
    succeed(&apply(&node, &file));
    let validated = admin(&node, &["validate", &text(&file)]);
    assert!(validated.status.success(), "{}", validated.stderr);
    check_filter(&node, &producer, 1);
    for (turn, (from, to, said)) in (2..).zip(MISTAKES) {
        assert!(FILTERING.contains(from), "{from}");
        let bad = dir.path().join("pipeline.yaml");
        fs::write(&bad, FILTERING.replacen(from, to, 1).replace("FILTER", FILTER))
            .expect("a writable directory");
        for command in ["validate", "apply"] {
            let ended = admin(&node, &[command, &text(&bad)]);
            assert_eq!(ended.status.code(), Some(1), "{command} {to}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(&format!("{}{said}", bad.display())),
                "{command}: {}",
                ended.stderr
            );
            let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains(": error: ")).collect();
            assert!(lines.iter().all(|line| line.contains("; ")), "no remedy: {lines:?}");
        }
        check_filter(&node, &producer, turn);
    }
    let listed = admin(&node, &["pipeline", "list"]);
    assert_eq!(listed.stdout.trim(), "filtering");
    assert!(node.stop().status.success());
}

/// Of three more records one is an error, and is let through.
fn check_filter(node: &Node, producer: &ThreadedProducer<DefaultProducerContext>, turn: usize) {
    for status in [200, 404, 399] {
        produce(producer, "all", &json!({"turn": turn, "status": status}).to_string());
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(node, "some") >= turn), "{:#}", status(node));
    let kept: Vec<Value> =
        read(node, "some").iter().map(|value| serde_json::from_str(value).expect("JSON")).collect();
    let expected: Vec<_> = (1..=turn).map(|turn| json!({"turn": turn, "status": 404})).collect();
    assert_eq!(kept, expected);
}

/// What the node knows beside the file: its broker's settings, its topics, and the other pipelines.
#[test]
fn a_file_is_held_against_the_node() {
    let node = Node::start();
    let copy = |name: &str, from: &str, to: &str, more: &str| {
        pipeline_file(&format!(
            "pipeline: {name}\ntopics:\n  {to}: {{partitions: 1{more}}}\nstages:\n  copy: {{from: {from}, to: {to}, group: g-{from}}}\n"
        ))
    };
    let (_dir, source) = pipeline_file(
        "pipeline: source\ntopics:\n  a: {partitions: 1}\n  b: {partitions: 1}\nstages:\n  copy: {from: a, to: b, group: g}\n",
    );
    succeed(&apply(&node, &source));
    let refused = |file: &(TempDir, PathBuf), said: &str| {
        for command in ["validate", "apply"] {
            let ended = admin(&node, &[command, &text(&file.1)]);
            assert_eq!(ended.status.code(), Some(1), "{command}: {}", ended.stderr);
            assert!(ended.stderr.contains(said), "{command}: {}", ended.stderr);
        }
    };
    refused(
        &copy("back", "b", "a", ""),
        ":5:16: error: stage \"copy\" is in a cycle: what it writes comes back to \"b\" by way of pipeline \"source\"",
    );
    refused(
        &copy("loop", "__consumer_offsets", "never", ""),
        ":5:16: error: topic \"__consumer_offsets\" is the broker's own",
    );
    refused(
        &copy("typo", "b", "never", ", config: {retention.msx: 5}"),
        ":3:3: error: topic \"never\" cannot be created: unknown key \"retention.msx\"",
    );
    let (dir, shared) = copy("other", "a", "never", "");
    fs::write(&shared, fs::read_to_string(&shared).expect("readable").replace("g-a", "g")).expect("writable");
    refused(
        &(dir, shared),
        ":5:3: error: stages \"copy\" of pipeline \"source\" and \"copy\" have the same group \"g\"",
    );
    let (_dir, late) = copy("late", "a", "b", ", config: {retention.ms: 5}");
    let warned = admin(&node, &["validate", &text(&late)]);
    assert!(warned.status.success(), "{}", warned.stderr);
    let expect = "topic \"b\" exists with retention.ms = \"604800000\", not \"5\"";
    assert!(warned.stderr.contains(expect), "{}", warned.stderr);
    let topics = millstream(&["topic", "list", "--bootstrap", &node.bootstrap()]);
    assert!(topics.status.success() && !topics.stdout.contains("never"), "{}", topics.stdout);
    assert!(node.stop().status.success());
}

/// A record that the output topic does not take is a dead letter, and a stage whose topic is deleted waits for it.
#[test]
fn a_stage_gets_along_with_its_topics() {
    let (_dir, file) = pipeline_file(
        "pipeline: narrow\ntopics:\n  in: {partitions: 1}\n  out: {partitions: 1, config: {max.message.bytes: 2000}}\n  dead: {partitions: 1}\n\
         stages:\n  copy: {from: in, to: out, on_error: {dead_letter: dead}}\n",
    );
    let node = Node::start();
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    // Digits of a sequence that repeats late, so that no codec makes little of them.
    let large: String =
        (0_u64..10_000).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string()).collect();
    for value in ["before", &large, "behind"] {
        produce(&producer, "in", value);
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 2 && stored(&node, "dead") == 1), "{:#}", status(&node));
    assert_eq!(read(&node, "dead"), [large]);
    let stage = stage_of(&status(&node), "copy").clone();
    assert_eq!((&stage["state"], &stage["records_rejected"]), (&json!("running"), &json!(1)), "{stage:#}");

    let deleted = millstream(&["topic", "delete", "in", "--bootstrap", &node.bootstrap()]);
    assert!(deleted.status.success(), "{}", deleted.stderr);
    let waits = || {
        let stage = stage_of(&status(&node), "copy").clone();
        stage["state"] == "waiting"
            && stage["reason"].as_str().is_some_and(|why| why.contains("\"in\" does not exist"))
    };
    assert!(until(waits), "{:#}", status(&node));
    succeed(&apply(&node, &file));
    assert!(until(|| stage_of(&status(&node), "copy")["state"] == "running"), "{:#}", status(&node));
    produce(&producer, "in", "again");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 3), "{:#}", status(&node));
    assert!(node.stop().status.success());
}

#[test]
fn a_plugin_is_inspected_without_a_node() {
    let inspected = millstream(&["plugin", "inspect", FILTER, "--json"]);
    assert!(inspected.status.success(), "{}", inspected.stderr);
    let found: Value = serde_json::from_str(&inspected.stdout).expect("JSON");
    let bytes = fs::metadata(FILTER).expect("the plugin is there").len();
    assert_eq!((&found["form"], &found["bytes"]), (&json!("transform-batch"), &json!(bytes)));
    let (_dir, file) = pipeline_file("not a component");
    let refused = millstream(&["plugin", "inspect", &text(&file)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.starts_with(&format!("error: {}: ", file.display())), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
}

fn text(path: &Path) -> String {
    path.to_str().expect("the path is text").to_owned()
}

fn millstream(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    run_to_end(command.args(args).env_remove("MILLSTREAM_ADMIN").env_remove("MILLSTREAM_LOG"))
}

/// A command that asks the node's admin listener.
fn admin(node: &Node, args: &[&str]) -> Ended {
    millstream(&[args, &["--admin", &node.admin().to_string()]].concat())
}

fn apply(node: &Node, file: &Path) -> Ended {
    admin(node, &["apply", &text(file), "--json"])
}

fn succeed(ended: &Ended) -> Value {
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn status(node: &Node) -> Value {
    succeed(&admin(node, &["status", "--json"]))
}

fn stage_of<'a>(status: &'a Value, name: &str) -> &'a Value {
    let stages = status["stages"].as_array().into_iter().flatten();
    stages.into_iter().find(|stage| stage["stage"] == name).unwrap_or(&Value::Null)
}

fn producer(bootstrap: &str) -> ThreadedProducer<DefaultProducerContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        // Small batches, so that a stage commits often.
        .set("batch.num.messages", "50")
        .set("linger.ms", "0")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .create()
        .expect("valid settings")
}

fn produce(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, value: &str) {
    let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).payload(value);
    producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, lines: &[String]) {
    lines.iter().for_each(|line| produce(producer, "access-log", line));
}

fn consumer(node: &Node) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", node.bootstrap())
        .set("group.id", "reader")
        .set("enable.auto.commit", "false");
    config.create().expect("valid settings")
}

/// The ends of a topic's partitions; of a single node's topic that nobody compacts, that is how much it holds.
fn ends(consumer: &BaseConsumer, topic: &str) -> Vec<(i32, i64)> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the node answers");
    let partitions = metadata.topics()[0].partitions().iter().map(|partition| partition.id());
    let end = |partition| Ok((partition, consumer.fetch_watermarks(topic, partition, PATIENCE)?.1));
    partitions.map(end).collect::<Result<_, KafkaError>>().expect("the node answers")
}

fn stored(node: &Node, topic: &str) -> usize {
    ends(&consumer(node), topic).into_iter().map(|(_, end)| usize::try_from(end).expect("an offset")).sum()
}

/// The values of all records that are there now.
fn read(node: &Node, topic: &str) -> Vec<String> {
    let consumer = consumer(node);
    let ends = ends(&consumer, topic);
    let mut assignment = TopicPartitionList::new();
    for (partition, _) in &ends {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&assignment).expect("a valid assignment");
    let mut left: BTreeMap<_, _> = ends.into_iter().filter(|(_, end)| *end > 0).collect();
    let mut values = Vec::new();
    while !left.is_empty() {
        let record = consumer.poll(PATIENCE).expect("there is more").expect("it can be read");
        let Some(end) = left.get(&record.partition()).copied() else { continue };
        if record.offset() < end {
            let value = record.payload().expect("every record has a value");
            values.push(String::from_utf8(value.to_vec()).expect("it is text"));
        }
        if record.offset() + 1 >= end {
            left.remove(&record.partition());
        }
    }
    values
}
