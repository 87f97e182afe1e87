//! `millstream plugin test`: cases in files, run without a node.

use super::runners::{COUNTER, FILE_LINES};
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

const SINK: &str = "\
- name: counts by a field, and commits
  config: {field: 1}
  offset: 100
  input: [{value: 'a,x'}, {value: 'b,y'}, {value: 'c,x'}]
  output: [{key: x, value: '2', topic: output, partition: 0}, {key: y, value: '1'}]
  committed: 3
- name: has nothing to do
  config: {field: 1}
  input: []
  output: []
  wait_ms: 100
";

const SOURCE: &str = "\
- name: sends lines, and is done
  config: {file: f, skip_lines: 1}
  files: {f: \"head\\na\\nb\"}
  output: [{value: a, headers: {line: '1'}}, {value: b}]
  position: \"8 3\"
  end: finished
- name: goes on where it was
  config: {file: f, follow: true}
  files: {f: \"head\\na\\nb\\n\"}
  found_position: \"7 2\"
  output: [{value: b}]
- name: fails for another position
  config: {file: f}
  files: {f: \"\"}
  found_position: here
  output: []
  end: {failed: none of this plugin's}
";

#[test]
fn a_sink_is_tried_with_a_group_of_its_own() {
    let ended = plugin_test(COUNTER, SINK, &[]);
    let stdout = &ended.stdout;
    assert!(stdout.contains("ok      ") && stdout.contains("cases.yaml: counts by a field"), "{stdout}");
    // It waits for ever, and there is nothing to commit.
    let late = "it was not done after 100 ms; it should have ended with what is expected of it done";
    assert!(stdout.contains(late), "{stdout}");
    assert!(ended.stderr.contains("1 of 2 cases failed"), "{}", ended.stderr);
    let wrong = SINK.replace("committed: 3", "committed: 2").replace("value: '2'", "value: '3'");
    let ended = plugin_test(COUNTER, &wrong, &[]);
    for expected in ["3 records are committed, not 2", "output 0: value is \"2\", not \"3\""] {
        assert!(ended.stdout.contains(expected), "{expected}: {}", ended.stdout);
    }
}

#[test]
fn a_source_is_tried_with_a_position_and_what_it_is_granted() {
    let ended = plugin_test(FILE_LINES, SOURCE, &[]);
    assert!(ended.status.success() && ended.stdout.contains("3 passed"), "{}", ended.stdout);
    assert!(ended.stderr.is_empty(), "{}", ended.stderr);
    let wrong =
        SOURCE.replace("position: \"8 3\"", "position: \"9 3\"").replace("end: finished", "end: {again: x}");
    let ended = plugin_test(FILE_LINES, &wrong, &[]);
    for expected in
        ["the position is \"8 3\", not \"9 3\"", "it said that its work is done; it should have ended to be"]
    {
        assert!(ended.stdout.contains(expected), "{expected}: {}", ended.stdout);
    }
    let ungranted = "name: n\nconfig: {file: f}\noutput: []\n";
    let ended = plugin_test(FILE_LINES, ungranted, &[]);
    let refused = "the plugin imports files, which the case does not grant to a source";
    assert!(ended.stdout.contains(refused), "{}", ended.stdout);
    let no_case = plugin_test(FILE_LINES, "name: n\noutputs: []\n", &[]);
    assert!(no_case.stderr.contains("which have name and output, and a sink's input"), "{}", no_case.stderr);
}
