//! my-plugin: sends numbered records, one every so often, and goes on where it was.

use std::time::Duration;

use millstream_sdk::prelude::*;
use serde::Deserialize;

/// The pipeline's `config:`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What each record says in front of its number.
    text: String,
    /// Between two records.
    every_ms: u64,
    /// The number that the work is done with; without it, it goes on for ever.
    last: Option<u64>,
}

/// Told to stop, a call returns an error that `?` passes on.
#[source]
fn ticks(source: &mut Source, config: &Config) -> Result<()> {
    let mut number = match source.load_position()? {
        Some(position) => number_of(&position)?,
        None => 0,
    };
    while config.last.is_none_or(|last| number < last) {
        number += 1;
        source.send(Outgoing::new(format!("{} {number}", config.text)))?;
        // In one commit with the record.
        source.save_position(number.to_string())?;
        source.sleep(Duration::from_millis(config.every_ms))?;
    }
    Ok(())
}

fn number_of(position: &[u8]) -> Result<u64> {
    let number = std::str::from_utf8(position).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::stop("the saved position is no number"))
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::RunTest;

    use super::*;

    #[test]
    fn goes_on_where_it_was() {
        let config = Config { text: "tick".to_owned(), every_ms: 1000, last: Some(7) };
        let done = RunTest::new().position("5").sleeps(9).source(|source| ticks(source, &config));
        assert_eq!(done.result, Ok(()));
        assert_eq!(done.written, [Outgoing::new("tick 6"), Outgoing::new("tick 7")]);
        assert_eq!(done.position.as_deref(), Some(&b"7"[..]));
    }
}
