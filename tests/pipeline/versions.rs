//! Versions of plugins, through the command line: deployed under load, taken back, tried on some partitions.

use super::*;

const PIPELINE: &str = "pipeline: p\ntopics: {in: {partitions: 2}, out: {partitions: 2}}\nplugins:\n  f:\n    \
                        file: FILE\n    config: CONFIG\nstages:\n  s: {from: in, plugin: f, to: out}\n";

fn plugin(node: &Node, args: &[&str]) -> Ended {
    admin(node, &[&["plugin"], args].concat())
}

fn versions(node: &Node) -> Value {
    succeed(&plugin(node, &["versions", "p/f", "--json"]))
}

fn active(node: &Node) -> u64 {
    stage_of(&status(node), "s")["plugins"][0]["number"].as_u64().expect("a number")
}

/// A filter that keeps what is not `null`, in so many versions as are asked for: each has a configuration of its own.
fn config(version: u32) -> String {
    format!("{{\"header\": \"none\", \"action\": \"drop\", \"equals\": \"{version}\"}}")
}

#[test]
fn versions_are_swapped_under_load_and_nothing_is_lost_or_doubled() {
    const RECORDS: usize = 20_000;
    const VERSIONS: u32 = 12;
    let node = Node::start();
    let text = PIPELINE.replace("FILE", FILTER).replace("CONFIG", &config(1));
    let (_dir, file) = pipeline_file(&text);
    succeed(&apply(&node, &file));
    let bootstrap = node.bootstrap();
    let load = std::thread::spawn(move || {
        let producer = producer(&bootstrap);
        for number in 0..RECORDS {
            produce(&producer, "in", &number.to_string());
            if number % 100 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
        }
        producer.flush(PATIENCE).expect("everything is acknowledged");
    });
    for version in 2..=VERSIONS {
        let deployed =
            succeed(&plugin(&node, &["deploy", "p/f", FILTER, "--config", &config(version), "--json"]));
        assert_eq!(
            (&deployed["version"], &deployed["swapped"]),
            (&json!(version), &json!(["s"])),
            "{deployed}"
        );
        assert_eq!(active(&node), u64::from(version));
    }
    load.join().expect("the load goes on to its end");
    assert!(until(|| stored(&node, "out") >= RECORDS), "{:#}", status(&node));
    let mut found: Vec<usize> = read(&node, "out").iter().map(|value| value.parse().unwrap()).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..RECORDS), "each record is there once");
    // What runs is what was deployed last, also after a restart.
    let node = node.kill().start();
    assert!(until(|| stage_of(&status(&node), "s")["state"] == "running"), "{:#}", status(&node));
    assert_eq!(active(&node), u64::from(VERSIONS));
    let back = succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    assert_eq!((&back["version"], &back["swapped"]), (&json!(VERSIONS - 1), &json!(["s"])));
    let refused = plugin(&node, &["rollback", "p/f", "--to", "99"]);
    assert!(refused.stderr.contains("there is no version 99"), "{}", refused.stderr);
    // The file that is applied again is what is wanted then.
    let applied = succeed(&apply(&node, &file));
    assert_eq!(applied["swapped"], json!(["s"]), "{applied}");
    assert_eq!(active(&node), 1);
}

/// Built with the SDK of contract 0.1, and never again: what is deployed once runs for ever, in each place, beside versions of
/// later contracts and after a restart.
#[test]
fn plugins_of_the_first_contract_are_deployed_swapped_and_go_on() {
    let old = |name: &str| {
        super::text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract-0.1").join(name))
    };
    let (filter, typed) = (old("filter.wasm"), old("identity_typed.wasm"));
    let pipeline = format!(
        "pipeline: p\ntopics: {{in: {{partitions: 1}}, out: {{partitions: 1}}}}\nplugins:\n  f: {{file: \
         {filter}, config: {{header: none, action: drop, equals: x}}}}\n  t: {typed}\nstages:\n  s: {{from: in, \
         plugins: [f, t], to: out}}\ningests:\n  i: {{topic: in, plugin: t}}\nviews:\n  v: {{from: in, plugin: f}}\n"
    );
    let node = Node::start();
    let (_dir, file) = pipeline_file(&pipeline);
    succeed(&apply(&node, &file));
    let mut sent = 0;
    let mut passes = |node: &Node| {
        sent += 1;
        let producer = producer(&node.bootstrap());
        produce(&producer, "in", &sent.to_string());
        producer.flush(PATIENCE).expect("everything is acknowledged");
        assert!(until(|| stored(node, "out") == sent), "{:#}\n{}", status(node), node.stderr());
        assert_eq!((read(node, "in").len(), read(node, "v").len()), (sent, sent));
    };
    passes(&node);
    let contracts = |node: &Node| -> Vec<String> {
        let status = status(node);
        let plugins = stage_of(&status, "s")["plugins"].as_array().expect("plugins").clone();
        plugins.iter().map(|plugin| plugin["contract"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(contracts(&node), ["0.1", "0.1"]);
    let node = node.kill().start();
    passes(&node);
    // Another one comes and goes.
    succeed(&plugin(&node, &["deploy", "p/f", FILTER, "--config", &config(2), "--json"]));
    passes(&node);
    assert_eq!(contracts(&node), ["0.2", "0.1"]);
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    passes(&node);
    assert_eq!(contracts(&node), ["0.1", "0.1"]);
    let node = node.stop().start();
    passes(&node);
    // One in the other's place: deployed anew, as a version of a plugin that was of the later contract.
    succeed(&plugin(&node, &["deploy", "p/t", env!("GUEST_IDENTITY"), "--json"]));
    succeed(&plugin(&node, &["deploy", "p/t", &typed, "--json"]));
    passes(&node);
    assert_eq!(contracts(&node), ["0.1", "0.1"]);
}

#[test]
fn a_version_that_crashes_is_taken_back_and_stays_so() {
    let node = Node::start();
    let text = PIPELINE.replace("FILE", FILTER).replace("CONFIG", &config(1));
    let (_dir, file) = pipeline_file(&text);
    succeed(&apply(&node, &file));
    succeed(&plugin(&node, &["deploy", "p/f", HOSTILE, "--config", "{}", "--json"]));
    assert_eq!(active(&node), 2);
    let producer = producer(&node.bootstrap());
    for value in ["before", "panic", "after"] {
        produce(&producer, "in", value);
        producer.flush(PATIENCE).expect("everything is acknowledged");
    }
    assert!(until(|| stored(&node, "out") == 3), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(active(&node), 1);
    let written_down = until(|| versions(&node)["active"] == 1);
    assert!(written_down, "{:#}\n{}", versions(&node), node.stderr());
    let reason = &versions(&node)["versions"][1]["taken_back"]["reason"];
    assert!(reason.as_str().is_some_and(|reason| reason.contains("told to panic")), "{reason}");
    let node = node.stop().start();
    assert!(until(|| stage_of(&status(&node), "s")["state"] == "running"), "{:#}", status(&node));
    assert_eq!(active(&node), 1);
    let table = plugin(&node, &["versions", "p/f"]);
    assert!(table.stdout.contains("taken back at"), "{}", table.stdout);
}

/// Symptom: `plugin deploy --config` made a version that ran with another configuration, and was checked with it.
#[test]
fn a_configuration_that_would_count_nowhere_is_refused() {
    let node = Node::start();
    let text = PIPELINE.replace("FILE", FILTER).replace("    config: CONFIG\n", "");
    let own = text.replace("plugin: f,", &format!("plugin: f, config: {},", config(1)));
    let (_dir, file) = pipeline_file(&own);
    succeed(&apply(&node, &file));
    let refused = plugin(&node, &["deploy", "p/f", FILTER, "--config", &config(2)]);
    assert!(
        refused.stderr.contains("s of pipeline \"p\" configures plugin \"f\" itself"),
        "{}",
        refused.stderr
    );
    assert_eq!(versions(&node)["active"], 1);
}

/// Symptom: a stage that had stopped showed no lag, so that no alarm went off.
#[test]
fn a_stage_that_has_stopped_shows_what_it_leaves_unread() {
    let node = Node::start();
    let text = PIPELINE.replace("FILE", HOSTILE).replace("    config: CONFIG\n", "");
    let (_dir, file) = pipeline_file(&text);
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    produce(&producer, "in", "stop");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stage_of(&status(&node), "s")["state"] == "failed"), "{:#}", status(&node));
    for _ in 0..5 {
        produce(&producer, "in", "more");
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stage_of(&status(&node), "s")["lag"] == 6), "{:#}", status(&node));
    let metrics = runners::ureq_text(&node, "/metrics");
    assert!(metrics.contains("millstream_stage_lag{pipeline=\"p\",stage=\"s\"} 6"), "{metrics}");
}

#[test]
fn a_version_is_tried_on_some_partitions_first() {
    let node = Node::start();
    let text = PIPELINE.replace("FILE", FILTER).replace("CONFIG", &config(1));
    let (_dir, file) = pipeline_file(&text);
    succeed(&apply(&node, &file));
    // It keeps nothing.
    let nothing = r#"{"header": "none", "equals": "x"}"#;
    let deploy = ["deploy", "p/f", FILTER, "--config", nothing, "--partitions", "1", "--json"];
    assert_eq!(succeed(&plugin(&node, &deploy))["swapped"], json!(["s"]));
    let canary = stage_of(&status(&node), "s")["plugins"][0]["canary"].clone();
    assert_eq!((&canary["number"], &canary["partitions"]), (&json!(2), &json!([1])));
    let producer = producer(&node.bootstrap());
    for partition in [0, 1] {
        let record = BaseRecord::<(), str>::to("in").payload("x").partition(partition);
        producer.send(record).expect("there is room in the queue");
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stage_of(&status(&node), "s")["records_in"] == 2), "{:#}", status(&node));
    assert_eq!(stored(&node, "out"), 1);
    let shown = admin(&node, &["status"]).stdout;
    assert!(shown.contains("plugin f: version 2 is tried on partitions 1"), "{shown}");
    let beyond = plugin(&node, &["deploy", "p/f", FILTER, "--config", nothing, "--partitions", "0,7"]);
    assert!(beyond.stderr.contains("on partition 7, and the input of \"s\" has 2"), "{}", beyond.stderr);
    assert_eq!(succeed(&plugin(&node, &["promote", "p/f", "--json"]))["version"], 2);
    assert_eq!(versions(&node)["previous"], 1);
    assert_eq!(active(&node), 2);
    let list = plugin(&node, &["list"]);
    assert!(list.stdout.contains("p/f"), "{}", list.stdout);
}

#[test]
fn a_plugin_that_is_put_into_the_watched_directory_is_deployed() {
    let watched = TempDir::new().expect("a temporary directory");
    let settings = Settings::default().with("plugin.watch.dir", &super::text(watched.path()));
    let node = Node::start_with(settings);
    let text = PIPELINE.replace("FILE", FILTER).replace("CONFIG", &config(1));
    let (_dir, file) = pipeline_file(&text);
    let dropped = watched.path().join("p").join("f.wasm");
    fs::create_dir(dropped.parent().expect("it has one")).expect("it can be made");
    let not_deployed = |node: &Node| status(node)["not_deployed"].clone();
    let error_of = |node: &Node, error: &str| {
        let contains = || not_deployed(node)[0]["error"].as_str().is_some_and(|told| told.contains(error));
        assert!(until(contains), "{:#}", status(node));
    };

    // Another component that does the same: a custom section is for anyone.
    let mut component = fs::read(FILTER).expect("the guest is there");
    component.extend([0, 3, 1, b'n', 7]);
    fs::write(&dropped, &component).expect("it can be written");
    error_of(&node, "pipeline");
    // It was there first: it is tried again when there is something to run it.
    succeed(&apply(&node, &file));
    assert!(until(|| active(&node) == 2), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(not_deployed(&node), json!([]));

    let large = fs::File::create(&dropped).expect("it can be made");
    large.set_len(200 << 20).expect("it can be long");
    error_of(&node, "more than the 33554432 bytes");

    fs::write(&dropped, &component[..component.len() / 2]).expect("it can be written");
    error_of(&node, "the plugin is damaged");
    assert_eq!(active(&node), 2, "what ran before goes on");
    let shown = admin(&node, &["status"]);
    assert!(shown.stdout.contains("f.wasm: not deployed"), "{}", shown.stdout);

    fs::write(&dropped, &component).expect("it can be written");
    assert!(until(|| not_deployed(&node) == json!([])), "{:#}", status(&node));
    let node = node.stop().start();
    assert!(until(|| stage_of(&status(&node), "s")["state"] == "running"), "{:#}", status(&node));
    assert_eq!(active(&node), 2, "a node that starts has nothing to deploy");
}

/// Whoever produces through an ingest sees nothing of a swap; a canary on some partitions, and a version that crashes, are
/// seen there alone.
#[test]
fn an_ingest_is_swapped_under_load_and_tried_on_some_partitions() {
    const RECORDS: usize = 10_000;
    let node = Node::start();
    let text = "pipeline: p\ntopics: {in: {partitions: 2}}\nplugins:\n  f:\n    file: FILE\n    config: CONFIG\ningests:\n  \
                s: {topic: in, plugin: f, budget_ms: 5000}\n";
    let (_dir, file) = pipeline_file(&text.replace("FILE", FILTER).replace("CONFIG", &config(1)));
    succeed(&apply(&node, &file));
    let bootstrap = node.bootstrap();
    let load = std::thread::spawn(move || {
        let producer = producer(&bootstrap);
        for number in 0..RECORDS {
            produce(&producer, "in", &number.to_string());
            if number % 100 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        producer.flush(PATIENCE).expect("everything is acknowledged");
    });
    for version in 2..=8 {
        let deployed =
            succeed(&plugin(&node, &["deploy", "p/f", FILTER, "--config", &config(version), "--json"]));
        assert_eq!(deployed["swapped"], json!(["s"]), "{deployed}");
    }
    load.join().expect("the load goes on to its end");
    let mut found: Vec<usize> = read(&node, "in").iter().map(|value| value.parse().unwrap()).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..RECORDS), "each record is there once");

    // One that keeps nothing, on partition 1.
    let nothing = r#"{"header": "none", "equals": "x"}"#;
    succeed(&plugin(&node, &["deploy", "p/f", FILTER, "--config", nothing, "--partitions", "1", "--json"]));
    let producer = producer(&node.bootstrap());
    let kept = |values: &[(&str, i32)]| {
        for (value, partition) in values {
            producer
                .send(BaseRecord::<(), str>::to("in").payload(*value).partition(*partition))
                .expect("there is room");
        }
        producer.flush(PATIENCE).expect("everything is acknowledged");
        // A partition may end with what is not there.
        let all = [
            "consume",
            "--bootstrap",
            &node.bootstrap(),
            "--topic",
            "in",
            "--from",
            "beginning",
            "--until-end",
        ];
        let found = millstream(&all).stdout;
        let is_kept = |(value, _): &(&str, i32)| found.lines().any(|found| found == *value);
        values.iter().map(is_kept).collect::<Vec<bool>>()
    };
    assert_eq!(kept(&[("a", 0), ("b", 1)]), [true, false]);
    assert_eq!(succeed(&plugin(&node, &["promote", "p/f", "--json"]))["version"], 9);
    assert_eq!(kept(&[("c", 0)]), [false]);
    succeed(&plugin(&node, &["rollback", "p/f", "--json"]));
    assert_eq!(kept(&[("d", 0), ("e", 1)]), [true, true]);
}
