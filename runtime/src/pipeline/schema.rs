//! The JSON Schema of pipeline files, for editors. `docs/pipeline.schema.json` is this, kept in step by a test.

use serde_json::{Value, json};

use super::spec::GROUP_BYTES_MAX;
use crate::limits::PluginLimits;
use crate::stage::{PARALLELISM_MAX, PLUGINS_MAX, TOPICS_MAX};

/// The schema of the file that `parse` reads.
pub fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Millstream pipeline",
        "type": "object",
        "required": ["pipeline", "stages"],
        "additionalProperties": false,
        "properties": {
            "pipeline": { "$ref": "#/$defs/name", "description": "The pipeline's name" },
            "topics": section("#/$defs/topic", "Topics to create, by name"),
            "plugins": section("#/$defs/plugin", "WebAssembly components, by name"),
            "stages": stages(),
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
            "stage": stage(),
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

/// Without stages there would be nothing to run, and nothing to see.
fn stages() -> Value {
    let mut stages = section("#/$defs/stage", "What runs, by name");
    stages["type"] = json!("object");
    stages["minProperties"] = json!(1);
    stages
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
            },
        },
    ] })
}

fn limits() -> Value {
    let PluginLimits {
        memory_bytes_max,
        call_timeout_ms,
        init_timeout_ms,
        output_bytes_max,
        outputs_per_record_max,
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
        },
    })
}

fn stage() -> Value {
    let plugin_use = json!({
        "type": "object",
        "required": ["plugin"],
        "additionalProperties": false,
        "properties": { "plugin": { "$ref": "#/$defs/name" }, "config": {} },
    });
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
            "plugins": {
                "description": "One behind the other; without any the stage copies",
                "oneOf": [
                    { "$ref": "#/$defs/name" },
                    { "type": "array", "maxItems": PLUGINS_MAX,
                      "items": { "oneOf": [{ "$ref": "#/$defs/name" }, plugin_use] } },
                ],
            },
            "to": { "$ref": "#/$defs/topicNames", "description": "What it writes; the first is the default" },
            "group": { "type": ["string", "integer"], "minLength": 1, "maxLength": GROUP_BYTES_MAX, "description": "Its consumer group; default: PIPELINE.STAGE" },
            "parallelism": { "type": "integer", "minimum": 1, "maximum": PARALLELISM_MAX, "default": 1 },
            "compression": { "enum": names, "default": "none" },
            "on_error": {
                "description": "What happens to a record that a plugin rejects",
                "default": "stop",
                "oneOf": [
                    { "enum": ["stop", "skip"] },
                    { "type": "object", "required": ["dead_letter"], "additionalProperties": false,
                      "properties": { "dead_letter": { "$ref": "#/$defs/topicName" } } },
                ],
            },
        },
    })
}
