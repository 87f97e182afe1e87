//! Plugins in front of a topic and behind its readers, through the command line and librdkafka.

use super::*;

const PIPELINE: &str = "pipeline: guard\ntopics: {orders: {partitions: 1}}\nplugins:\n  hostile: HOSTILE\n  filter: \
                        {file: FILTER, config: {field: country, equals: de}}\ningests:\n  check: {topic: orders, \
                        plugin: hostile, budget_ms: 2000}\nviews:\n  orders.de: {from: orders, plugin: filter}\n";

fn guard() -> (TempDir, PathBuf) {
    pipeline_file(&PIPELINE.replace("HOSTILE", HOSTILE).replace("FILTER", FILTER))
}

/// Sends the lines, each in a batch of its own.
fn send_lines(node: &Node, lines: &str) -> Ended {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("lines");
    fs::write(&file, lines).expect("it can be written");
    let batching = ["-X", "batch.num.messages=1"];
    millstream(
        &[&["produce", "--bootstrap", &node.bootstrap(), "-t", "orders", "-f", &text(&file)], &batching[..]]
            .concat(),
    )
}

#[test]
fn an_ingest_refuses_what_its_plugin_rejects_and_says_why() {
    let node = Node::start();
    let (_dir, file) = guard();
    let applied = succeed(&apply(&node, &file));
    assert_eq!(names(&applied["started"]), ["check", "orders.de"], "{applied}");
    let sent = send_lines(&node, "good\nreject\nalso good\n");
    assert!(!sent.status.success(), "one record is not delivered");
    assert_eq!(read(&node, "orders"), ["good", "also good"]);
    let status = status(&node);
    let check = stage_of(&status, "check");
    assert_eq!((&check["position"], &check["records_rejected"]), (&json!("ingest"), &json!(1)), "{check}");
    // A plugin that crashes takes nothing with it but the batch.
    let sent = send_lines(&node, "panic\nstill good\n");
    assert!(!sent.status.success());
    assert_eq!(read(&node, "orders"), ["good", "also good", "still good"]);
    // Nor goes anything past it when the node has just started.
    let node = node.kill().start();
    let sent = send_lines(&node, "reject\nafter a restart\n");
    assert!(!sent.status.success());
    assert_eq!(read(&node, "orders").last().map(String::as_str), Some("after a restart"));
    assert_eq!(read(&node, "orders").len(), 4);
    succeed(&admin(&node, &["pipeline", "delete", "guard", "--json"]));
    assert!(send_lines(&node, "reject\n").status.success(), "nothing stands there any more");
}

/// Nothing is lost that a producer was told is stored: what its ingest rejects waits for somebody to look at it.
#[test]
fn what_an_ingest_rejects_can_go_to_a_dead_letter_topic() {
    let node = Node::start();
    let dead = PIPELINE
        .replace("orders: {partitions: 1}", "orders: {partitions: 1}, dead: {partitions: 1}")
        .replace("budget_ms: 2000", "budget_ms: 5000, on_error: {dead_letter: dead}");
    let (_dir, file) = pipeline_file(&dead.replace("HOSTILE", HOSTILE).replace("FILTER", FILTER));
    succeed(&apply(&node, &file));
    let sent = send_lines(&node, "good\nreject\nalso good\npanic\nstill good\n");
    assert!(sent.status.success(), "{}", sent.stderr);
    assert_eq!(read(&node, "orders"), ["good", "also good", "still good"]);
    assert_eq!(read(&node, "dead"), ["reject", "panic"]);
    let check = stage_of(&status(&node), "check").clone();
    assert_eq!((&check["records_rejected"], &check["dead_letter"]), (&json!(2), &json!("dead")), "{check}");
    let bootstrap = node.bootstrap();
    let dlq = |args: &[&str]| millstream(&[&["dlq"], args, &["--bootstrap", &bootstrap, "--json"]].concat());
    let shown = dlq(&["show", "dead"]).stdout;
    let letters: Vec<Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("a letter")).collect();
    assert_eq!(letters.len(), 2, "{shown}");
    let crashed = &letters[1]["error"];
    assert!(crashed["reason"].as_str().is_some_and(|reason| reason.contains("panic")), "{shown}");
    assert_eq!((&crashed["topic"], &crashed["offset"]), (&json!("orders"), &json!(-1)), "{shown}");

    // Mended, what was rejected comes back by way of the ingest.
    succeed(&admin(&node, &["plugin", "deploy", "guard/hostile", env!("GUEST_IDENTITY"), "--json"]));
    succeed(&dlq(&["replay", "dead"]));
    assert_eq!(read(&node, "orders"), ["good", "also good", "still good", "reject", "panic"]);
    assert_eq!(read(&node, "dead").len(), 2);

    // An ingest does not wait for another one.
    let looping = dead.replace("ingests:\n", "ingests:\n  letters: {topic: dead, plugin: filter}\n");
    let (_dir, file) = pipeline_file(&looping.replace("HOSTILE", HOSTILE).replace("FILTER", FILTER));
    let refused = apply(&node, &file);
    assert!(refused.stderr.contains("where the dead letters of ingest \"check\" go"), "{}", refused.stderr);
}

/// What becomes of a batch whose plugin crashes, or is late, is what its file says.
#[test]
fn a_plugin_that_fails_is_passed_by_where_the_file_says_so() {
    let node = Node::start();
    let guarded = |how: &str| {
        let text = PIPELINE.replace("HOSTILE", HOSTILE).replace("FILTER", FILTER);
        let (_dir, file) = pipeline_file(&text.replace("budget_ms: 2000", how));
        succeed(&apply(&node, &file));
    };
    guarded("budget_ms: 300, on_failure: pass");
    // A record that it rejects is no failure.
    assert!(!send_lines(&node, "reject\n").status.success());
    let sent = send_lines(&node, "panic\ngood\nloop\n");
    assert!(sent.status.success(), "{}", sent.stderr);
    assert_eq!(read(&node, "orders"), ["panic", "good", "loop"]);
    guarded("budget_ms: 9000, on_error: skip");
    let sent = send_lines(&node, "panic\nreject\ntoo good\n");
    assert!(sent.status.success(), "{}", sent.stderr);
    assert_eq!(read(&node, "orders"), ["panic", "good", "loop", "too good"]);
    assert_eq!(stage_of(&status(&node), "check")["records_rejected"], 3, "with the one before");
}

/// One record that a view's plugin crashes at is left out, and its readers go on behind it.
#[test]
fn readers_of_a_view_pass_a_record_that_crashes_its_plugin() {
    let node = Node::start();
    let view = "pipeline: v\ntopics: {orders: {partitions: 1}}\nplugins: {hostile: HOSTILE}\nviews:\n  \
                orders.seen: {from: orders, plugin: hostile}\n";
    let (_dir, file) = pipeline_file(&view.replace("HOSTILE", HOSTILE));
    succeed(&apply(&node, &file));
    let dir = TempDir::new().expect("a temporary directory");
    let lines = dir.path().join("lines");
    fs::write(&lines, "one\npanic\ntwo\nrecurse\nthree\n").expect("it can be written");
    // In one batch.
    let produce = ["produce", "--bootstrap", &node.bootstrap(), "-t", "orders", "-f", &text(&lines)];
    let sent = millstream(&[&produce[..], &["-X", "linger.ms=500"]].concat());
    assert!(sent.status.success(), "{}", sent.stderr);
    assert_eq!(read(&node, "orders").len(), 5);
    assert_eq!(read(&node, "orders.seen"), ["one", "two", "three"]);
    let seen = stage_of(&status(&node), "orders.seen").clone();
    assert_eq!(seen["records_rejected"], 2, "{seen}");
}

#[test]
fn a_view_shows_what_its_plugin_keeps_at_the_sources_offsets() {
    let node = Node::start();
    let (_dir, file) = guard();
    succeed(&apply(&node, &file));
    let lines =
        ["de", "fr", "de", "it", "fr", "de"].map(|country| format!("{{\"country\": \"{country}\"}}\n"));
    let sent = send_lines(&node, &lines.concat());
    assert!(sent.status.success(), "{}", sent.stderr);
    let shown = |node: &Node, last: i64| -> Vec<(i64, String)> {
        let consumer = consumer(node);
        let ends = ends(&consumer, "orders.de");
        assert_eq!(ends, [(0, 6)], "its offsets are those of the source");
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset("orders.de", 0, Offset::Beginning).expect("a partition");
        consumer.assign(&assignment).expect("it can be assigned");
        let mut found = Vec::new();
        while found.last().is_none_or(|(offset, _)| *offset < last) {
            let Some(message) = consumer.poll(PATIENCE) else { break };
            let message = message.expect("a record");
            let value = String::from_utf8_lossy(message.payload().expect("a value")).into_owned();
            found.push((message.offset(), value));
        }
        found
    };
    let of = |country: &str, offset: i64| (offset, format!("{{\"country\": \"{country}\"}}"));
    assert_eq!(shown(&node, 5), [0, 2, 5].map(|offset| of("de", offset)));
    // Another version shows something else, at once.
    let french = r#"{"field": "country", "equals": "fr"}"#;
    let deploy = ["plugin", "deploy", "guard/filter", FILTER, "--config", french, "--json"];
    assert_eq!(succeed(&admin(&node, &deploy))["swapped"], json!(["orders.de"]));
    assert_eq!(shown(&node, 4), [1, 4].map(|offset| of("fr", offset)));
    let listed = millstream(&["topic", "list", "--bootstrap", &node.bootstrap()]);
    assert!(listed.stdout.contains("orders.de"), "{}", listed.stdout);
    let refused = millstream(&["topic", "delete", "orders.de", "--bootstrap", &node.bootstrap()]);
    assert!(!refused.status.success());
    let refused = millstream(&["topic", "delete", "orders", "--bootstrap", &node.bootstrap()]);
    assert!(!refused.status.success(), "views look at it");
    let node = node.kill().start();
    assert_eq!(shown(&node, 4), [1, 4].map(|offset| of("fr", offset)));
    succeed(&admin(&node, &["pipeline", "delete", "guard", "--json"]));
    let listed = millstream(&["topic", "list", "--bootstrap", &node.bootstrap()]);
    assert!(!listed.stdout.contains("orders.de"), "{}", listed.stdout);
}
