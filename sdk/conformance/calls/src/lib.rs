//! Every call of the contract that a plugin can make, by its name; and a source or sink that makes those which its
//! configuration lists, one after the other, and reports what each has answered. `README.md` of the kit describes both.
//!
//! A component imports what it can call: so there are several, which differ in the calls that they know.

#![cfg(target_family = "wasm")]

mod arguments;
mod consumer;
mod files;
mod host;
mod http;
mod positions;
mod producer;
mod secrets;
mod timers;
mod wasi;

use std::cell::RefCell;

use serde_json::{Value, json};

use self::bindings::exports::millstream::plugin::run::RunError;
use self::bindings::millstream::plugin::{log, producer as host_producer, timers as host_timers};

pub use consumer::make as consumer;
pub use files::make as files;
pub use host::make as host;
pub use http::make as http;
pub use positions::make as positions;
pub use producer::make as producer;
pub use secrets::make as secrets;
pub use timers::make as timers;

pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/0.2",
        world: "runner",
        pub_export_macro: true,
        default_bindings_module: "conformance_calls::bindings",
    });
}

/// Longest wait for being told to stop.
const WAIT_MS: u64 = 600_000;

/// What a call has answered: a value, or the name of the error and what it says.
pub type Answer = Result<Value, (&'static str, String)>;
/// Makes a call, if it knows that name.
pub type Calls = fn(&str, &Value) -> Option<Answer>;

thread_local! {
    /// The configuration, and what the calls of `init` have answered.
    static STATE: RefCell<Option<(Value, Vec<Value>)>> = const { RefCell::new(None) };
}

/// A plugin that knows these calls.
#[macro_export]
macro_rules! plugin {
    ($($calls:path),+) => {
        struct Conformance;

        impl $crate::bindings::exports::millstream::plugin::run::Guest for Conformance {
            fn init(config: String) -> Result<(), String> {
                $crate::init(&config, &[$($calls),+])
            }

            fn run() -> Result<(), $crate::bindings::exports::millstream::plugin::run::RunError> {
                $crate::run(&[$($calls),+])
            }
        }

        $crate::bindings::export!(Conformance);
    };
}

pub fn init(config: &str, known: &[Calls]) -> Result<(), String> {
    let config: Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
    if let Some(reason) = config["refuse"].as_str() {
        return Err(reason.to_owned());
    }
    let answers = answers(&config["init"], known);
    STATE.set(Some((config, answers)));
    Ok(())
}

pub fn run(known: &[Calls]) -> Result<(), RunError> {
    let Some((config, mut report)) = STATE.take() else {
        return Err(RunError::Stop("run without init".to_owned()));
    };
    report.extend(answers(&config["calls"], known));
    send_report(&report)?;
    if let last @ Value::Array(_) = &config["last"] {
        // It ends when the plugin is to stop.
        let _ = host_timers::sleep(WAIT_MS);
        for answer in answers(last, known) {
            log::log(log::Level::Info, &answer.to_string());
        }
    }
    match &config["end"] {
        Value::Null => Ok(()),
        end if end == &json!("trap") => panic!("told to trap"),
        end if end == &json!("spin") => loop {
            std::hint::black_box(0);
        },
        end => Err(match (end["retry"].as_str(), end["stop"].as_str()) {
            (Some(reason), _) => RunError::Retry(reason.to_owned()),
            (_, Some(reason)) => RunError::Stop(reason.to_owned()),
            _ => RunError::Stop(format!("{end} is no end")),
        }),
    }
}

/// Makes the calls, and says what each has answered.
pub fn answers(calls: &Value, known: &[Calls]) -> Vec<Value> {
    let answer = |call: &Value| {
        let name = arguments::text(&call["call"]);
        let answer = known.iter().find_map(|known| known(&name, call));
        match answer.unwrap_or_else(|| Err(("no-such-call", String::new()))) {
            Ok(value) => json!({"call": name, "ok": value}),
            Err((error, says)) => json!({"call": name, "err": error, "says": says}),
        }
    };
    calls.as_array().into_iter().flatten().map(answer).collect()
}

/// One message to the first of the `to:`, written at once.
fn send_report(report: &[Value]) -> Result<(), RunError> {
    let message = json!({"value": Value::Array(report.to_vec()).to_string()});
    let failed = |error| RunError::Stop(format!("the report was not written: {error:?}"));
    host_producer::send(&[arguments::outgoing(&message)]).map_err(failed)?;
    host_producer::flush().map_err(failed)
}
