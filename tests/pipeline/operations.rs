//! What operators do and what befalls them: clients that leave, topics and files that go, commands with slips.

use super::*;

fn copy_pipeline(name: &str, from: &str, to: &str) -> String {
    format!("pipeline: {name}\nstages:\n  copy: {{from: {from}, to: {to}}}\n")
}

fn topic(node: &Node, command: &str, names: &[&str]) {
    let ended = millstream(&[&["topic", command, "--bootstrap", &node.bootstrap()], names].concat());
    assert!(ended.status.success(), "{}", ended.stderr);
}

fn is_running(node: &Node, stage: &str) -> bool {
    stage_of(&status(node), stage)["state"] == "running"
}

/// Symptom: a stage was stopped for good after Ctrl-C at `apply`. Cause: the admin listener dropped the request's future,
/// which had stopped the stage and not yet started it again. Fix: a change that has begun goes on without its client.
#[test]
fn an_apply_whose_client_leaves_goes_on_to_its_end() {
    let node = Node::start();
    let text = |parallelism: usize| {
        format!(
            "pipeline: slow\ntopics: {{in: {{partitions: 1}}, out: {{partitions: 1}}}}\nplugins:\n  hostile:\n    \
             file: {HOSTILE}\n    limits: {{call_timeout_ms: 20000}}\nstages:\n  slow: {{from: in, plugin: hostile, \
             to: out, parallelism: {parallelism}}}\n"
        )
    };
    let (_dir, file) = pipeline_file(&text(1));
    succeed(&apply(&node, &file));
    assert!(until(|| is_running(&node, "slow")), "{:#}", status(&node));
    let producer = producer(&node.bootstrap());
    produce(&producer, "in", "loop");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    // Until it is in the plugin's hands, which nothing shows.
    std::thread::sleep(std::time::Duration::from_secs(2));
    // Stopping takes as long as the plugin's call; the client does not wait for that.
    let (_dir, file) = pipeline_file(&text(2));
    let mut client = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["apply", &super::text(&file), "--admin", &node.admin().to_string()])
        .spawn()
        .expect("the binary runs");
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(client.try_wait().expect("a child can be asked"), None, "the stage is still stopping");
    client.kill().expect("it runs");
    client.wait().expect("a child can be waited for");
    let started = until(|| stage_of(&status(&node), "slow")["parallelism"] == 2);
    assert!(started, "{:#}\n{}", status(&node), node.stderr());
}

/// Symptom: after a restart a pipeline was gone from the status, though it was applied, and never came back. Cause: what
/// could not be resumed was logged and forgotten, and a missing topic was enough. Fix: a stage waits for its topic.
#[test]
fn a_stage_waits_for_its_topic_also_after_a_restart() {
    let node = Node::start();
    topic(&node, "create", &["in", "out", "--partitions", "1"]);
    let (_dir, file) = pipeline_file(&copy_pipeline("copying", "in", "out"));
    succeed(&apply(&node, &file));
    produce_one(&node, "in", "early");
    assert!(until(|| stored(&node, "out") == 1), "{:#}", status(&node));
    topic(&node, "delete", &["in"]);
    let node = node.kill().start();
    let waits = until(|| stage_of(&status(&node), "copy")["state"] == "waiting");
    assert!(waits, "{:#}\n{}", status(&node), node.stderr());
    topic(&node, "create", &["in", "--partitions", "1"]);
    // The first ones may take the place of what the group had read of the old topic.
    let done = until(|| {
        produce_one(&node, "in", "late");
        stored(&node, "out") > 1
    });
    assert!(done, "{:#}\n{}", status(&node), node.stderr());
}

fn produce_one(node: &Node, topic: &str, value: &str) {
    let producer = producer(&node.bootstrap());
    produce(&producer, topic, value);
    producer.flush(PATIENCE).expect("everything is acknowledged");
}

/// The same, where waiting is not for the stage: its plugin is not there. The pipeline stands in the status with the
/// reason, and starts by itself when that is gone.
#[test]
fn a_pipeline_that_cannot_be_resumed_says_why_and_is_tried_again() {
    let node = Node::start();
    let (_dir, file) = pipeline_file(&FILTERING.replace("FILTER", FILTER));
    succeed(&apply(&node, &file));
    let stopped = node.kill();
    let plugins = stopped.data_dir().join("plugins");
    let plugin = only_file(&plugins);
    let aside = stopped.data_dir().join("aside.wasm");
    fs::rename(&plugin, &aside).expect("the node is stopped");
    let node = stopped.start();
    let mut said = Value::Null;
    until(|| {
        said = status(&node)["not_running"].clone();
        said[0]["pipeline"] == "filtering"
    });
    let message = said[0]["problems"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("was not uploaded"), "{said:#}");
    let readable = admin(&node, &["status"]);
    assert!(readable.stdout.contains("filtering: not running, and tried again: "), "{}", readable.stdout);
    fs::rename(&aside, &plugin).expect("the directory is there");
    assert!(until(|| is_running(&node, "keep")), "{:#}\n{}", status(&node), node.stderr());
    assert_eq!(status(&node)["not_running"], json!([]));
}

fn only_file(dir: &Path) -> PathBuf {
    let mut files =
        fs::read_dir(dir).expect("it is a directory").map(|entry| entry.expect("an entry").path());
    let file = files.next().expect("there is one");
    assert_eq!(files.next(), None, "there is one only");
    file
}

/// Symptom: plugins and their code filled the disk. Cause: nothing ever removed them. Fix: a node that starts keeps what
/// its pipelines name.
#[test]
fn plugins_that_no_pipeline_names_are_gone_after_a_restart() {
    let node = Node::start();
    let (_dir, file) = pipeline_file(&FILTERING.replace("FILTER", FILTER));
    succeed(&apply(&node, &file));
    let node = node.stop().start();
    let (plugins, compiled) = (node.data_dir().join("plugins"), node.data_dir().join("compiled"));
    only_file(&plugins);
    only_file(&compiled);
    assert!(admin(&node, &["pipeline", "delete", "filtering"]).status.success());
    let node = node.stop().start();
    assert_eq!(fs::read_dir(plugins).expect("it is a directory").count(), 0);
    assert_eq!(fs::read_dir(compiled).expect("it is a directory").count(), 0);
    assert!(node.stop().status.success());
}

/// Symptom: a plugin that was too large, or a directory, was reported as not uploaded. Cause: the client kept the reason to
/// itself and left it to the node to miss the file. Fix: the client reports it, beside what the node finds.
#[test]
fn a_plugin_that_cannot_be_read_is_reported_with_the_reason() {
    let node = Node::start();
    let text = FILTERING.replace("from: all", "from: al");
    let (dir, file) = pipeline_file(&text.replace("FILTER", "huge.wasm"));
    let huge = fs::File::create(dir.path().join("huge.wasm")).expect("a writable directory");
    huge.set_len(33 << 20).expect("a sparse file");
    for (name, said) in [("huge.wasm", "more than 33554432 bytes"), (".", "Is a directory")] {
        fs::write(&file, text.replace("FILTER", name)).expect("a writable directory");
        for command in ["validate", "apply"] {
            let ended = admin(&node, &[command, &super::text(&file)]);
            assert_eq!(ended.status.code(), Some(1));
            let lines: Vec<_> = ended.stderr.lines().collect();
            let [plugin, topic] = lines[..] else { panic!("two problems:\n{}", ended.stderr) };
            let expected = format!(":6:11: error: cannot read {name:?} of plugin \"filter\": {said}");
            assert!(plugin.contains(&expected), "{plugin}");
            assert!(topic.contains(":9:11: error: topic \"al\" does not exist"), "{topic}");
        }
    }
}

/// Symptom: `apply` said that stages had started, and some of them failed for good a moment later. Cause: nobody counted
/// the instances that all stages together need. Fix: a pipeline that does not fit is refused.
#[test]
fn a_pipeline_that_does_not_fit_beside_the_others_is_refused() {
    let node = Node::start();
    let stages = |name: &str, count: usize| {
        let mut text = format!(
            "pipeline: {name}\ntopics: {{in: {{partitions: 1}}, out: {{partitions: 1}}}}\n\
             plugins: {{filter: {FILTER}}}\nstages:\n"
        );
        for stage in 0..count {
            text += &format!(
                "  s{stage}: {{from: in, plugin: filter, config: {{field: a, gte: 1}}, to: out, parallelism: 64}}\n"
            );
        }
        pipeline_file(&text)
    };
    let (_dir, first) = stages("first", 1);
    succeed(&apply(&node, &first));
    let (_dir, second) = stages("second", 16);
    for command in ["validate", "apply"] {
        let refused = admin(&node, &[command, &text(&second)]);
        let expected =
            ":20:3: error: with stage \"s15\" the node's stages have 1088 tasks, of which a node runs 1024; ";
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    // A pipeline does not stand in its own way.
    assert!(apply(&node, &first).status.success());
}

/// Symptom: `--admin` was a usage error here, and only here. Cause: no node is asked. Fix: it is taken.
#[test]
fn inspect_takes_the_address_of_a_node_like_the_other_commands() {
    let inspected = millstream(&["plugin", "inspect", FILTER, "--admin", "127.0.0.1:1"]);
    assert!(inspected.status.success(), "{}", inspected.stderr);
}

/// Symptom: deleting a pipeline whose name has a slash failed for a path that nobody had typed. Cause: the name went into
/// the URL as it was. Fix: it is escaped.
#[test]
fn a_name_that_no_pipeline_can_have_is_not_found() {
    let node = Node::start();
    for name in ["a/b", "a b", "a?b", "%66", "..", "\u{e9}"] {
        let ended = admin(&node, &["pipeline", "delete", name]);
        let expected = format!("refused: no pipeline is called {name:?}");
        assert!(ended.stderr.contains(&expected), "{name}: {}", ended.stderr);
    }
    assert_eq!(admin(&node, &["pipeline", "delete", ""]).status.code(), Some(2));
}
