//! Where a source was.

use serde_json::Value;

use crate::Answer;
use crate::arguments::{bytes, shown};
use crate::bindings::millstream::plugin::positions;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    let done = |()| Value::Null;
    Some(match name {
        "positions.load" => {
            positions::load().map(|position| shown(position.as_deref())).map_err(position_error)
        }
        "positions.save" => {
            positions::save(&bytes(&call["position"]).unwrap_or_default()).map(done).map_err(position_error)
        }
        _ => return None,
    })
}

fn position_error(error: positions::Error) -> (&'static str, String) {
    match error {
        positions::Error::Stopping => ("stopping", String::new()),
        positions::Error::Invalid(says) => ("invalid", says),
        positions::Error::Unavailable(says) => ("unavailable", says),
    }
}
