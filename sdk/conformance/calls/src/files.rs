//! Files that are granted by name.

use serde_json::{Value, json};

use crate::Answer;
use crate::arguments::{shown, text, u32_of};
use crate::bindings::millstream::plugin::files;

pub fn make(name: &str, call: &Value) -> Option<Answer> {
    name.starts_with("files.").then(|| answer(name, call))
}

fn answer(name: &str, call: &Value) -> Answer {
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

fn file_error(error: files::Error) -> (&'static str, String) {
    match error {
        files::Error::NotGranted(says) => ("not-granted", says),
        files::Error::Invalid(says) => ("invalid", says),
        files::Error::Unavailable(says) => ("unavailable", says),
    }
}
