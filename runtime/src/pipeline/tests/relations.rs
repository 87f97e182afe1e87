//! What a pipeline's parts, and others, make of each other; and its topics.

use super::*;
use crate::pipeline::spec::OnErrorSpec;

#[test]
fn relations_between_parts_are_checked() {
    check(
        "to: sink\n    group: my-group",
        "to: sink\n    group: access.parse",
        "p.yaml:22:3: error: stages \"parse\" and \"copy\" have the same group \"access.parse\"; give each stage its own group: \"group: NAME\"",
    );
    check(
        "      - identity\n",
        "",
        "p.yaml:6:3: warning: plugin \"identity\" is not used; remove it, or name it in a stage",
    );
    let cycle = validated(&GOOD.replacen("to: sink", "to: raw", 1));
    let messages: Vec<&str> = cycle.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "stage \"parse\" is in a cycle: what it writes comes back to \"raw\"",
            "stage \"copy\" is in a cycle: what it writes comes back to \"parsed\"",
        ],
    );
}

/// Symptom: two pipelines that copy to each other's input ran for ever, and of two stages with one group one got
/// nothing. Cause: a file was checked by itself. Fix: it is checked together with the pipelines that are applied.
#[test]
fn relations_to_other_pipelines_are_checked() {
    let other = "pipeline: back\nstages:\n  copy: {from: sink, to: raw}\n  more: {from: other, to: sink}\n";
    let cycles = validated_beside(&[other], GOOD);
    let expect = [
        "stage \"parse\" is in a cycle: what it writes comes back to \"raw\" by way of pipeline \"back\"",
        "stage \"copy\" is in a cycle: what it writes comes back to \"parsed\" by way of pipeline \"back\"",
    ];
    assert_eq!(messages(&cycles), expect);
    assert_eq!(cycles.problems[0].place.line, 13);

    // The names of pipeline and stage may have dots, so that the default of one can be that of another.
    let other = "pipeline: b\nstages:\n  x.y: {from: raw, to: sink}\n  z: {from: raw, to: sink, group: access.parse}\n";
    let shared = validated_beside(&[other], "pipeline: b.x\nstages:\n  y: {from: raw, to: sink}\n");
    assert_eq!(
        messages(&shared),
        ["stages \"x.y\" of pipeline \"b\" and \"y\" have the same group \"b.x.y\""]
    );
    let shared = validated_beside(&[other], GOOD);
    assert_eq!(
        messages(&shared),
        ["stages \"z\" of pipeline \"b\" and \"parse\" have the same group \"access.parse\""]
    );
}

/// A producer would wait for one ingest that waits for another.
#[test]
fn the_letters_of_an_ingest_go_where_no_ingest_stands() {
    let letters = "on_error: {dead_letter: rejected}";
    let ingest = |name: &str, topic: &str, more: &str| {
        format!(
            "pipeline: {name}\nplugins: {{p: identity.wasm}}\ningests:\n  {name}: {{topic: {topic}, plugin: p, {more}}}\n"
        )
    };
    let writer = ingest("writer", "raw", letters);
    assert_eq!(messages(&validated_beside(&[], &writer)), ["topic \"rejected\" does not exist"]);
    let reader = ingest("reader", "rejected", "");
    let expect =
        "ingest \"reader\" stands in front of \"rejected\", where the dead letters of ingest \"writer\" go";
    for (other, own) in [(&reader, &writer), (&writer, &reader)] {
        let found = validated_beside(&[other], own);
        assert!(messages(&found).contains(&expect), "{:?}", messages(&found));
    }
    // Nor do they come back to it.
    let back = "pipeline: back\nstages: {s: {from: rejected, to: raw}}\n";
    let expect =
        "ingest \"writer\" is in a cycle: what it writes comes back to \"raw\" by way of pipeline \"back\"";
    assert!(messages(&validated_beside(&[back], &writer)).contains(&expect));
    let itself = ingest("itself", "rejected", letters);
    let found = validated_beside(&[], &itself);
    assert!(
        messages(&found).iter().any(|message| message.contains("stands in front of")),
        "{:?}",
        found.problems
    );
}

/// Symptom: a stage that read `__consumer_offsets` fed itself, since each commit is a record of it. Fix: topics of
/// the broker's own are refused wherever a topic is named.
#[test]
fn internal_topics_are_refused() {
    for (from, to, place) in [
        ("from: raw", "from: __consumer_offsets", "13:11"),
        ("to: sink", "to: __consumer_offsets", "25:9"),
        ("{dead_letter: rejected}", "{dead_letter: __consumer_offsets}", "19:29"),
        ("  rejected:\n", "  rejected:\n  __consumer_offsets:\n", "5:3"),
    ] {
        let expect = "error: topic \"__consumer_offsets\" is the broker's own; name another topic";
        check(from, to, &format!("p.yaml:{place}: {expect}"));
    }
}

/// Symptom: a file was said to have no errors, and when it was applied it was refused after half of its topics had
/// been created. Cause: what the broker thinks of a new topic came out only by creating it. Fix: it is asked before.
#[test]
fn topics_are_held_against_the_broker() {
    check(
        "retention.ms",
        "retention.msx",
        "p.yaml:3:3: error: topic \"parsed\" cannot be created: unknown key \"retention.msx\"; correct it, or use a topic that exists",
    );
    check(
        "  rejected:\n",
        "  rejected:\n  a.b:\n  a_b:\n",
        "p.yaml:6:3: error: topics \"a.b\" and \"a_b\" differ only in \".\" and \"_\"; rename one of them: metrics mix them up",
    );
    let existing = |config: &str| {
        let validated = validated(&GOOD.replacen("topics:\n", &format!("topics:\n  raw: {config}\n"), 1));
        assert!(validated.pipeline.is_some(), "a warning is no error");
        messages(&validated).join("\n")
    };
    assert_eq!(existing("{partitions: 1, config: {retention.ms: 1000}}"), "");
    assert_eq!(existing("{partitions: 2}"), "topic \"raw\" exists with 1 partitions, not 2");
    assert_eq!(
        existing("{config: {retention.ms: 7, cleanup: x}}"),
        "topic \"raw\" exists with no cleanup, not \"x\"\ntopic \"raw\" exists with retention.ms = \"1000\", not \"7\""
    );
}

#[test]
fn a_group_has_a_name() {
    let long = "x".repeat(250);
    for name in ["\"\"", &long, "\"a\\e[31m\""] {
        let validated = validated(&GOOD.replacen("my-group", name, 1));
        let [problem] = &validated.problems[..] else { panic!("{:?}", validated.problems) };
        assert_eq!((problem.place.line, problem.place.column), (26, 12));
        assert!(problem.message.ends_with("is no valid \"group\" of stage \"copy\""), "{}", problem.message);
    }
}

/// A sink puts records aside as a stage does, and its topic for them is one of the pipeline's as any other.
#[test]
fn a_sink_has_a_policy_for_bad_records_and_a_source_has_none() {
    let part = |section: &str, part: &str| {
        format!("pipeline: p\nplugins: {{a: identity.wasm}}\n{section}:\n  s: {{plugin: a, {part}}}\n")
    };
    let policy = |text: &str| parse("p.yaml", &part("sinks", text)).unwrap().stages[0].on_error.clone();
    assert_eq!(policy("from: raw"), OnErrorSpec::Stop);
    assert_eq!(policy("from: raw, on_error: skip"), OnErrorSpec::Skip);
    let OnErrorSpec::DeadLetter { topic, .. } = policy("from: raw, on_error: {dead_letter: rejected}") else {
        panic!("it has a topic");
    };
    assert_eq!(topic, "rejected");
    let missing = validated(&part("sinks", "from: raw, on_error: {dead_letter: nowhere}"));
    assert!(messages(&missing).contains(&"topic \"nowhere\" does not exist"), "{missing:?}");
    let cycle = validated(&part("sinks", "from: raw, on_error: {dead_letter: raw}"));
    let said = "stage \"s\" is in a cycle: what it writes comes back to \"raw\"";
    assert!(messages(&cycle).contains(&said), "{cycle:?}");
    let source = validated(&part("sources", "to: sink, on_error: skip"));
    assert_eq!(messages(&source), ["unknown key \"on_error\" in source \"s\""]);
}
