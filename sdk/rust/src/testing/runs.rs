//! Runs a producer or consumer plugin under plain `cargo test`.

use std::collections::BTreeMap;

use crate::run::http::{Request, Response};
use crate::run::memory::{self, Host};
use crate::run::{Message, Outgoing, Partition, Sink, Source};
use crate::{Error, Result};

/// What a run finds. When there is nothing left to poll, or to wait for, the plugin is told to stop.
///
/// ```
/// # use std::time::Duration;
/// # use millstream_sdk::prelude::*;
/// use millstream_sdk::testing::RunTest;
/// # #[sink]
/// # fn copy(sink: &mut Sink) -> Result<()> {
/// #     loop {
/// #         for message in sink.poll(10, Duration::ZERO)? {
/// #             sink.send(Outgoing::new(message.value()))?;
/// #         }
/// #         sink.commit()?;
/// #     }
/// # }
/// let done = RunTest::new().message("in", 0, 7, "hello").sink(copy);
/// assert_eq!(done.result, Ok(()));
/// assert_eq!(done.written[0].value(), b"hello");
/// assert_eq!(done.committed("in", 0), Some(8));
/// ```
#[derive(Default)]
pub struct RunTest(Host);

/// What came of a run.
#[derive(Debug)]
pub struct RunDone {
    /// What the function returned; to have been told to stop is no error.
    pub result: Result<()>,
    /// In the order in which they were sent; what was sent behind the last commit of a sink is not among them.
    pub written: Vec<Outgoing>,
    /// What a source has saved.
    pub position: Option<Vec<u8>>,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
    /// What was measured, as it was last.
    pub gauges: BTreeMap<String, f64>,
    /// What went into histograms: all values, in their order.
    pub histograms: BTreeMap<String, Vec<f64>>,
    committed: BTreeMap<Partition, i64>,
    rejected: BTreeMap<(Partition, i64), String>,
}

impl RunTest {
    /// With nothing at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more message to be polled.
    #[must_use]
    pub fn message(mut self, topic: &str, partition: u32, offset: i64, value: impl Into<Vec<u8>>) -> Self {
        let (topic, value) = (topic.to_owned(), Some(value.into()));
        self.0.input.push_back(Message { topic, partition, offset, value, ..Message::default() });
        self
    }

    /// One more header of the message that was added last.
    #[must_use]
    pub fn header(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        if let Some(message) = self.0.input.back_mut() {
            message.headers.push((key.to_owned(), Some(value.into())));
        }
        self
    }

    /// The position that a source has saved before.
    #[must_use]
    pub fn position(mut self, position: impl Into<Vec<u8>>) -> Self {
        self.0.position = Some(position.into());
        self
    }

    /// So many waits come to their end before the plugin is told to stop.
    #[must_use]
    pub fn sleeps(mut self, count: u32) -> Self {
        self.0.sleeps_left = count;
        self
    }

    /// A granted secret.
    #[must_use]
    pub fn secret(mut self, name: &str, secret: impl Into<Vec<u8>>) -> Self {
        self.0.secrets.insert(name.to_owned(), secret.into());
        self
    }

    /// A granted file.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.0.files.insert(name.to_owned(), content.into());
        self
    }

    /// What answers the requests of the plugin.
    #[must_use]
    pub fn http(mut self, server: impl FnMut(&Request) -> Result<Response> + 'static) -> Self {
        self.0.server = Some(Box::new(server));
        self
    }

    /// Runs a consumer plugin.
    pub fn sink(self, run: impl FnOnce(&mut Sink) -> Result<()>) -> RunDone {
        self.done(|| run(&mut Sink(())), false)
    }

    /// Runs a producer plugin.
    pub fn source(self, run: impl FnOnce(&mut Source) -> Result<()>) -> RunDone {
        self.done(|| run(&mut Source(())), true)
    }

    fn done(self, run: impl FnOnce() -> Result<()>, writes_rest: bool) -> RunDone {
        let (result, host) = memory::with(self.0, run);
        let Host {
            mut sent, mut written, committed, rejected, position, counters, gauges, histograms, ..
        } = host;
        if writes_rest {
            written.append(&mut sent);
        }
        let result = if result == Err(Error::Stopping) { Ok(()) } else { result };
        RunDone { result, written, position, counters, gauges, histograms, committed, rejected }
    }
}

impl RunDone {
    /// Why a sink has rejected that record; none, if it has not.
    pub fn rejected(&self, topic: &str, partition: u32, offset: i64) -> Option<&str> {
        let partition = Partition { topic: topic.to_owned(), partition };
        self.rejected.get(&(partition, offset)).map(String::as_str)
    }

    /// What a sink has committed of a partition: the next offset to be read.
    pub fn committed(&self, topic: &str, partition: u32) -> Option<i64> {
        self.committed.get(&Partition { topic: topic.to_owned(), partition }).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn picky(sink: &mut Sink) -> Result<()> {
        sink.subscribe(&["in"])?;
        loop {
            for message in sink.poll(1, Duration::ZERO)? {
                match message.text() {
                    Ok(_) => sink.send(Outgoing::new(message.value()))?,
                    Err(error) => sink.reject(&message, error.reason())?,
                }
            }
            sink.commit()?;
        }
    }

    #[test]
    fn a_rejected_record_is_committed_and_remembered() {
        let test = RunTest::new().message("in", 0, 5, "a").message("in", 0, 6, b"\xff".to_vec());
        let done = test.message("other", 0, 1, "not asked for").message("in", 0, 7, "b").sink(picky);
        assert_eq!(done.result, Ok(()));
        assert_eq!(done.written.iter().map(Outgoing::value).collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!((done.committed("in", 0), done.committed("other", 0)), (Some(8), None));
        assert!(done.rejected("in", 0, 6).is_some_and(|reason| reason.contains("UTF-8")), "{done:?}");
        assert_eq!(done.rejected("in", 0, 5), None);
    }

    #[test]
    fn what_is_committed_can_not_be_rejected_any_more() {
        let late = |sink: &mut Sink| {
            let messages = sink.poll(10, Duration::ZERO)?;
            sink.commit()?;
            sink.reject(&messages[0], "too late")
        };
        let done = RunTest::new().message("in", 0, 5, "a").sink(late);
        assert!(done.result.is_err() && done.rejected("in", 0, 5).is_none(), "{done:?}");
    }
}
