//! The published schema, which is what the parser reads.

use std::path::Path;

use super::*;

/// Rewrites `docs/pipeline.schema.json` when MILLSTREAM_UPDATE is set.
#[test]
fn the_published_schema_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pipeline.schema.json");
    let expect = format!("{:#}\n", json_schema());
    if std::env::var_os("MILLSTREAM_UPDATE").is_some() {
        std::fs::write(&path, &expect).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(published, expect, "run the tests with MILLSTREAM_UPDATE=1");
}

/// The schema knows the keys that the parser knows: the parser's own list of them, from its errors.
#[test]
fn the_schema_and_the_parser_know_the_same_keys() {
    let keys = |error: &str| -> Vec<String> {
        let (_, keys) = error.split_once("known keys: ").unwrap();
        let mut keys: Vec<String> = keys.split(", ").map(str::to_owned).collect();
        keys.sort();
        keys
    };
    let schema = json_schema();
    let properties = |pointer: &str| -> Vec<String> {
        let mut keys: Vec<String> =
            schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    for (from, to, pointer) in [
        ("pipeline: access", "pipeline: access\nzzzzzzzzzzzzzz: 1", "/properties"),
        ("partitions: 3", "zzzzzzzzzzzzzz: 3", "/$defs/topic/properties"),
        (
            "    file: typed.wasm",
            "    file: typed.wasm\n    zzzzzzzzzzzzzz: 1",
            "/$defs/plugin/oneOf/1/properties",
        ),
        ("call_timeout_ms: 50", "zzzzzzzzzzzzzz: 50", "/$defs/limits/properties"),
        ("    from: raw", "    from: raw\n    zzzzzzzzzzzzzz: 1", "/$defs/stage/properties"),
        ("    topic: raw", "    topic: raw\n    zzzzzzzzzzzzzz: 1", "/$defs/ingest/properties"),
        ("masked:\n", "masked:\n    zzzzzzzzzzzzzz: 1\n", "/$defs/view/properties"),
    ] {
        let text = if GOOD.contains(from) { GOOD } else { INLINES };
        let problem = &validated(&text.replacen(from, to, 1)).problems[0];
        assert_eq!(keys(problem.remedy.as_ref().unwrap()), properties(pointer), "{pointer}");
    }
    let runners = |part: &str| format!("pipeline: p\nplugins: {{a: a.wasm}}\n{part}\n");
    for (part, pointer) in [
        ("sinks: {s: {from: in, to: out, plugin: a, zzzzzzzzzzzzzz: 1}}", "/$defs/sink/properties"),
        ("sources: {s: {to: out, plugin: a, zzzzzzzzzzzzzz: 1}}", "/$defs/source/properties"),
    ] {
        let problem = &parse("p.yaml", &runners(part)).unwrap_err()[0];
        let mut known = keys(problem.remedy.as_ref().unwrap());
        // A list is read so that it can be said that there is to be one.
        known.retain(|key| key != "plugins");
        assert_eq!(known, properties(pointer), "{pointer}");
    }
}
