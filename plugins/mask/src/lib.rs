//! Hides fields of records whose value is a JSON object: for a view, or a topic that others may read.
//!
//! ```yaml
//! config:
//!   hide: [Source]                    # becomes ***
//!   remove: [EventID]                 # is not there any more
//!   round: {Latitude: 0, Longitude: 0}    # a number, to so many decimal places
//! ```
//!
//! What is not there stays so. A record whose value is null goes on as it is; one whose value is no JSON object is rejected,
//! and so is one whose field to be rounded is no number: it would be shown.

use std::collections::BTreeMap;

use millstream_sdk::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The pipeline's `config:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    hide: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    round: BTreeMap<String, u32>,
}

struct Mask(Config);

#[transform]
impl Transform for Mask {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let Config { hide, remove, round } = &config;
        if hide.is_empty() && remove.is_empty() && round.is_empty() {
            return Err(Error::stop("nothing is masked: name fields in `hide`, `remove` or `round`"));
        }
        if let Some((name, places)) = round.iter().find(|(_, places)| **places > 15) {
            return Err(Error::stop(format!(
                "`round` keeps {places} decimal places of {name:?}: use at most 15"
            )));
        }
        Ok(Self(config))
    }

    fn record(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result<()> {
        if record.value().is_none() {
            out.keep(&record);
            return Ok(());
        }
        let Config { hide, remove, round } = &self.0;
        let mut object: Map<String, Value> = record.json()?;
        for name in hide {
            if let Some(value) = object.get_mut(name) {
                *value = "***".into();
            }
        }
        for name in remove {
            object.remove(name);
        }
        for (name, places) in round {
            match object.get_mut(name) {
                None | Some(Value::Null) => {}
                Some(value) => *value = rounded(value, *places, name)?,
            }
        }
        out.record(&record).json(&object).emit()
    }
}

fn rounded(value: &Value, places: u32, name: &str) -> Result<Value> {
    let number = value.as_f64().ok_or_else(|| Error::reject(format!("{name} is no number")))?;
    let scale = 10f64.powi(i32::try_from(places).unwrap_or(i32::MAX));
    let rounded = (number * scale).round() / scale;
    Ok(if places == 0 { Value::from(rounded as i64) } else { Value::from(rounded) })
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::{Harness, Input};

    use super::Mask;

    #[test]
    fn fields_are_hidden_removed_and_rounded() {
        let config = r#"{"hide": ["a", "absent"], "remove": ["b"], "round": {"c": 1, "d": 0}}"#;
        let mut harness = Harness::<Mask>::new(config).unwrap();
        let inputs = [
            Input::value(r#"{"a": 1, "b": 2, "c": -3.14159, "d": 2.5, "e": "stays"}"#),
            Input::value(r#"{"c": null}"#),
            Input::null(),
            Input::value("[]"),
            Input::value(r#"{"c": "north"}"#),
        ];
        let outcome = harness.run(inputs).unwrap();
        let texts: Vec<_> = outcome.outputs.iter().map(|output| output.value.as_deref()).collect();
        let expected = [r#"{"a":"***","c":-3.1,"d":3,"e":"stays"}"#, r#"{"c":null}"#].map(str::as_bytes);
        assert_eq!(texts, [Some(expected[0]), Some(expected[1]), None]);
        assert_eq!(outcome.rejected.len(), 2);
        assert_eq!(outcome.rejected[1].reason, "c is no number");
    }

    #[test]
    fn a_mask_that_hides_nothing_is_refused() {
        for config in ["{}", r#"{"round": {"a": 16}}"#, r#"{"hidden": ["a"]}"#] {
            assert!(Harness::<Mask>::new(config).is_err(), "{config}");
        }
    }
}
