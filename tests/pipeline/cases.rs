//! `millstream plugin test`: cases in files, run without a node.

use super::*;

const CASES: &str = "\
- name: keeps what is expensive
  config: {field: price, gte: 10}
  input:
    - {key: a, value: {price: 5}}
    - {key: b, value: {price: 15}, timestamp: 7, headers: {h: x}}
  output:
    - {key: b, value: {price: 15}, timestamp: 7, headers: {h: x}, topic: output}
- name: has other ideas
  config: {field: price, gte: 10}
  input: [{value: {price: 15}}, {value: {price: 3}}]
  output: [{value: {price: 16}}, {}]
";

fn plugin_test(plugin: &str, text: &str, more: &[&str]) -> Ended {
    let dir = TempDir::new().expect("a temporary directory");
    let file = dir.path().join("cases.yaml");
    fs::write(&file, text).expect("it can be written");
    millstream(&[&["plugin", "test", plugin, &super::text(&file)], more].concat())
}

#[test]
fn cases_pass_and_fail_with_the_reason() {
    let ended = plugin_test(FILTER, CASES, &[]);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for expected in [
        "cases.yaml: keeps what is expensive  (",
        "FAILED",
        "1 outputs instead of 2",
        r#"output 0: value is "{\"price\":15}", not "{\"price\":16}""#,
    ] {
        assert!(ended.stdout.contains(expected), "{expected}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("1 of 2 cases failed"), "{}", ended.stderr);
    let passing = CASES.split("- name: has").next().expect("the first");
    let ended = plugin_test(FILTER, passing, &["--json"]);
    let reports = succeed(&ended);
    assert_eq!((&reports[0]["passed"], &reports[0]["records"]), (&json!(true), &json!(2)));
    assert!(reports[0]["memory_bytes"].as_u64() >= Some(65_536), "{reports}");
}

#[test]
fn what_a_plugin_refuses_or_dies_of_is_a_case_that_failed() {
    let hostile = |value: &str| format!("name: n\ninput: [{{value: {value}}}]\noutput: []\n");
    for (text, expected) in [
        (hostile("panic"), "told to panic"),
        (hostile("reject"), "input 0 is rejected: told to reject"),
        (hostile("stop"), "told to stop"),
    ] {
        let ended = plugin_test(HOSTILE, &text, &[]);
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stdout.contains(expected), "{expected}: {}", ended.stdout);
    }
    let rejecting =
        "name: n\ninput: [{value: reject}]\noutput: []\nrejected: [{index: 0, reason: told to}]\n";
    assert!(plugin_test(HOSTILE, rejecting, &[]).status.success());
    let refused = plugin_test(FILTER, "name: n\nconfig: {nonsense: 1}\ninput: []\noutput: []\n", &[]);
    assert!(refused.stdout.contains("nonsense"), "{}", refused.stdout);
    let no_case = plugin_test(FILTER, "name: n\ninputs: []\n", &[]);
    assert!(no_case.stderr.contains("it holds no cases"), "{}", no_case.stderr);
}
