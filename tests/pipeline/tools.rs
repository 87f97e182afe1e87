//! What an operator looks at: how plugins do.

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
