//! my-plugin: polls records, writes a summary of each poll, and commits.

use std::num::NonZeroU32;
use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run;
use serde::Deserialize;

/// The pipeline's `config:`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Records of one poll.
    at_most: NonZeroU32,
}

/// Told to stop, a call returns an error that `?` passes on.
#[sink]
fn summary(sink: &mut Sink, config: &Config) -> Result<()> {
    loop {
        let messages = sink.poll(config.at_most.get(), Duration::from_secs(1))?;
        if messages.is_empty() {
            continue;
        }
        let records = messages.len();
        let lengths = || messages.iter().map(|message| message.value().len());
        let (bytes, longest) = (lengths().sum::<usize>(), lengths().max().unwrap_or_default());
        metrics::counter("records", records as u64)?;
        sink.send(Outgoing::new(format!(
            r#"{{"records": {records}, "bytes": {bytes}, "longest": {longest}}}"#
        )))?;
        // Writes the summary, and then the offsets of what was polled. False means that the group has given the
        // partitions to another member, which gets these records again.
        sink.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::RunTest;

    use super::*;

    #[test]
    fn sums_up_what_it_polls() {
        let config = Config { at_most: NonZeroU32::new(10).unwrap() };
        let test = RunTest::new().message("in", 0, 0, "a").message("in", 0, 1, "bcd");
        let done = test.sink(|sink| summary(sink, &config));
        assert_eq!(done.written, [Outgoing::new(r#"{"records": 2, "bytes": 4, "longest": 3}"#)]);
        assert_eq!(done.committed("in", 0), Some(2));
    }
}
