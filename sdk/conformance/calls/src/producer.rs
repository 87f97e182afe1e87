//! Sending.

use serde_json::Value;

use crate::Answer;
use crate::arguments::{hexadecimal, outgoing};
use crate::bindings::millstream::plugin::producer;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    let done = |()| Value::Null;
    Some(match name {
        "producer.send" => {
            let messages: Vec<_> = call["messages"].as_array().into_iter().flatten().map(outgoing).collect();
            producer::send(&messages).map(done).map_err(producer_error)
        }
        "producer.send-packed" => {
            producer::send_packed(&hexadecimal(&call["messages"])).map(done).map_err(producer_error)
        }
        "producer.flush" => producer::flush().map(done).map_err(producer_error),
        _ => return None,
    })
}

fn producer_error(error: producer::Error) -> (&'static str, String) {
    match error {
        producer::Error::Stopping => ("stopping", String::new()),
        producer::Error::NotGranted(says) => ("not-granted", says),
        producer::Error::Invalid(says) => ("invalid", says),
        producer::Error::Unavailable(says) => ("unavailable", says),
    }
}
