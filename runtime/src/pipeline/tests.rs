//! Pipeline files, good and bad: each problem has its place and a remedy.

mod relations;
mod schema;

use std::collections::BTreeMap;
use std::io;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::batch::Position;
use crate::clock::SystemClock;
use crate::engine::{EngineConfig, PluginEngine};
use crate::environment::Environment;
use crate::guests;
use crate::inline::OnFailure;
use crate::stage::OnError;

const GOOD: &str = "\
pipeline: access
topics:
  parsed: {partitions: 3, config: {cleanup.policy: compact, retention.ms: 1000}}
  rejected:
plugins:
  identity: identity.wasm
  typed:
    file: typed.wasm
    config: {min: 400}
    limits: {call_timeout_ms: 50}
stages:
  parse:
    from: raw
    plugins:
      - identity
      - plugin: typed
        config: [1, true, x]
    to: [parsed, other]
    on_error: {dead_letter: rejected}
    parallelism: 2
    compression: zstd
  copy:
    from: parsed
    plugin: typed
    to: sink
    group: my-group
    on_error: skip
";

const INLINES: &str = "\
pipeline: inlines
plugins: {identity: identity.wasm, typed: typed.wasm}
ingests:
  check:
    topic: raw
    plugins: [identity, typed]
    budget_ms: 20
    on_failure: pass
views:
  raw.masked:
    from: raw
    plugin: identity
";

struct Files(BTreeMap<&'static str, Vec<u8>>);

impl PluginSource for Files {
    fn read(&self, file: &str) -> io::Result<Vec<u8>> {
        self.0.get(file).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

struct Topics;

impl TopicCatalogue for Topics {
    fn partitions_of(&self, topic: &str) -> Option<i32> {
        self.names().iter().any(|name| name == topic).then_some(1)
    }

    fn names(&self) -> Vec<String> {
        ["raw", "other", "sink"].map(str::to_owned).to_vec()
    }

    fn is_internal(&self, topic: &str) -> bool {
        topic == "__consumer_offsets"
    }

    fn is_view(&self, topic: &str) -> bool {
        topic == "view"
    }

    fn config_of(&self, topic: &str, key: &str) -> Option<String> {
        (self.partitions_of(topic).is_some() && key == "retention.ms").then(|| "1000".to_owned())
    }

    fn check_new(&self, topic: &TopicSpec) -> Result<(), String> {
        match topic.config.keys().find(|key| key.starts_with("retention") && *key != "retention.ms") {
            Some(key) => Err(format!("unknown key {key:?}")),
            None => Ok(()),
        }
    }
}

fn validated(text: &str) -> Validated {
    validated_beside(&[], text)
}

/// With these pipelines applied.
fn validated_beside(others: &[&str], text: &str) -> Validated {
    let others: Vec<_> = others.iter().map(|text| parse("other.yaml", text).unwrap()).collect();
    let refusing = guests::Guest { init: guests::REFUSE, items: "", transform: "unreachable" };
    let files = Files(BTreeMap::from([
        ("identity.wasm", guests::identity()),
        ("typed.wasm", guests::typed_identity()),
        ("refusing.wasm", guests::batch_guest_of(&refusing)),
        ("other.wasm", guests::other_component("(component)")),
        ("text.wasm", b"(module)".to_vec()),
        ("cut-component.wasm", b"\0asm\x0d\0\x01\0\xff".to_vec()),
        ("cut-module.wasm", b"\0asm\x01\0\0\0\xff".to_vec()),
    ]));
    let engine = PluginEngine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() });
    match parse("p.yaml", text) {
        Ok(spec) => {
            let (clock, stop) = (SystemClock::shared(), CancellationToken::new());
            let world = World { topics: &Topics, others: &others, environment: &Environment::default() };
            validate(&spec, &engine, &files, &world, &clock, &stop)
        }
        Err(problems) => Validated { problems, pipeline: None, needs: BTreeMap::new() },
    }
}

/// The only problem of `GOOD` with `from` replaced by `to`.
fn check(from: &str, to: &str, expect: &str) {
    check_in(GOOD, from, to, expect);
}

fn check_in(text: &str, from: &str, to: &str, expect: &str) {
    assert!(text.contains(from), "{from}");
    let validated = validated(&text.replacen(from, to, 1));
    let problems: Vec<String> = validated.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [expect]);
    assert_eq!(validated.pipeline.is_none(), expect.contains(": error: "));
}

fn messages(validated: &Validated) -> Vec<&str> {
    validated.problems.iter().map(|problem| problem.message.as_str()).collect()
}

#[test]
fn a_good_pipeline_is_read_as_it_is_meant() {
    let Validated { problems, pipeline, .. } = validated(GOOD);
    assert_eq!(problems, []);
    let pipeline = pipeline.unwrap();
    assert_eq!(pipeline.name, "access");
    assert_eq!(pipeline.topics[0].partitions, Some(3));
    assert_eq!(pipeline.topics[0].config["retention.ms"], "1000");
    assert_eq!(pipeline.topics[1].partitions, None);
    let [parse, copy] = &pipeline.stages[..] else { panic!("two stages") };
    assert_eq!((parse.group.as_str(), copy.group.as_str()), ("access.parse", "my-group"));
    assert_eq!(parse.plugins[0].config, "null");
    assert_eq!(parse.plugins[1].config, "[1,true,\"x\"]");
    assert_eq!(copy.plugins[0].config, "{\"min\":400}");
    assert_eq!(copy.plugins[0].limits.call_timeout_ms, 50);
    assert_eq!(parse.on_error, OnError::DeadLetter("rejected".into()));
    assert_eq!(copy.on_error, OnError::Skip);
    assert_eq!((parse.parallelism, copy.parallelism), (2, 1));
}

#[test]
fn unknown_keys_name_the_nearest() {
    check(
        "topics:",
        "topcis:",
        "p.yaml:2:1: error: unknown key \"topcis\" in the pipeline; did you mean \"topics\"?",
    );
    check(
        "    parallelism: 2",
        "    paralelism: 2",
        "p.yaml:20:5: error: unknown key \"paralelism\" in stage \"parse\"; did you mean \"parallelism\"?",
    );
    check(
        "{partitions: 3,",
        "{colour: red,",
        "p.yaml:3:12: error: unknown key \"colour\" in topic \"parsed\"; known keys: partitions, config",
    );
    check(
        "{call_timeout_ms: 50}",
        "{timeout: 50}",
        "p.yaml:10:14: error: unknown key \"timeout\" in the limits of plugin \"typed\"; known keys: memory_bytes_max, \
         call_timeout_ms, init_timeout_ms, output_bytes_max, outputs_per_record_max, cpu_percent_max, handles_max, \
         table_elements_max, log_lines_per_second_max, http_requests_max",
    );
}

#[test]
fn values_of_the_wrong_kind_are_named() {
    check(
        "limits: {call_timeout_ms: 50}",
        "grants: {secrets: [\"a\\nb\"]}",
        "p.yaml:10:13: error: the grants of plugin \"typed\": a grant is empty, has more than 4096 bytes, or control \
         characters in it",
    );
    check(
        "{partitions: 3,",
        "{partitions: 0,",
        "p.yaml:3:24: error: \"partitions\" of topic \"parsed\" is not a whole number from 1 to 100000",
    );
    check(
        "on_error: skip",
        "on_error: ignore",
        "p.yaml:27:15: error: \"on_error\" of stage \"copy\" is none of the policies; write \"stop\", \"skip\" or \"{dead_letter: TOPIC}\"",
    );
    check(
        "compression: zstd",
        "compression: rar",
        "p.yaml:21:18: error: stage \"parse\" has the unknown compression \"rar\"; known: none, gzip, snappy, lz4, zstd",
    );
    check(
        "from: raw",
        "from: [raw, raw]",
        "p.yaml:13:17: error: \"from\" of stage \"parse\" names topic \"raw\" twice",
    );
    check(
        "from: raw",
        "from: {a: b}",
        "p.yaml:13:11: error: \"from\" of stage \"parse\" is a mapping, not a string",
    );
}

#[test]
fn what_is_missing_is_named() {
    check(
        "pipeline: access\n",
        "",
        "p.yaml:1:1: error: the pipeline has no \"pipeline\"; add \"pipeline: ...\"",
    );
    check("    to: sink\n", "", "p.yaml:23:5: error: stage \"copy\" has no \"to\"; add \"to: ...\"");
    check(
        "from: raw",
        "from: rwa",
        "p.yaml:13:11: error: topic \"rwa\" does not exist; did you mean \"raw\"?",
    );
    check(
        "{dead_letter: rejected}",
        "{dead_letter: nowhere}",
        "p.yaml:19:29: error: topic \"nowhere\" does not exist; create it, or add it to \"topics\": \"nowhere: {partitions: 1}\"",
    );
    check(
        "    plugin: typed\n    to: sink",
        "    plugin: typd\n    to: sink",
        "p.yaml:24:13: error: plugin \"typd\" is not declared; did you mean \"typed\"?",
    );
    check(
        "file: typed.wasm",
        "file: gone.wasm",
        "p.yaml:8:11: error: cannot read \"gone.wasm\" of plugin \"typed\": entity not found; build the plugin, or correct the path: it is \
         relative to the pipeline's file",
    );
}

#[test]
fn plugins_that_are_none_are_refused() {
    for (file, remedy) in [
        ("cut-component.wasm", "build the plugin with the SDK, for wasm32-wasip2"),
        ("cut-module.wasm", "build the module with redpanda-transform-sdk, for wasm32-wasip1"),
    ] {
        let expect = format!(
            "p.yaml:6:13: error: {file:?} of plugin \"identity\": the plugin is damaged: malformed section id; {remedy}"
        );
        check("identity: identity.wasm", &format!("identity: {file}"), &expect);
    }
    check(
        "file: typed.wasm",
        "file: other.wasm",
        "p.yaml:8:11: error: \"other.wasm\" of plugin \"typed\": the component exports none of millstream:plugin/transform-batch@0.2.0, \
         millstream:plugin/transform@0.2.0 and millstream:plugin/run@0.2.0; it exports nothing; build the plugin with the SDK, for wasm32-wasip2",
    );
    check(
        "identity: identity.wasm",
        "identity: text.wasm",
        "p.yaml:6:13: error: \"text.wasm\" of plugin \"identity\": this is WebAssembly in text form, not a WebAssembly component; \
         name the .wasm file that building the plugin for wasm32-wasip2 makes",
    );
    check(
        "identity: identity.wasm",
        "identity: refusing.wasm",
        "p.yaml:15:9: error: plugin \"identity\" in stage \"parse\": the plugin refuses its configuration: because; correct its \"config\"",
    );
}

/// A pipeline without stages would be applied, and then be nowhere to be seen.
#[test]
fn a_pipeline_has_stages() {
    for stages in ["", " {}", " ~"] {
        let validated = validated(&format!("pipeline: p\nstages:{stages}\n"));
        assert_eq!(messages(&validated), ["the pipeline has no sources, stages, sinks, ingests or views"]);
        assert!(validated.pipeline.is_none());
    }
}

#[test]
fn ingests_and_views_are_parts_of_a_pipeline() {
    let pipeline = validated(INLINES).pipeline.unwrap();
    let [checked, masked] = &pipeline.inlines[..] else { panic!("{:?}", pipeline.inlines) };
    assert_eq!((checked.name.as_str(), checked.stage.position), ("raw", Position::Ingest));
    assert_eq!((checked.budget.as_millis(), checked.on_failure), (20, OnFailure::Pass));
    assert_eq!((checked.stage.plugins.len(), &checked.stage.on_error), (2, &OnError::Stop));
    assert_eq!((masked.name.as_str(), masked.stage.position), ("raw.masked", Position::View));
    assert_eq!((&*masked.stage.from[0], &masked.stage.on_error), ("raw", &OnError::Skip));
    check_in(
        INLINES,
        "    topic: raw",
        "    topic: rw",
        "p.yaml:5:12: error: topic \"rw\" does not exist; did you mean \"raw\"?",
    );
    check_in(
        INLINES,
        "    topic: raw",
        "    topic: raw.masked",
        "p.yaml:5:12: error: \"raw.masked\" is a view, and can only be read; name the topic behind it",
    );
    check_in(
        INLINES,
        "  raw.masked:",
        "  sink:",
        "p.yaml:10:3: error: a topic is called \"sink\", as the view would be; give the view another name",
    );
}

#[test]
fn broken_yaml_has_a_place() {
    check("from: raw", "from: [raw", "p.yaml:14:12: error: invalid YAML: illegal placement of ':' indicator");
    check("  copy:", "  parse:", "p.yaml:22:3: error: invalid YAML: duplicate mapping key: parse");
    assert!(validated("").pipeline.is_none());
    assert!(validated("[1, 2]").pipeline.is_none());
    assert!(validated(&"[".repeat(100_000)).pipeline.is_none());
    assert!(validated(&"a".repeat(2 << 20)).pipeline.is_none());
}

#[test]
fn several_problems_come_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("topics:", "topcis:")
        .replace("parallelism: 2", "parallelism: 0")
        .replace("from: raw", "frm: raw");
    let places: Vec<u64> = validated(&text).problems.iter().map(|problem| problem.place.line).collect();
    assert_eq!(places, [2, 13, 13, 20]);
}

proptest::proptest! {
    /// Any text is a pipeline or a list of problems.
    #[test]
    fn no_text_is_a_surprise(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "pipeline: a", "stages:", "topics:", "plugins:", "\n", "\n  ", "\n    ", "- ", "{", "}", "[", "]", ": ",
                "from", "to", "plugin", "config", "on_error", "dead_letter", "x", "1", "-1.5", "&a", "*a", "<<", "!!str ",
                "|", "~", "\u{e9}", "\t", "#", "'", "\"", "partitions", "limits", "null",
            ]),
            0..40,
        ),
    ) {
        if let Err(problems) = parse("p.yaml", &pieces.concat()) {
            assert!(!problems.is_empty());
        }
    }
}
