//! Secrets that are granted by name.

use serde_json::Value;

use crate::Answer;
use crate::arguments::{shown, text};
use crate::bindings::millstream::plugin::secrets;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    name.starts_with("secrets.").then(|| answer(name, call))
}

fn answer(name: &str, call: &Value) -> Answer {
    let secret = secrets::get(&text(&call["name"])).map_err(secret_error)?;
    match name {
        "secrets.get" => Ok(Value::Null),
        "secrets.secret.reveal" => Ok(shown(Some(&secret.reveal().map_err(secret_error)?))),
        // No two hosts make the same one. It must be a text that can stand in a header, and not the secret.
        "secrets.secret.reference" => {
            let (reference, revealed) =
                (secret.reference().map_err(secret_error)?, secret.reveal().map_err(secret_error)?);
            let is_fit = !reference.is_empty() && reference.bytes().all(|byte| byte.is_ascii_graphic());
            Ok((is_fit && reference.as_bytes() != revealed).into())
        }
        _ => Err(("no-such-call", String::new())),
    }
}

fn secret_error(error: secrets::Error) -> (&'static str, String) {
    match error {
        secrets::Error::NotGranted(says) => ("not-granted", says),
        secrets::Error::Unavailable(says) => ("unavailable", says),
    }
}
