//! A transform in the fast form, which shows what it gets, or answers what its configuration says: `README.md` of the kit
//! describes both. It reads and writes the packed encodings by itself, as the contract describes them.

#![cfg(target_family = "wasm")]

mod packed;

use std::cell::RefCell;

use serde_json::{Value, json};

use self::bindings::exports::millstream::plugin::transform_batch::{
    BatchError, BatchInfo, BatchOutput, Guest, RejectedRecord,
};
use self::bindings::millstream::plugin::log;
use self::bindings::millstream::plugin::types::Position;
use self::packed::{Reader, Record, put_bytes, put_varint};

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/0.2", world: "batch-transformer" });
}

/// An output has a body of its own.
const BODY: u8 = 0x01;

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

    fn transform(batch: BatchInfo, records: Vec<u8>) -> Result<BatchOutput, BatchError> {
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
            index: rejected["index"].as_u64().and_then(|number| number.try_into().ok()).unwrap_or_default(),
            reason: rejected["reason"].as_str().unwrap_or_default().to_owned(),
        });
        let rejected = rejected.collect();
        let outputs = match config["packed"].as_str() {
            Some(digits) => hexadecimal(digits),
            None => seen(&batch, &records).map_err(BatchError::Stop)?,
        };
        Ok(BatchOutput { outputs, rejected })
    }
}

/// One output for each record: everything that the plugin gets of it.
fn seen(batch: &BatchInfo, records: &[u8]) -> Result<Vec<u8>, String> {
    let mut outputs = Vec::new();
    let mut reader = Reader::new(records);
    let mut index = 0u32;
    while let Some(record) = reader.record().map_err(|error| format!("record {index}: {error}"))? {
        let Record { timestamp_delta, offset_delta, key, value, headers } = record;
        let header = |(key, value): &(String, Option<&[u8]>)| json!({"key": key, "value": shown(*value)});
        let seen = json!({
            "position": match batch.position {
                Position::Stream => "stream",
                Position::Ingest => "ingest",
                Position::View => "view",
            },
            "topic": batch.topic, "partition": batch.partition, "append_time": batch.append_time,
            "index": index,
            "offset": batch.base_offset + i64::from(offset_delta),
            "timestamp": batch.base_timestamp + timestamp_delta,
            "key": shown(key), "value": shown(value),
            "headers": headers.iter().map(header).collect::<Vec<_>>(),
        });
        let mut body = Vec::new();
        put_bytes(&mut body, key);
        put_bytes(&mut body, Some(seen.to_string().as_bytes()));
        put_varint(&mut body, i32::try_from(headers.len()).unwrap_or(i32::MAX));
        for (key, value) in headers {
            put_bytes(&mut body, Some(key.as_bytes()));
            put_bytes(&mut body, value);
        }
        outputs.push(BODY);
        put_varint(&mut outputs, 1);
        put_bytes(&mut outputs, Some(&body));
        index += 1;
    }
    if index != batch.record_count {
        return Err(format!("{index} records, and not the {} that the batch says", batch.record_count));
    }
    Ok(outputs)
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte =
        |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.chunks(2).filter_map(byte).collect()
}

fn shown(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| String::from_utf8_lossy(bytes).into())
}

#[expect(unsafe_code, reason = "generated code")]
mod exported {
    use super::Conformance;

    crate::bindings::export!(Conformance with_types_in crate::bindings);
}
