//! What an operator looks at: how plugins do.

use rdkafka::message::{Header, OwnedHeaders};

use super::*;

/// Rates, errors, processor time and memory of a stage and its plugin, of an ingest too, for people and for scripts.
#[test]
fn top_shows_stages_and_plugins_at_work() {
    let node = Node::start();
    let none = admin(&node, &["top", "--once", "--interval", "0.1"]);
    assert!(none.stdout.contains("no pipeline is applied"), "{}{}", none.stdout, none.stderr);
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: busy\ntopics: {{in: {{partitions: 1}}, out: {{partitions: 1}}}}\nplugins: {{hostile: {HOSTILE}}}\n\
         stages:\n  pass: {{from: in, plugin: hostile, to: out, on_error: skip}}\n\
         ingests:\n  check: {{topic: in, plugin: hostile}}\n"
    ));
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    ["one", "two", "three"].iter().for_each(|value| produce(&producer, "in", value));
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 3), "{:#}", status(&node));

    let status = status(&node);
    for stage in ["pass", "check"] {
        let usage = &stage_of(&status, stage)["plugins"][0]["usage"];
        let number = |key: &str| usage[key].as_u64().expect("a number");
        assert_eq!((number("records_in"), number("failed_calls"), number("instances")), (3, 0, 1), "{usage}");
        assert!(number("cpu_us") > 0 && number("memory_bytes") >= 65_536, "{usage}");
        assert!(number("call_us_p99") >= number("call_us_p50") && number("call_us_p50") > 0, "{usage}");
    }

    let frame = admin(&node, &["top", "--once", "--interval", "0.1"]);
    assert!(frame.status.success(), "{}", frame.stderr);
    assert!(!frame.stdout.contains('\x1b'), "not a terminal: {}", frame.stdout);
    for said in ["STAGE/PLUGIN", "busy/pass", "  hostile@v1", "busy/check (ingest)"] {
        assert!(frame.stdout.contains(said), "{said}: {}", frame.stdout);
    }
    let rows = succeed(&admin(&node, &["top", "--once", "--interval", "0.1", "--json"]));
    let row = &rows["rows"][0];
    assert_eq!((&row["stage"], &row["state"], &row["lag"]), (&json!("pass"), &json!("running"), &json!(0)));
    assert_eq!(row["records_in_per_s"], json!(0.0), "nobody sends anything now: {rows}");
    assert!(rows["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.1), "{rows}");

    let refused = admin(&node, &["top", "--interval", "0"]);
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(node.stop().status.success());
}

/// A pipeline that puts aside what its plugin rejects, and a topic with a letter from each of two partitions.
fn put_aside(node: &Node, more: &str) -> (TempDir, PathBuf) {
    let (dir, file) = pipeline_file(&format!(
        "pipeline: orders\ntopics:\n  in: {{partitions: 2}}\n  out: {{partitions: 2}}\n  dead: {{partitions: 1}}\n{more}\
         plugins: {{hostile: {HOSTILE}}}\n\
         stages:\n  check: {{from: in, plugin: hostile, to: out, on_error: {{dead_letter: dead}}}}\n"
    ));
    succeed(&apply(node, &file));
    (dir, file)
}

/// A record with everything that a record can have.
fn produce_whole(node: &Node, topic: &str, partition: i32, key: &str, value: &str, timestamp: i64) {
    let producer = producer(&node.bootstrap());
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("t1") })
        .insert(Header { key: "none", value: None::<&str> });
    let record = BaseRecord::to(topic)
        .partition(partition)
        .key(key)
        .payload(value)
        .timestamp(timestamp)
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
    producer.flush(PATIENCE).expect("everything is acknowledged");
}

/// What `consume --json` shows of a topic, in the order of partitions and offsets.
fn consumed(node: &Node, topic: &str) -> Vec<Value> {
    let bootstrap = node.bootstrap();
    let args = ["consume", "-b", &bootstrap, "-t", topic, "--from", "beginning", "--until-end", "--json"];
    let ended = millstream(&args);
    assert!(ended.status.success(), "{}", ended.stderr);
    let mut records: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    records.sort_by_key(|record| (record["partition"].as_i64(), record["offset"].as_i64()));
    records
}

fn dlq(node: &Node, args: &[&str]) -> Ended {
    millstream(&[&["dlq"], args, &["--bootstrap", &node.bootstrap()]].concat())
}

#[expect(clippy::disallowed_methods, reason = "topics hold timestamps against the real time")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("not so late")
}

/// A node, two records that its pipeline has put aside, and when they were made.
fn with_two_letters() -> (Node, TempDir, i64) {
    let node = Node::start();
    let (dir, _) = put_aside(&node, "");
    let time = now_ms() - 5000;
    produce_whole(&node, "in", 0, "k0", "fine", time);
    produce_whole(&node, "in", 1, "k1", "reject", time);
    produce_whole(&node, "in", 0, "k0", "panic", time + 1);
    assert!(until(|| stored(&node, "dead") == 2), "{:#}\n{}", status(&node), node.stderr());
    (node, dir, time)
}

/// The letter of the record with that key.
fn letter_of(node: &Node, key: &str) -> Value {
    let shown = dlq(node, &["show", "dead", "--json"]);
    let mut letters = shown.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    letters.find(|letter: &Value| letter["key"] == key).unwrap_or_else(|| panic!("{}", shown.stderr))
}

fn own_headers() -> Value {
    json!([{"key": "trace", "value": "t1"}, {"key": "none", "value": null}])
}

#[test]
fn dead_letters_are_listed_and_shown() {
    let (node, _dir, time) = with_two_letters();
    let listed = succeed(&millstream(&[
        "dlq",
        "list",
        "--json",
        "--admin",
        &node.admin().to_string(),
        "--bootstrap",
        &node.bootstrap(),
    ]));
    let topic = &listed[0];
    assert_eq!(
        (&topic["topic"], &topic["letters"], &topic["scanned"]),
        (&json!("dead"), &json!(2), &json!(2))
    );
    assert_eq!(topic["stages"], json!(["orders.check"]));
    assert_eq!(topic["causes"].as_array().map(Vec::len), Some(2), "{listed:#}");
    assert!(topic["partitions"][0]["oldest_ms"].as_i64().is_some_and(|oldest| oldest == time), "{listed:#}");

    let rejected = letter_of(&node, "k1");
    let error = &rejected["error"];
    assert_eq!(
        (&error["topic"], &error["partition"], &error["offset"]),
        (&json!("in"), &json!(1), &json!(0))
    );
    assert_eq!((&error["stage"], &error["plugin"]), (&json!("orders.check"), &json!("hostile")), "{error}");
    let sha256 = error["sha256"].as_str().expect("a hash");
    let version =
        error["version"].as_str().and_then(|version| version.strip_prefix("v1:")).expect("a version");
    assert!(sha256.len() == 64 && sha256.starts_with(version), "{error}");
    assert_eq!(rejected["headers"], own_headers());
    let offset = rejected["offset"].to_string();
    let readable = dlq(&node, &["show", "dead", "--partition", "0", "--offset", &offset]);
    for said in
        ["  from      in partition 1 offset 0", "  plugin    hostile", "  value     reject", "trace=t1"]
    {
        assert!(readable.stdout.contains(said), "{said}: {}{}", readable.stdout, readable.stderr);
    }

    assert!(node.stop().status.success());
}

#[test]
fn dead_letters_are_replayed_as_the_records_that_they_were() {
    let (node, _dir, time) = with_two_letters();
    let offset = letter_of(&node, "k1")["offset"].to_string();
    // Only some, to another topic, and nothing is remembered of it.
    let dry = dlq(&node, &["replay", "dead", "--plugin", "hostile", "--dry-run"]);
    assert!(dry.stdout.contains("would replay 2 to in: nothing was written"), "{}{}", dry.stdout, dry.stderr);
    let some = dlq(&node, &["replay", "dead", "--reason-contains", "unreachable-reason", "--json"]);
    assert_eq!(succeed(&some)["others"], 2, "{}", some.stdout);
    let some = succeed(&dlq(&node, &["replay", "dead", "-p", "0", "-o", &offset, "--to", "out", "--json"]));
    assert_eq!((&some["delivered"], &some["group"], &some["left"]), (&json!(1), &Value::Null, &Value::Null));
    let out = consumed(&node, "out");
    let replayed = out.iter().find(|record| record["value"] == "reject").expect("it is there");
    assert_eq!((&replayed["key"], &replayed["headers"]), (&json!("k1"), &own_headers()), "{replayed}");
    assert_eq!(replayed["timestamp"], time);

    // All of them; they are rejected again, and the second replay begins with those.
    let all = dlq(&node, &["replay", "dead", "--json"]);
    assert!(all.stderr.contains("begins with the first letter of partition 0: "), "{}", all.stderr);
    let all = succeed(&all);
    assert_eq!(
        (&all["delivered"], &all["group"]),
        (&json!(2), &json!("millstream-dlq-replay.dead")),
        "{all}"
    );
    let records = consumed(&node, "in");
    let again: Vec<_> = records.iter().filter(|record| record["value"] == "reject").collect();
    let [first, second] = again[..] else { panic!("twice: {records:?}") };
    for field in ["partition", "key", "timestamp", "headers"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    assert!(until(|| stored(&node, "dead") == 4), "{:#}", status(&node));
    let twice = dlq(&node, &["show", "dead", "-n", "1", "--json"]);
    let twice: Value = serde_json::from_str(&twice.stdout).expect("JSON");
    assert_eq!(twice["headers"], own_headers(), "one block of headers, however often: {twice}");
    let next = succeed(&dlq(&node, &["replay", "dead", "--to", "out", "--json"]));
    assert_eq!((&next["delivered"], &next["left"]), (&json!(2), &json!(0)), "{next}");
    let done = dlq(&node, &["replay", "dead"]);
    assert!(done.stdout.contains("dead: nothing to replay\n0 letters are left"), "{}", done.stdout);
    assert!(!done.stderr.contains("begins with the first letter"), "{}", done.stderr);
    // It commits all the same, so that its group does not expire.
    let again = succeed(&dlq(&node, &["replay", "dead", "--json"]));
    assert_eq!((&again["delivered"], &again["positions"]), (&json!(0), &json!({"0": 4})), "{again}");
    assert!(node.stop().status.success());
}

/// A letter that can't be written as it was says why, and stays.
#[test]
fn what_cannot_be_replayed_is_said_and_stays() {
    let node = Node::start();
    let narrow = "  narrow: {partitions: 1, config: {message.timestamp.before.max.ms: 3600000}}\n";
    let (_dir, _) = put_aside(&node, narrow);
    produce_whole(&node, "in", 0, "k", "reject", now_ms() - 7_200_000);
    assert!(until(|| stored(&node, "dead") == 1), "{:#}\n{}", status(&node), node.stderr());
    let refused = dlq(&node, &["replay", "dead", "--to", "narrow"]);
    assert_eq!(refused.status.code(), Some(1));
    for said in [
        "stopped at the letter dead partition 0 offset 0: ",
        "pass --new-timestamps",
        "`millstream group reset millstream-dlq-replay.dead --topic dead --partition 0 --to 1 --execute`",
    ] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    assert!(refused.stdout.contains("1 letters are left for the next replay"), "{}", refused.stdout);
    let taken = succeed(&dlq(&node, &["replay", "dead", "--to", "narrow", "--new-timestamps", "--json"]));
    assert_eq!((&taken["delivered"], &taken["left"]), (&json!(1), &json!(0)), "{taken}");
    assert_eq!(read(&node, "narrow"), ["reject"]);

    // Somebody else's record.
    produce_whole(&node, "dead", 0, "k", "not a letter", now_ms());
    let passed = dlq(&node, &["replay", "dead"]);
    assert!(passed.status.success(), "{}", passed.stderr);
    assert!(
        passed.stderr.contains("not replayed: partition 0 offset 1: no stage has written it"),
        "{}",
        passed.stderr
    );
    for (args, said) in [
        (["replay", "dead", "--to", "gone", "--from", "beginning"], "the topic does not exist"),
        (["replay", "dead", "--to", "dead", "--from", "beginning"], "there they are already"),
        (["replay", "gone", "--to", "out", "--from", "beginning"], "topic gone does not exist"),
        (["replay", "dead", "--partition", "7", "--from", "end"], "there is no partition 7"),
        (["show", "dead", "--partition", "0", "--offset", "99"], "offset 99"),
    ] {
        let refused = dlq(&node, &args);
        assert!(!refused.status.success() && refused.stderr.contains(said), "{args:?}: {}", refused.stderr);
    }
    assert!(node.stop().status.success());
}

/// Lines of stages and ingests, each by itself; those that come while somebody waits; and that waiting has an end.
#[test]
fn lines_of_plugins_are_shown_and_followed() {
    let node = Node::start();
    let (_dir, file) = pipeline_file(&format!(
        "pipeline: noisy\ntopics: {{in: {{partitions: 1}}, checked: {{partitions: 1}}, out: {{partitions: 1}}}}\n\
         plugins: {{hostile: {HOSTILE}}}\n\
         stages:\n  pass: {{from: in, plugin: hostile, to: out}}\ningests:\n  check: {{topic: checked, plugin: hostile}}\n"
    ));
    succeed(&apply(&node, &file));
    let none = admin(&node, &["plugin", "logs", "noisy/pass"]);
    assert!(none.status.success() && none.stderr.contains("there are no lines"), "{}", none.stderr);
    let mut follower = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["plugin", "logs", "noisy/pass/hostile", "--follow", "--admin", &node.admin().to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = std::io::BufReader::new(follower.stdout.take().expect("it is piped"));

    // More than a plugin may log in a second.
    let producer = producer(&node.bootstrap());
    produce(&producer, "in", "flood log");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).expect("a line comes");
    assert!(line.ends_with("ERROR pass/hostile@v1: \u{fffd}[31mline 0\n"), "{line:?}");
    follower.kill().expect("it runs");
    follower.wait().expect("a child can be waited for");

    let logs = |of: &str, n: &str| {
        let ended = admin(&node, &["plugin", "logs", of, "-n", n, "--json"]);
        assert!(ended.status.success(), "{}", ended.stderr);
        ended
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .collect::<Vec<_>>()
    };
    let last = logs("noisy/pass", "2");
    assert_eq!((last.len(), &last[0]["stage"]), (2, &json!("pass")));
    let dropped =
        |line: &Value| line["text"].as_str().is_some_and(|text| text.contains("lines of this plugin were"));
    assert!(logs("noisy", "1000").iter().any(dropped), "the limits of the node's log hold here, too");
    assert_eq!(last[1]["seq"].as_u64(), last[0]["seq"].as_u64().map(|seq| seq + 1));
    assert_eq!(logs("noisy/check", "10"), Vec::<Value>::new());
    // The batch is refused; what the plugin said is kept.
    produce(&producer, "checked", "panic");
    producer.flush(PATIENCE).expect("everything is answered");
    let panicked = |line: &Value| line["text"].as_str().is_some_and(|text| text.contains("told to panic"));
    assert!(until(|| logs("noisy/check/hostile", "10").iter().any(panicked)));
    assert_eq!(logs("noisy/check/other", "1"), Vec::<Value>::new());

    // Those who wait are few, and do not keep the node from stopping.
    let ask = |query: &str| {
        let stream = std::net::TcpStream::connect(node.admin()).expect("the node accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let head = format!("GET /v1/logs?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut &stream, head.as_bytes()).expect("the node reads");
        stream
    };
    let answer = |mut stream: std::net::TcpStream| {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut stream, &mut text);
        text
    };
    assert!(answer(ask("after=x")).starts_with("HTTP/1.1 400"));
    let waiting: Vec<_> = (0..24).map(|_| ask("pipeline=none&after=0&wait_ms=30000")).collect();
    let refused = waiting.iter().filter(|stream| {
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a timeout can be set");
        let mut first = [0; 12];
        matches!(std::io::Read::read(&mut &**stream, &mut first), Ok(12) if first == *b"HTTP/1.1 503")
    });
    assert!(refused.count() >= 8, "not all of them may wait");
    assert!(answer(ask("pipeline=none&after=0")).starts_with("HTTP/1.1 200"));
    let before = now_ms();
    assert!(node.stop().status.success());
    assert!(now_ms() - before < 10_000, "it took {} ms", now_ms() - before);
    drop(waiting);
}

/// A client of `millstream tap`, and its lines.
fn tap(
    node: &Node,
    args: &[&str],
) -> (std::process::Child, std::io::Lines<std::io::BufReader<std::process::ChildStdout>>) {
    let mut client = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args([&["tap"], args, &["--json", "--admin", &node.admin().to_string()]].concat())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    let stdout = std::io::BufReader::new(client.stdout.take().expect("it is piped"));
    (client, std::io::BufRead::lines(stdout))
}

/// What passes a stage and an ingest, and what becomes of it; a tap ends with its client, with its records, and with its
/// stage.
#[test]
fn records_are_seen_as_they_pass() {
    let node = Node::start();
    let (_dir, _) = put_aside(&node, "");
    let place = |record: &Value| {
        let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
        format!(
            "{} {}-{} {} {} {}",
            text("side"),
            text("topic"),
            record["partition"],
            record["offset"],
            text("fate"),
            text("value")
        )
    };
    let (mut client, lines) = tap(&node, &["orders/check", "-n", "3"]);
    let (mut dead, dead_lines) =
        tap(&node, &["orders/check", "--filter", "fate=dead_lettered", "-f", "partition=1"]);
    let (mut gone, _) = tap(&node, &["orders/check"]);
    // Until all of them look: who does not, misses what passes.
    let open = std::thread::spawn(move || lines.map(|line| line.expect("a line")).collect::<Vec<String>>());
    std::thread::sleep(std::time::Duration::from_millis(1500));
    produce_whole(&node, "in", 1, "k", "fine", now_ms());
    produce_whole(&node, "in", 1, "k", "reject", now_ms());
    let seen: Vec<Value> = open
        .join()
        .expect("three lines")
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let expected = ["in in-1 0 passed fine", "out out-1 0 - fine", "in in-1 1 dead_lettered reject"];
    assert_eq!(seen.iter().map(place).collect::<Vec<_>>(), expected);
    assert_eq!((&seen[2]["plugin"], &seen[2]["reason"]), (&json!("hostile"), &json!("told to reject")));
    assert_eq!(seen[2]["headers"], own_headers());
    assert!(client.wait().expect("a child can be waited for").success());

    // One client goes, and its place is free again: a stage has four.
    gone.kill().expect("it runs");
    gone.wait().expect("a child can be waited for");
    let pause = || std::thread::sleep(std::time::Duration::from_millis(2500));
    pause();
    let more: Vec<_> = (0..3).map(|_| tap(&node, &["orders/check"])).collect();
    pause();
    let full = admin(&node, &["tap", "orders/check", "-n", "1"]);
    assert!(full.stderr.contains("4 taps are open at this stage already"), "{}", full.stderr);

    // The others end with the stage.
    assert!(admin(&node, &["pipeline", "delete", "orders"]).status.success());
    let dead_lines: Vec<String> = dead_lines.map(|line| line.expect("a line")).collect();
    assert_eq!(dead_lines.len(), 1, "{dead_lines:?}");
    assert!(dead.wait().expect("a child can be waited for").success());
    for (mut client, _) in more {
        assert!(client.wait().expect("a child can be waited for").success());
    }
    let unknown = admin(&node, &["tap", "orders/check"]);
    assert!(unknown.stderr.contains("no stage, ingest or view"), "{}", unknown.stderr);
    assert!(node.stop().status.success());
}
