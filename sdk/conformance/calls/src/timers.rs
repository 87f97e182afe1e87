//! What a source or a sink may wait for.

use serde_json::Value;

use crate::Answer;
use crate::bindings::millstream::plugin::timers;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    match name {
        "timers.sleep" => {
            let slept = timers::sleep(call["milliseconds"].as_u64().unwrap_or_default());
            Some(slept.map(|()| Value::Null).map_err(timer_error))
        }
        "timers.stopping" => Some(Ok(timers::stopping().into())),
        _ => None,
    }
}

fn timer_error(error: timers::Error) -> (&'static str, String) {
    match error {
        timers::Error::Stopping => ("stopping", String::new()),
        timers::Error::Unavailable(says) => ("unavailable", says),
    }
}
