//! A transform that makes the calls which its configuration lists, in `init` and with its first batch, and writes what each has
//! answered: `README.md` of the kit describes it.

#![cfg(target_family = "wasm")]

use std::cell::RefCell;

use conformance_calls::{answers, host, secrets};
use serde_json::Value;

use self::bindings::exports::millstream::plugin::transform::{
    BatchError, BatchInfo, BatchOutput, Guest, Message, MessageBody, Output,
};

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/0.2", world: "transformer" });
}

const KNOWN: [conformance_calls::Calls; 2] = [host, secrets];

struct Conformance;

thread_local! {
    /// The configuration, and what the calls of `init` have answered; none, when they are written.
    static STATE: RefCell<Option<(Value, Vec<Value>)>> = const { RefCell::new(None) };
}

impl Guest for Conformance {
    fn init(config: String) -> Result<(), String> {
        let config: Value = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let report = answers(&config["init"], &KNOWN);
        STATE.set(Some((config, report)));
        Ok(())
    }

    fn transform(_batch: BatchInfo, messages: Vec<Message>) -> Result<BatchOutput, BatchError> {
        let state = STATE.take();
        let reported = state.map(|(config, mut report)| {
            report.extend(answers(&config["calls"], &KNOWN));
            let value = Some(Value::Array(report).to_string().into_bytes());
            let body = MessageBody { key: None, value, headers: Vec::new() };
            Output { index: 0, topic: None, partition: None, timestamp: None, body: Some(body) }
        });
        // Of the records there is always one.
        assert!(!messages.is_empty(), "a batch without records");
        Ok(BatchOutput { outputs: reported.into_iter().collect(), rejected: Vec::new() })
    }
}

#[expect(unsafe_code, reason = "generated code")]
mod exported {
    use super::Conformance;

    crate::bindings::export!(Conformance with_types_in crate::bindings);
}
