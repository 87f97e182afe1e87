//! A transform in the plain form, which shows what it gets, or answers what its configuration says: `README.md` of the kit
//! describes both.

#![cfg(target_family = "wasm")]

use std::cell::RefCell;

use serde_json::{Value, json};

use self::bindings::exports::millstream::plugin::transform::{
    BatchError, BatchInfo, BatchOutput, Guest, Header, Message, MessageBody, Output, RejectedRecord,
};
use self::bindings::millstream::plugin::log;
use self::bindings::millstream::plugin::types::Position;

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/0.2", world: "transformer" });
}

struct Conformance;

thread_local! {
    /// The configuration, and how many batches there were.
    static STATE: RefCell<(Value, u64)> = const { RefCell::new((Value::Null, 0)) };
}

impl Guest for Conformance {
    fn init(config: String) -> Result<(), String> {
        let config: Value = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        if let Some(reason) = config["refuse"].as_str() {
            return Err(reason.to_owned());
        }
        log::log(log::Level::Info, "init");
        STATE.set((config, 0));
        Ok(())
    }

    fn transform(batch: BatchInfo, messages: Vec<Message>) -> Result<BatchOutput, BatchError> {
        let (config, number) = STATE.with_borrow_mut(|(config, number)| {
            *number += 1;
            (config.clone(), *number)
        });
        if number <= config["retry"]["times"].as_u64().unwrap_or_default() {
            return Err(BatchError::Retry("later".to_owned()));
        }
        if let Some(reason) = config["stop"].as_str() {
            return Err(BatchError::Stop(reason.to_owned()));
        }
        assert!(config["trap"].is_null(), "told to trap");
        let rejected = config["rejected"].as_array().into_iter().flatten().map(|rejected| RejectedRecord {
            index: index(&rejected["index"]),
            reason: text(&rejected["reason"]),
        });
        let outputs = match config["outputs"].as_array() {
            Some(outputs) => outputs.iter().map(output).collect(),
            None => messages.iter().zip(0..).map(|(message, index)| seen(&batch, message, index)).collect(),
        };
        Ok(BatchOutput { outputs, rejected: rejected.collect() })
    }
}

/// One record: everything that the plugin gets of it.
fn seen(batch: &BatchInfo, message: &Message, index: u32) -> Output {
    let Message { offset, timestamp, key, value, headers } = message;
    let header = |header: &Header| json!({"key": header.key, "value": shown(header.value.as_deref())});
    let seen = json!({
        "position": match batch.position {
            Position::Stream => "stream",
            Position::Ingest => "ingest",
            Position::View => "view",
        },
        "topic": batch.topic, "partition": batch.partition, "append_time": batch.append_time,
        "index": index, "offset": offset, "timestamp": timestamp,
        "key": shown(key.as_deref()), "value": shown(value.as_deref()),
        "headers": headers.iter().map(header).collect::<Vec<_>>(),
    });
    let value = Some(seen.to_string().into_bytes());
    let body = MessageBody { key: key.clone(), value, headers: headers.clone() };
    Output { index, topic: None, partition: None, timestamp: None, body: Some(body) }
}

/// One that the configuration says; without a `body` the record as it was.
fn output(output: &Value) -> Output {
    let body = |body: &Value| MessageBody {
        key: bytes(&body["key"]),
        value: bytes(&body["value"]),
        headers: body["headers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|header| Header { key: text(&header["key"]), value: bytes(&header["value"]) })
            .collect(),
    };
    Output {
        index: index(&output["index"]),
        topic: output["topic"].as_str().map(str::to_owned),
        partition: output["partition"].as_u64().and_then(|number| number.try_into().ok()),
        timestamp: output["timestamp"].as_i64(),
        body: output.get("body").map(body),
    }
}

fn index(value: &Value) -> u32 {
    value.as_u64().and_then(|number| number.try_into().ok()).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(|text| text.as_bytes().to_vec())
}

fn shown(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| String::from_utf8_lossy(bytes).into())
}

#[expect(unsafe_code, reason = "generated code")]
mod exported {
    use super::Conformance;

    crate::bindings::export!(Conformance with_types_in crate::bindings);
}
