//! Replaces fields of records whose value is a JSON object by pseudonyms: the same value becomes the same pseudonym, and only
//! who has the key can say which. For a view that others may read and join, or for a topic that leaves the house.
//!
//! ```yaml
//! plugins:
//!   pseudonymize:
//!     file: pseudonymize.wasm
//!     grants: {secrets: [pseudonyms]}     # the key: 16 bytes or more, such as of `openssl rand -hex 32`
//! # and where it is used
//! config:
//!   fields: [user, email]
//! ```
//!
//! A pseudonym is the first half of an HMAC-SHA-256 (RFC 2104) of the field's name, a zero byte, and its value as compact JSON,
//! in 32 hexadecimal digits. Fields that are not there, or null, stay so. A record whose value is null goes on as it is; one
//! whose value is no JSON object is rejected: it would be shown.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use millstream_sdk::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::Sha256;

const KEY_BYTES_MIN: usize = 16;
const PSEUDONYM_BYTES: usize = 16;

/// The pipeline's `config:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    fields: Vec<String>,
    /// The name of the secret that is the key.
    #[serde(default = "key_name")]
    key: String,
}

fn key_name() -> String {
    "pseudonyms".to_owned()
}

struct Pseudonymize {
    fields: Vec<String>,
    mac: Hmac<Sha256>,
}

#[transform]
impl Transform for Pseudonymize {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let Config { fields, key } = config;
        if fields.is_empty() {
            return Err(Error::stop("`fields` names none"));
        }
        let secret = millstream_sdk::secret(&key)?;
        if secret.len() < KEY_BYTES_MIN {
            return Err(Error::stop(format!("the key {key:?} is shorter than {KEY_BYTES_MIN} bytes")));
        }
        let mac = Hmac::new_from_slice(&secret).map_err(|error| Error::stop(error.to_string()))?;
        Ok(Self { fields, mac })
    }

    fn record(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result<()> {
        if record.value().is_none() {
            out.keep(&record);
            return Ok(());
        }
        let mut object: Map<String, Value> = record.json()?;
        let mut made = 0;
        for field in &self.fields {
            if let Some(value) = object.get_mut(field).filter(|value| !value.is_null()) {
                *value = self.pseudonym(field, value).into();
                made += 1;
            }
        }
        metrics::counter("pseudonyms", made)?;
        out.record(&record).json(&object).emit()
    }
}

impl Pseudonymize {
    fn pseudonym(&self, field: &str, value: &Value) -> String {
        let mut mac = self.mac.clone();
        mac.update(field.as_bytes());
        mac.update(&[0]);
        mac.update(value.to_string().as_bytes());
        let bytes = mac.finalize().into_bytes();
        bytes.iter().take(PSEUDONYM_BYTES).fold(String::new(), |mut text, byte| {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::{Harness, Input};

    use super::Pseudonymize;

    const KEY: (&str, &str) = ("pseudonyms", "0123456789abcdef");

    #[test]
    fn equal_values_get_equal_pseudonyms_that_depend_on_the_key_and_the_field() {
        let pseudonyms = |key: &str, fields: &str, record: &str| {
            let config = format!(r#"{{"fields": {fields}}}"#);
            let mut harness = Harness::<Pseudonymize>::with_secrets(&config, [(KEY.0, key)]).unwrap();
            let outcome = harness.run([Input::value(record)]).unwrap();
            let value = outcome.outputs[0].json();
            (value, harness.counter("pseudonyms"))
        };
        let record = r#"{"a": "eve", "b": "eve", "c": null, "d": 7}"#;
        let (first, count) = pseudonyms(KEY.1, r#"["a", "b", "c", "absent"]"#, record);
        assert_eq!(count, 2);
        // openssl: printf 'a\0"eve"' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(first["a"], "7b5693144b864c204b54533739f77b11");
        assert!(first["a"] != first["b"] && first["c"].is_null() && first["d"] == 7);
        assert_eq!(pseudonyms(KEY.1, r#"["a"]"#, record).0["a"], first["a"]);
        assert_ne!(pseudonyms("another key, long enough", r#"["a"]"#, record).0["a"], first["a"]);
    }

    #[test]
    fn what_is_no_object_is_rejected_and_a_tombstone_goes_on() {
        let mut harness = Harness::<Pseudonymize>::with_secrets(r#"{"fields": ["a"]}"#, [KEY]).unwrap();
        let outcome = harness.run([Input::null(), Input::value("[]"), Input::value("eve")]).unwrap();
        assert_eq!((outcome.outputs.len(), outcome.rejected.len()), (1, 2));
    }

    #[test]
    fn without_a_proper_key_it_does_not_begin() {
        let new = |config: &str, key: (&str, &str)| {
            Harness::<Pseudonymize>::with_secrets(config, [key]).map(drop).unwrap_err().reason().to_owned()
        };
        let config = r#"{"fields": ["a"]}"#;
        assert!(new(config, ("other", KEY.1)).contains("no secret"));
        assert!(new(config, (KEY.0, "short")).contains("shorter"));
        assert!(new(r#"{"fields": []}"#, KEY).contains("names none"));
    }
}
