//! Consumes lines of comma separated values, counts them by one field, and writes each count behind the records that it
//! counts.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_sdk::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// From 0.
    field: usize,
}

#[sink]
fn counter(sink: &mut Sink, config: &Config) -> Result<()> {
    loop {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for message in sink.poll(1000, Duration::from_millis(500))? {
            let field = message.text()?.split(',').nth(config.field);
            *counts.entry(field.unwrap_or_default().to_owned()).or_default() += 1;
        }
        for (field, count) in counts {
            metrics::counter("counted", count)?;
            sink.send(Outgoing::new(count.to_string()).key(field))?;
        }
        sink.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::RunTest;

    use super::*;

    #[test]
    fn counts_are_written_with_the_offsets() {
        let test =
            RunTest::new().message("in", 0, 0, "a,x").message("in", 0, 1, "b,y").message("in", 1, 5, "c,x");
        let done = test.sink(|sink| counter(sink, &Config { field: 1 }));
        assert_eq!(done.result, Ok(()));
        let expect = [Outgoing::new("2").key("x"), Outgoing::new("1").key("y")];
        assert_eq!(done.written, expect);
        assert_eq!((done.committed("in", 0), done.committed("in", 1)), (Some(2), Some(6)));
        assert_eq!(done.counters["counted"], 3);
    }
}
