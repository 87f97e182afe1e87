//! Modules that were built with Redpanda's SDK, on a node: in a file they look like any plugin.

use super::*;

const IDENTITY: &str = env!("GUEST_REDPANDA_IDENTITY");
const MAPPER: &str = env!("GUEST_REDPANDA_MAPPER");
const MODULE: &str = env!("GUEST_REDPANDA_HOSTILE");

const MAPPING: &str = "pipeline: mapping\ntopics: {in: {partitions: 2}, out: {partitions: 2}, other: {partitions: \
                       1}}\nplugins:\n  mapper: {file: FILE, config: CONFIG}\nstages:\n  map: {from: in, plugin: \
                       mapper, to: [out, other]}\n";

fn mapping(config: &str) -> (TempDir, PathBuf) {
    pipeline_file(&MAPPING.replace("FILE", MAPPER).replace("CONFIG", config))
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort_unstable();
    values
}

#[test]
fn a_module_of_another_broker_runs_as_it_is() {
    let node = Node::start();
    let (_dir, file) = mapping("{SEPARATOR: \";\"}");
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    for value in ["a;b", ">elsewhere;;c", ";"] {
        produce(&producer, "in", value);
    }
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 3 && stored(&node, "other") == 1), "{:#}", status(&node));
    assert_eq!(sorted(read(&node, "out")), ["A", "B", "C"]);
    assert_eq!(read(&node, "other"), [">ELSEWHERE"]);
    let plugin = stage_of(&status(&node), "map")["plugins"][0].clone();
    assert_eq!((&plugin["form"], &plugin["contract"]), (&json!("redpanda-transform"), &Value::Null));

    // Its code is in the cache of the node, which is killed meanwhile.
    let node = node.kill().start();
    assert!(until(|| stage_of(&status(&node), "map")["state"] == "running"), "{:#}", status(&node));
    produce(&producer, "in", "d");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    assert!(until(|| stored(&node, "out") == 4), "{:#}\n{}", status(&node), node.stderr());

    // Another version of the plugin is another file, whoever's SDK it was built with.
    for (version, file) in [(2, FILTER), (3, IDENTITY)] {
        let keep_all = r#"{"header": "none", "action": "drop", "equals": "x"}"#;
        let config = if file == FILTER { keep_all } else { "{}" };
        let deploy = ["plugin", "deploy", "mapping/mapper", file, "--config", config, "--json"];
        let deployed = succeed(&admin(&node, &deploy));
        assert_eq!((&deployed["version"], &deployed["swapped"]), (&json!(version), &json!(["map"])));
        let before = stored(&node, "out");
        produce(&producer, "in", "as it is");
        producer.flush(PATIENCE).expect("everything is acknowledged");
        assert!(until(|| stored(&node, "out") > before), "{:#}\n{}", status(&node), node.stderr());
    }
    assert_eq!(read(&node, "out").iter().filter(|value| *value == "as it is").count(), 2);
    assert!(node.stop().status.success());
}

#[test]
fn what_a_module_lacks_is_said_before_anything_runs() {
    let node = Node::start();
    for (config, said) in [
        ("{SEPARATOR: {is: \";\"}}", "\"SEPARATOR\" is no text, number or boolean"),
        ("{REDPANDA_INPUT_TOPIC: mine}", "these environment variables are set by the node"),
        // Its `main` panics.
        ("{}", "SEPARATOR: environment variable not found"),
    ] {
        let (_dir, file) = mapping(config);
        for command in ["validate", "apply"] {
            let ended = admin(&node, &[command, &text(&file)]);
            assert_eq!(ended.status.code(), Some(1), "{command} {config}: {}", ended.stderr);
            assert!(
                ended.stderr.contains(":6:27: error: plugin \"mapper\" in stage \"map\""),
                "{}",
                ended.stderr
            );
            assert!(ended.stderr.contains(said), "{command} {config}: {}", ended.stderr);
        }
    }
    assert_eq!(status(&node)["stages"], json!([]));
    // A module of another kind is not even sent.
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("pipeline.yaml");
    fs::write(&file, MAPPING.replace("FILE", "other.wasm").replace("CONFIG", "{}")).expect("writable");
    for (module, said) in [
        ("(module)", "a core WebAssembly module, not a component"),
        (
            r#"(module (import "redpanda_transform" "check_abi_version_3" (func)))"#,
            "imports check_abi_version_3 of Redpanda's ABI, of which this node knows check_abi_version_1 and \
             check_abi_version_2; build the module with redpanda-transform-sdk, for wasm32-wasip1",
        ),
    ] {
        fs::write(dir.path().join("other.wasm"), wat::parse_str(module).expect("a module"))
            .expect("writable");
        let ended = admin(&node, &["apply", &text(&file)]);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(":4:18: error: \"other.wasm\" of plugin \"mapper\""),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    assert!(node.stop().status.success());
}

#[test]
fn a_module_that_fails_is_seen_in_the_status() {
    let node = Node::start();
    let text = MAPPING.replace("FILE", MODULE).replace("CONFIG", "{}");
    let (_dir, file) = pipeline_file(&text);
    succeed(&apply(&node, &file));
    let producer = producer(&node.bootstrap());
    produce(&producer, "in", "fail");
    producer.flush(PATIENCE).expect("everything is acknowledged");
    let failed = until(|| stage_of(&status(&node), "map")["state"] == "failed");
    assert!(failed, "{:#}\n{}", status(&node), node.stderr());
    let stage = stage_of(&status(&node), "map").clone();
    assert_eq!((&stage["kind"], &stage["plugin"]), (&json!("trap"), &json!("mapper")), "{stage:#}");
    let reason = stage["reason"].as_str().expect("a reason");
    assert!(reason.contains("transforming record failed: Told(\"told to fail\")"), "{reason}");
    // The panic's message is in the node's log, line by line.
    assert!(node.stderr().contains("panicked at"), "{}", node.stderr());
    assert!(node.stop().status.success());
}

#[test]
fn a_module_is_inspected_and_tested_without_a_node() {
    let inspected = millstream(&["plugin", "inspect", IDENTITY, "--json"]);
    let found = succeed(&inspected);
    assert_eq!(found["form"], "redpanda-transform");
    let readable = millstream(&["plugin", "inspect", IDENTITY]);
    assert!(readable.stdout.contains("a transform, in the form redpanda-transform"), "{}", readable.stdout);
    let (_dir, cases) = pipeline_file(
        "- name: splits\n  config: {SEPARATOR: \",\"}\n  to: [out, other]\n  input: [{key: k, value: \"a,>b\"}]\n  \
         output: [{key: k, value: A, topic: out}, {key: k, value: \">B\", topic: other}]\n",
    );
    let tested = millstream(&["plugin", "test", MAPPER, &text(&cases)]);
    assert!(tested.status.success(), "{}{}", tested.stdout, tested.stderr);
}
