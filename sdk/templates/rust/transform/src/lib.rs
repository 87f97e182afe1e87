//! my-plugin: keeps the records whose value contains a text, and masks another text in them.

use millstream_sdk::prelude::*;
use serde::Deserialize;

/// The pipeline's `config:`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What a record's value must contain.
    contains: String,
    /// What is masked in it.
    mask: Option<String>,
}

struct Filter(Config);

#[transform]
impl Transform for Filter {
    type Config = Config;

    /// An error refuses the configuration, and is shown to whoever deploys it.
    fn new(config: Config) -> Result<Self> {
        if config.contains.is_empty() || config.mask.as_ref().is_some_and(String::is_empty) {
            return Err(Error::stop("`contains` and `mask` must not be empty"));
        }
        Ok(Self(config))
    }

    /// A record that is not emitted is dropped. `?` on an error rejects the record.
    fn record(&mut self, record: Record, out: &mut Output) -> Result<()> {
        let Config { contains, mask } = &self.0;
        let text = record.text()?;
        if !text.contains(contains.as_str()) {
            return Ok(());
        }
        match mask {
            Some(mask) if text.contains(mask.as_str()) => {
                out.record(&record).value(text.replace(mask.as_str(), "***")).emit()
            }
            // As it is: this costs next to nothing.
            _ => {
                out.keep(&record);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::{Harness, Input};

    use super::Filter;

    #[test]
    fn keeps_and_masks() {
        let mut harness = Harness::<Filter>::new(r#"{"contains": "error", "mask": "hunter2"}"#).unwrap();
        let inputs = [Input::value("error: hunter2"), Input::value("fine"), Input::null()];
        let outcome = harness.run(inputs).unwrap();
        assert_eq!(outcome.outputs[0].text(), "error: ***");
        assert_eq!(outcome.outputs.len(), 1);
        assert_eq!(outcome.rejected[0].reason, "the value is null");
    }
}
