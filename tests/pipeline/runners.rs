//! Sources and sinks on a node: plugins that produce and consume by themselves.

use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::ClientContext;
use rdkafka::consumer::{ConsumerContext, Rebalance};

use super::*;

pub(super) const FILE_LINES: &str = env!("GUEST_FILE_LINES");
pub(super) const COUNTER: &str = env!("GUEST_COUNTER");
const RUNNER: &str = env!("GUEST_RUNNER");

const SINK: &str = "pipeline: p\ntopics: {in: {partitions: 4}, out: {partitions: 1}}\nplugins:\n  runner: {file: FILE, \
                    config: CONFIG}\nsinks:\n  work: {from: in, to: out, plugin: runner, group: workers}\n";

fn sink(config: &str) -> (TempDir, PathBuf) {
    pipeline_file(&SINK.replace("FILE", RUNNER).replace("CONFIG", config))
}

fn state(node: &Node, part: &str) -> String {
    let status = status(node);
    stage_of(&status, part)["state"].as_str().unwrap_or_default().to_owned()
}

/// The earthquakes of the shared data where they are at hand, or lines of the same kind.
fn quakes() -> String {
    let public = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/earthquakes.csv");
    fs::read_to_string(public).unwrap_or_else(|_| {
        let line =
            |at: usize| format!("2026-11-{:02},{}.5,0,{},2.5,M{}\n", at % 28 + 1, at % 90, at % 9, at % 7);
        "DateTime,Latitude,Longitude,Depth,Magnitude,MagType\n".to_owned()
            + &(0..5000).map(line).collect::<String>()
    })
}

/// How many lines there are for each value of a field, without the first line.
fn counted(text: &str, field: usize) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in text.lines().skip(1) {
        *counts.entry(line.split(',').nth(field).unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_file_is_produced_and_counted_and_goes_on_after_kills() {
    let text = quakes();
    let lines = text.lines().count() - 1;
    let lent = TempDir::new().unwrap();
    fs::write(lent.path().join("quakes.csv"), &text).unwrap();
    let settings = Settings::default().with("plugin.files.dirs", &super::text(lent.path()));
    let mut node = Node::start_with(settings);
    // The kind of the magnitude.
    let field = 5;
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: quakes\ntopics: {{raw: {{partitions: 3}}, counts: {{partitions: 1}}}}\nplugins:\n  lines:\n    file: \
         {FILE_LINES}\n    config: {{file: quakes, skip_lines: 1, follow: true}}\n    grants: {{files: {{quakes: \
         quakes.csv}}}}\n  counter: {{file: {COUNTER}, config: {{field: {field}}}}}\nsources:\n  lines: {{plugin: lines, \
         to: raw}}\nsinks:\n  count: {{from: raw, to: counts, plugin: counter, parallelism: 2}}\n"
    ));
    succeed(&apply(&node, &file));
    for _ in 0..2 {
        assert!(until(|| stored(&node, "raw") > 0), "{:#}\n{}", status(&node), node.stderr());
        node = node.kill().start();
    }
    assert!(until(|| stored(&node, "raw") >= lines), "{:#}\n{}", status(&node), node.stderr());
    let lag = |node: &Node| stage_of(&status(node), "count")["lag"].as_i64();
    assert!(until(|| state(&node, "count") == "running" && lag(&node) == Some(0)), "{:#}", status(&node));
    // Nothing is lost; what a kill has doubled is what was sent and not said to be done.
    let raw = read(&node, "raw");
    let mut distinct = raw.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let mut expected: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(distinct, expected);
    // A line that comes behind them is produced, and found where the plugin was.
    let before = raw.len();
    let mut grown = text.clone();
    grown.push_str("last,0.5,9,1,2.5,ML\n");
    fs::write(lent.path().join("quakes.csv"), &grown).unwrap();
    assert!(until(|| stored(&node, "raw") == before + 1), "{:#}\n{}", status(&node), node.stderr());
    let totals = || {
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for (key, value) in read_pairs(&node, "counts") {
            *totals.entry(key).or_default() += value.parse::<u64>().unwrap();
        }
        totals
    };
    let raw_counts = {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in read(&node, "raw") {
            *counts.entry(line.split(',').nth(field).unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    };
    assert!(
        until(|| totals().values().sum::<u64>() >= raw_counts.values().sum::<u64>()),
        "{:#}",
        status(&node)
    );
    let totals = totals();
    for (value, count) in counted(&grown, field) {
        assert!(totals[&value] >= count, "{value}: {} of {count}", totals[&value]);
    }
    assert!(node.stop().status.success());
}

#[test]
fn without_kills_every_line_is_there_once_and_counted_once() {
    let text = quakes();
    let lent = TempDir::new().unwrap();
    fs::write(lent.path().join("quakes.csv"), &text).unwrap();
    let node = Node::start_with(Settings::default().with("plugin.files.dirs", &super::text(lent.path())));
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: quakes\ntopics: {{raw: {{partitions: 3}}, counts: {{partitions: 1}}}}\nplugins:\n  lines:\n    file: \
         {FILE_LINES}\n    config: {{file: quakes, skip_lines: 1}}\n    grants: {{files: {{quakes: \
         quakes.csv}}}}\n  counter: {{file: {COUNTER}, config: {{field: 5}}}}\nsources:\n  lines: {{plugin: lines, to: \
         raw}}\nsinks:\n  count: {{from: raw, to: counts, plugin: counter}}\n"
    ));
    succeed(&apply(&node, &file));
    assert!(until(|| state(&node, "lines") == "finished"), "{:#}\n{}", status(&node), node.stderr());
    let mut raw = read(&node, "raw");
    let mut expected: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
    raw.sort_unstable();
    expected.sort_unstable();
    assert_eq!(raw, expected);
    let expected = counted(&text, 5);
    let totals = || {
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        for (key, value) in read_pairs(&node, "counts") {
            *totals.entry(key).or_default() += value.parse::<u64>().unwrap();
        }
        totals
    };
    assert!(until(|| totals() == expected), "{:#}\n{}", status(&node), node.stderr());
    // It was done before, and so it is at once.
    succeed(&apply(&node, &file));
    assert!(until(|| state(&node, "lines") == "finished"), "{:#}", status(&node));
    assert_eq!(stored(&node, "raw"), raw.len());
    let metrics = ureq_text(&node, "/metrics");
    let line = format!(
        "millstream_plugin_counter_total{{pipeline=\"quakes\",plugin=\"counter\",name=\"counted\"}} {}",
        raw.len()
    );
    assert!(metrics.contains(&line), "{line}\n{metrics}");
    assert!(node.stop().status.success());
}

/// Keys and values, in the order of one partition.
pub(super) fn read_pairs(node: &Node, topic: &str) -> Vec<(String, String)> {
    let consumer = consumer(node);
    let mut pairs = Vec::new();
    for (partition, end) in ends(&consumer, topic) {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("the node serves it");
        consumer.assign(&assignment).expect("the node serves it");
        let mut next = 0;
        while next < end {
            let message = consumer.poll(PATIENCE).expect("the records are there").expect("they can be read");
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            pairs.push((text(message.key()), text(message.payload())));
            next = message.offset() + 1;
        }
    }
    pairs
}

pub(super) fn ureq_text(node: &Node, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(node.admin()).expect("the node serves it");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("the node serves it");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the node serves it");
    text
}

#[test]
fn a_plugin_and_a_plain_consumer_share_a_group() {
    let node = Node::start();
    let (_dir, file) = sink("{mode: copy}");
    succeed(&apply(&node, &file));
    let lines = |prefix: &str| (0..200).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>();
    let producer = producer(&node.bootstrap());
    for line in lines("a") {
        produce(&producer, "in", &line);
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 200), "{:#}\n{}", status(&node), node.stderr());

    // A consumer that we didn't write joins, and gets its share.
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", node.bootstrap())
        .set("group.id", "workers")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .create()
        .unwrap();
    other.subscribe(&["in"]).unwrap();
    let share = || {
        let _ = other.poll(std::time::Duration::from_millis(100));
        other.assignment().unwrap().count()
    };
    assert!(until(|| share() == 2), "{} partitions", share());
    let theirs: Vec<i32> = other.assignment().unwrap().elements().iter().map(|of| of.partition()).collect();
    let mine: Vec<i32> = (0..4).filter(|partition| !theirs.contains(partition)).collect();
    for line in lines("b") {
        produce(&producer, "in", &line);
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    let ends: BTreeMap<i32, i64> = ends(&other, "in").into_iter().collect();
    let committed = |partitions: &[i32]| {
        let mut list = TopicPartitionList::new();
        partitions.iter().for_each(|partition| {
            list.add_partition("in", *partition);
        });
        let committed = other.committed_offsets(list, PATIENCE).unwrap();
        committed.elements().iter().all(|of| of.offset() == Offset::Offset(ends[&of.partition()]))
    };
    // What the plugin has done, any client sees: and it leaves to the other what is the other's.
    assert!(until(|| committed(&mine)), "{:#}\n{}", status(&node), node.stderr());
    assert!(!committed(&theirs));
    // The other one goes, and the plugin takes over where it never committed.
    drop(other);
    assert!(until(|| stored(&node, "out") == 400), "{:#}\n{}", status(&node), node.stderr());
    let mut out = read(&node, "out");
    let mut expected = [lines("a"), lines("b")].concat();
    out.sort_unstable();
    expected.sort_unstable();
    assert_eq!(out, expected);
    assert!(node.stop().status.success());
}

#[derive(Default)]
struct CountsRebalances(AtomicUsize);

impl ClientContext for CountsRebalances {}

impl ConsumerContext for CountsRebalances {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn versions_are_swapped_without_a_rebalance_and_nothing_is_lost_or_doubled() {
    let node = Node::start();
    let (_dir, file) = sink("{mode: copy, max: 7}");
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    // Whoever else is in the group would be told of a rebalance.
    let other: BaseConsumer<CountsRebalances> = ClientConfig::new()
        .set("bootstrap.servers", node.bootstrap())
        .set("group.id", "workers")
        .create_with_context(CountsRebalances::default())
        .unwrap();
    other.subscribe(&["out"]).unwrap();
    let rebalances = || {
        let _ = other.poll(std::time::Duration::from_millis(100));
        other.context().0.load(Ordering::Relaxed)
    };
    let members = |node: &Node| {
        let group = succeed(&admin_kafka(node, &["group", "describe", "workers", "--json"]));
        let members = group["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| member["member_id"].clone()).collect::<Vec<_>>()
    };
    assert!(until(|| rebalances() > 0 && members(&node).len() == 2), "{:?}", members(&node));
    produce(&producer, "in", "first");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 1), "{:#}\n{}", status(&node), node.stderr());
    let (before, joined) = (members(&node), rebalances());
    let mut sent = 1;
    for max in 8..12 {
        for _ in 0..100 {
            produce(&producer, "in", &format!("record {sent}"));
            sent += 1;
        }
        let config = format!("{{\"mode\": \"copy\", \"max\": {max}}}");
        let deployed =
            succeed(&admin(&node, &["plugin", "deploy", "p/runner", RUNNER, "--config", &config, "--json"]));
        assert_eq!(deployed["swapped"], json!(["work"]), "{deployed}");
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == sent), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!((members(&node), rebalances()), (before, joined), "nobody has joined again");
    // It leaves its group while there is a broker to tell.
    drop(other);
    let mut out = read(&node, "out");
    out.sort_unstable();
    out.dedup();
    assert_eq!(out.len(), sent);
    assert!(node.stop().status.success());
}

/// A command that speaks Kafka's protocol.
fn admin_kafka(node: &Node, args: &[&str]) -> Ended {
    millstream(&[args, &["--bootstrap", &node.bootstrap()]].concat())
}

#[test]
fn how_a_run_ends_is_seen_in_the_status() {
    let node = Node::start();
    for (mode, expected) in [
        ("done", ("finished", "")),
        ("retry", ("waiting", "not now")),
        ("stop", ("failed", "a person should look")),
        ("foreign-topic", ("failed", "none of the \\\"to\\\"")),
    ] {
        let (_dir, file) = sink(&format!("{{mode: {mode}}}"));
        succeed(&apply(&node, &file));
        let (state, reason) = expected;
        let reached = || {
            let status = status(&node);
            let work = stage_of(&status, "work");
            work["state"] == state && work.to_string().contains(reason)
        };
        assert!(until(reached), "{mode}: {:#}\n{}", status(&node), node.stderr());
    }
    // One that computes and never calls the host is stopped, again and again, and then for good.
    let limits = "config: {mode: spin}, limits: {call_timeout_ms: 100}";
    let spinning = SINK.replace("pipeline: p", "pipeline: q").replace("workers", "others");
    assert!(admin(&node, &["pipeline", "delete", "p"]).status.success());
    let (_dir, file) = pipeline_file(&spinning.replace("config: CONFIG", limits).replace("FILE", RUNNER));
    succeed(&apply(&node, &file));
    assert!(until(|| state(&node, "work") == "failed"), "{:#}", status(&node));
    let status = status(&node);
    assert_eq!(stage_of(&status, "work")["kind"], "timeout", "{status:#}");
    assert!(node.stop().status.success());
}

#[test]
fn what_was_not_committed_comes_again_and_a_seek_is_followed() {
    let node = Node::start();
    let (_dir, file) = sink("{mode: twice}");
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    for value in ["a", "b", "c"] {
        produce(&producer, "in", value);
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") >= 4), "{:#}\n{}", status(&node), node.stderr());

    let (_dir, file) = sink("{mode: copy}");
    succeed(&apply(&node, &file));
    let (_dir, file) = sink("{mode: crash-on-poison, max: 1}");
    succeed(&apply(&node, &file));
    for value in ["d", "poison", "e"] {
        produce(&producer, "in", value);
        producer.flush(PATIENCE).expect("everything is acknowledged");
    }
    // It crashes where it was, each time, and the version before takes over, where nothing of it is committed.
    let rolled_back = || {
        let status = status(&node);
        stage_of(&status, "work")["last_rollback"].as_str().is_some_and(|told| told.contains("poison"))
    };
    assert!(until(rolled_back), "{:#}\n{}", status(&node), node.stderr());
    let all = ["d", "e", "poison"];
    let out = || read(&node, "out");
    assert!(until(|| all.iter().all(|value| out().iter().any(|found| found == value))), "{:?}", out());

    // Where there is no version before, it stops with the reason.
    assert!(admin(&node, &["pipeline", "delete", "p"]).status.success());
    let text = SINK.replace("pipeline: p", "pipeline: q").replace("workers", "others");
    let (_dir, file) =
        pipeline_file(&text.replace("FILE", RUNNER).replace("CONFIG", "{mode: crash-on-poison}"));
    succeed(&apply(&node, &file));
    assert!(until(|| state(&node, "work") == "failed"), "{:#}\n{}", status(&node), node.stderr());
    let status = status(&node);
    let work = stage_of(&status, "work");
    assert_eq!(work["kind"], "trap", "{work:#}");
    assert!(work["reason"].as_str().unwrap().contains("poison"), "{work:#}");
    assert!(node.stop().status.success());
}

#[test]
fn what_is_not_granted_is_not_run() {
    let node = Node::start();
    for (text, said) in [
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}}}\nplugins: {{a: {{file: {RUNNER}, config: {{mode: copy}}}}}}\nsinks:\n  s: {{from: in, plugin: a}}\n"
            ),
            "imports producer, which is not granted in sink \"s\"; add \"to: TOPIC\"",
        ),
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}}}\nplugins: {{a: {{file: {RUNNER}, config: {{mode: copy}}}}}}\nsources:\n  s: {{to: in, plugin: a}}\n"
            ),
            "imports consumer, which is not granted in source \"s\"",
        ),
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}}}\nplugins: {{a: {{file: {FILE_LINES}, config: {{file: x}}}}}}\nsources:\n  s: {{to: in, plugin: a}}\n"
            ),
            "imports files, which is not granted",
        ),
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}}}\nplugins: {{a: {{file: {FILE_LINES}, config: {{file: x}}, grants: {{files: {{x: x.csv}}}}}}}}\nsources:\n  s: {{to: in, plugin: a}}\n"
            ),
            "this node lends no files to plugins",
        ),
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}, out: {{}}}}\nplugins: {{a: {{file: {RUNNER}, config: {{mode: copy}}}}}}\nstages:\n  s: {{from: in, to: out, plugin: a}}\n"
            ),
            "is a producer or consumer, not a transform",
        ),
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}, out: {{}}}}\nplugins: {{a: {FILTER}}}\nsinks:\n  s: {{from: in, to: out, plugin: a}}\n"
            ),
            "is a transform, which sink \"s\" can't run",
        ),
        (
            format!(
                "pipeline: p\ntopics: {{in: {{}}, out: {{}}}}\nplugins: {{a: {{file: {RUNNER}}}}}\nsinks:\n  s: {{from: in, to: out, plugin: a}}\n"
            ),
            "missing field `mode`",
        ),
    ] {
        let (_dir, file) = pipeline_file(&text);
        let ended = admin(&node, &["validate", &super::text(&file)]);
        assert_eq!(ended.status.code(), Some(1), "{text}: {}", ended.stderr);
        let flat = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains(said) || flat.replace("remedy: ", "").contains(said),
            "{text}\n{said}\n{}",
            ended.stderr
        );
    }
    assert!(node.stop().status.success());
}

/// Not over a cluster in memory, but on a node, with what its users have: the dead letter topic is found, and the record
/// comes back when the plugin can live with it.
#[test]
fn what_a_sink_crashes_at_is_a_dead_letter_and_can_be_replayed() {
    let node = Node::start();
    let text = SINK
        .replace("out: {partitions: 1}", "out: {partitions: 1}, dead: {partitions: 1}")
        .replace("group: workers", "group: workers, on_error: {dead_letter: dead}")
        .replace("FILE", RUNNER);
    let (_dir, file) = pipeline_file(&text.replace("CONFIG", "{mode: crash-on-poison}"));
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    for value in ["a", "poison", "b"] {
        let record: BaseRecord<'_, (), str> = BaseRecord::to("in").partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    let is_done = || {
        let status = status(&node);
        let work = stage_of(&status, "work");
        work["records_in"] == 3 && work["records_rejected"] == 1 && work["lag"] == 0
    };
    assert!(until(is_done), "{:#}\n{}", status(&node), node.stderr());
    assert!(until(|| read(&node, "out").contains(&"b".to_owned())), "{:?}", read(&node, "out"));
    let (bootstrap, address) = (node.bootstrap(), node.admin().to_string());
    let listed =
        succeed(&millstream(&["dlq", "list", "--json", "--bootstrap", &bootstrap, "--admin", &address]));
    assert_eq!((&listed[0]["topic"], &listed[0]["stages"]), (&json!("dead"), &json!(["p.work"])), "{listed}");
    let cause = &listed[0]["causes"][0];
    assert_eq!((&cause["letters"], &cause["plugin"]), (&json!(1), &json!("runner")), "{listed}");
    assert!(cause["reason"].as_str().is_some_and(|reason| reason.contains("poison")), "{listed}");

    let (_dir, file) = pipeline_file(&text.replace("CONFIG", "{mode: copy}"));
    succeed(&apply(&node, &file));
    let replayed = succeed(&admin_kafka(&node, &["dlq", "replay", "dead", "--json"]));
    assert_eq!(replayed["delivered"], 1, "{replayed}");
    assert!(until(|| read(&node, "out").contains(&"poison".to_owned())), "{:?}", read(&node, "out"));
    let metrics = ureq_text(&node, "/metrics");
    for line in [
        "millstream_stage_records_rejected_total{pipeline=\"p\",stage=\"work\"} 1",
        "millstream_stage_plugin_records_in_total{pipeline=\"p\",stage=\"work\",plugin=\"runner\"}",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(node.stop().status.success());
}
