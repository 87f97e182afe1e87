//! What is granted by name: files and secrets, which are resources of the contract.

use serde_json::{Value, json};

use crate::Answer;
use crate::arguments::{shown, text, u32_of};
use crate::bindings::millstream::plugin::{files, secrets};

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    match name.split_once('.')?.0 {
        "files" => Some(files(name, call)),
        "secrets" => Some(secrets(name, call)),
        _ => None,
    }
}

fn files(name: &str, call: &Value) -> Answer {
    let open = || files::open(&text(&call["name"])).map_err(file_error);
    match name {
        // So many at a time.
        "files.open" => {
            let mut opened = Vec::new();
            for _ in 0..call["times"].as_u64().unwrap_or(1) {
                opened.push(open()?);
            }
            Ok(json!(opened.len()))
        }
        "files.file.size" => open()?.size().map(|size| json!(size)).map_err(file_error),
        "files.file.read" => {
            let offset = call["offset"].as_u64().unwrap_or_default();
            let read = open()?.read(offset, u32_of(&call["max_bytes"])).map_err(file_error)?;
            Ok(shown(Some(&read)))
        }
        _ => Err(("no-such-call", String::new())),
    }
}

fn secrets(name: &str, call: &Value) -> Answer {
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

fn file_error(error: files::Error) -> (&'static str, String) {
    match error {
        files::Error::NotGranted(says) => ("not-granted", says),
        files::Error::Invalid(says) => ("invalid", says),
        files::Error::Unavailable(says) => ("unavailable", says),
    }
}

fn secret_error(error: secrets::Error) -> (&'static str, String) {
    match error {
        secrets::Error::NotGranted(says) => ("not-granted", says),
        secrets::Error::Unavailable(says) => ("unavailable", says),
    }
}
