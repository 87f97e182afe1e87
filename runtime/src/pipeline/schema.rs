//! The JSON Schema of pipeline files, for editors. `docs/pipeline.schema.json` is this, kept in step by a test.

use serde_json::{Value, json};

use super::spec::{
    BUDGET_MS_MAX, GROUP_BYTES_MAX, INGEST_BUDGET_MS, RETRIES_MAX, RETRY_BACKOFF_MS_MAX, VIEW_BUDGET_MS,
};
use crate::limits::{HTTP_REQUESTS_CEILING, PluginLimits};
use crate::stage::{PARALLELISM_MAX, PLUGINS_MAX, RetryPolicy, TOPICS_MAX};

/// The schema of the file that `parse` reads.
pub fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Millstream pipeline",
        "type": "object",
        "required": ["pipeline"],
        "anyOf": [{ "required": ["sources"] }, { "required": ["stages"] }, { "required": ["sinks"] }, { "required": ["ingests"] }, { "required": ["views"] }],
        "additionalProperties": false,
        "properties": {
            "pipeline": { "$ref": "#/$defs/name", "description": "The pipeline's name" },
            "topics": section("#/$defs/topic", "Topics to create, by name"),
            "plugins": section("#/$defs/plugin", "WebAssembly components, by name"),
            "stages": section("#/$defs/stage", "What carries records from topics to topics, by name"),
            "sources": section("#/$defs/source", "Producer plugins, by name"),
            "sinks": section("#/$defs/sink", "Consumer plugins, by name"),
            "ingests": section("#/$defs/ingest", "What stands in front of topics, by name"),
            "views": section("#/$defs/view", "What readers see of topics, by the name that they read"),
        },
        "$defs": {
            "name": { "type": "string", "pattern": "^[a-zA-Z0-9._-]{1,100}$" },
            "topicName": { "type": ["string", "integer"], "pattern": "^[a-zA-Z0-9._-]{1,249}$" },
            "topicNames": { "oneOf": [
                { "$ref": "#/$defs/topicName" },
                { "type": "array", "items": { "$ref": "#/$defs/topicName" }, "minItems": 1, "maxItems": TOPICS_MAX },
            ] },
            "topic": topic(),
            "plugin": plugin(),
            "limits": limits(),
            "grants": grants(),
            "source": runner(&["plugin", "to"]),
            "sink": runner(&["plugin", "from"]),
            "stage": stage(),
            "ingest": ingest(),
            "view": view(),
        },
    })
}

fn section(items: &str, description: &str) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[a-zA-Z0-9._-]+$" },
        "additionalProperties": { "$ref": items },
    })
}

fn topic() -> Value {
    json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "partitions": { "type": "integer", "minimum": 1, "description": "Default: the broker's" },
            "config": {
                "description": "Kafka's topic configuration, such as retention.ms",
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "number", "boolean"] },
            },
        },
    })
}

fn plugin() -> Value {
    json!({ "oneOf": [
        { "type": "string", "description": "Path of the component, relative to this file" },
        {
            "type": "object",
            "required": ["file"],
            "additionalProperties": false,
            "properties": {
                "file": { "type": "string", "description": "Path of the component, relative to this file" },
                "config": { "description": "Configuration where a stage states none" },
                "limits": { "$ref": "#/$defs/limits" },
                "grants": { "$ref": "#/$defs/grants" },
            },
        },
    ] })
}

fn grants() -> Value {
    json!({
        "type": ["object", "null"],
        "description": "What a producer or consumer plugin may use beyond its topics",
        "additionalProperties": false,
        "properties": {
            "secrets": { "description": "Names of files in plugin.secrets.dir",
                "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "files": { "description": "Paths below plugin.files.dirs, by the names that the plugin knows",
                "type": ["object", "null"], "additionalProperties": { "type": "string" } },
            "http": { "description": "Hosts that it may call: https://HOST, http://HOST:PORT, https://*.DOMAIN",
                "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
        },
    })
}

/// A source or a sink.
fn runner(required: &[&str]) -> Value {
    let names = millstream_record::Compression::ALL.map(millstream_record::Compression::name);
    let mut runner = json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": {
            "plugin": { "$ref": "#/$defs/name" },
            "config": { "description": "The configuration of \"plugin\"" },
            "to": { "$ref": "#/$defs/topicNames", "description": "What it writes; the first is the default" },
            "compression": { "enum": names, "default": "none" },
        },
    });
    if required.contains(&"from") {
        let stage = stage();
        for key in ["from", "group", "parallelism", "on_error"] {
            runner["properties"][key] = stage["properties"][key].clone();
        }
    }
    runner
}

fn limits() -> Value {
    let PluginLimits {
        memory_bytes_max,
        call_timeout_ms,
        init_timeout_ms,
        output_bytes_max,
        outputs_per_record_max,
        cpu_percent_max,
        handles_max,
        table_elements_max,
        log_lines_per_second_max,
        http_requests_max,
    } = PluginLimits::default();
    json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "memory_bytes_max": { "type": "integer", "minimum": 65536, "default": memory_bytes_max },
            "call_timeout_ms": { "type": "integer", "minimum": 1, "default": call_timeout_ms },
            "init_timeout_ms": { "type": "integer", "minimum": 1, "default": init_timeout_ms },
            "output_bytes_max": { "type": "integer", "minimum": 1024, "default": output_bytes_max },
            "outputs_per_record_max": { "type": "integer", "minimum": 1, "default": outputs_per_record_max },
            "cpu_percent_max": { "type": "integer", "minimum": 1, "maximum": cpu_percent_max, "default": cpu_percent_max,
                "description": "Of one core, by all instances of the plugin in its part of the pipeline, on each node" },
            "handles_max": { "type": "integer", "minimum": 1, "default": handles_max },
            "table_elements_max": { "type": "integer", "minimum": 1, "maximum": table_elements_max, "default": table_elements_max },
            "log_lines_per_second_max": { "type": "integer", "minimum": 1, "default": log_lines_per_second_max },
            "http_requests_max": { "type": "integer", "minimum": 1, "maximum": HTTP_REQUESTS_CEILING, "default": http_requests_max,
                "description": "At a time, of all instances together" },
        },
    })
}

/// The keys that name a part's plugins.
fn plugins(description: &str) -> Value {
    let plugin_use = json!({
        "type": "object",
        "required": ["plugin"],
        "additionalProperties": false,
        "properties": { "plugin": { "$ref": "#/$defs/name" }, "config": {} },
    });
    json!({
        "description": description,
        "oneOf": [
            { "$ref": "#/$defs/name" },
            { "type": "array", "maxItems": PLUGINS_MAX,
              "items": { "oneOf": [{ "$ref": "#/$defs/name" }, plugin_use] } },
        ],
    })
}

/// An ingest or a view.
fn inline(topic: &str, description: &str, budget_ms: i64, on_error: [&str; 2]) -> Value {
    json!({
        "type": "object",
        "required": [topic],
        "oneOf": [{ "required": ["plugin"] }, { "required": ["plugins"] }],
        "additionalProperties": false,
        "properties": {
            topic: { "$ref": "#/$defs/topicName", "description": description },
            "plugin": { "$ref": "#/$defs/name" },
            "config": { "description": "The configuration of \"plugin\"" },
            "plugins": plugins("One behind the other"),
            "budget_ms": { "type": "integer", "minimum": 1, "maximum": BUDGET_MS_MAX, "default": budget_ms,
                "description": "How long a batch may take" },
            "parallelism": { "type": "integer", "minimum": 1, "maximum": PARALLELISM_MAX, "default": 1 },
            "on_error": { "enum": on_error, "default": on_error[0],
                "description": "What happens to a record that a plugin rejects" },
        },
    })
}

fn ingest() -> Value {
    let mut ingest =
        inline("topic", "Whose records it gets before they are stored", INGEST_BUDGET_MS, ["refuse", "skip"]);
    ingest["properties"]["on_error"] = json!({
        "description": "What happens to a record that a plugin rejects",
        "default": "refuse",
        "oneOf": [{ "enum": ["refuse", "skip"] }, dead_letter()],
    });
    ingest["properties"]["on_failure"] = json!({ "enum": ["refuse", "pass"], "default": "refuse",
        "description": "What happens to a batch whose plugin crashed or is late" });
    ingest
}

fn view() -> Value {
    inline("from", "Whose records it shows", VIEW_BUDGET_MS, ["skip", "stop"])
}

fn dead_letter() -> Value {
    json!({ "type": "object", "required": ["dead_letter"], "additionalProperties": false,
        "properties": { "dead_letter": { "$ref": "#/$defs/topicName" } } })
}

fn stage() -> Value {
    let retry = RetryPolicy::default();
    let names = millstream_record::Compression::ALL.map(millstream_record::Compression::name);
    json!({
        "type": "object",
        "required": ["from", "to"],
        "additionalProperties": false,
        "not": { "required": ["plugin", "plugins"] },
        "properties": {
            "from": { "$ref": "#/$defs/topicNames", "description": "What it reads" },
            "plugin": { "$ref": "#/$defs/name" },
            "config": { "description": "The configuration of \"plugin\"" },
            "plugins": plugins("One behind the other; without any the stage copies"),
            "to": { "$ref": "#/$defs/topicNames", "description": "What it writes; the first is the default" },
            "group": { "type": ["string", "integer"], "minLength": 1, "maxLength": GROUP_BYTES_MAX, "description": "Its consumer group; default: PIPELINE.STAGE" },
            "parallelism": { "type": "integer", "minimum": 1, "maximum": PARALLELISM_MAX, "default": 1 },
            "compression": { "enum": names, "default": "none" },
            "retries": { "type": "integer", "minimum": 0, "maximum": RETRIES_MAX, "default": retry.retries,
                "description": "How often in a row a plugin may ask for a batch later; then its records count as rejected" },
            "retry_backoff_ms": { "type": "integer", "minimum": 1, "maximum": RETRY_BACKOFF_MS_MAX,
                "default": retry.backoff.as_millis() as u64, "description": "The first wait; doubled with each retry" },
            "retry_backoff_max_ms": { "type": "integer", "minimum": 1, "maximum": RETRY_BACKOFF_MS_MAX,
                "default": retry.backoff_max.as_millis() as u64 },
            "on_error": {
                "description": "What happens to a record that a plugin rejects, or crashes at",
                "default": "stop",
                "oneOf": [{ "enum": ["stop", "skip"] }, dead_letter()],
            },
        },
    })
}
