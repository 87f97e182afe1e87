//! Reading what a dead letter topic holds now.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::error::KafkaError;

use super::letter::Letter;
use crate::cli::clock::Stopwatch;
use crate::cli::cluster::{Cluster, TopicPartition};
use crate::cli::connection::{Connection, REQUEST_TIMEOUT};
use crate::cli::consume::source::Source;
use crate::cli::consume::{POLL, is_passing};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::position::Position;

/// What a visitor of letters wants next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    Letter,
    /// Nothing more of this letter's partition.
    OtherPartition,
    End,
}

/// The offsets that the partitions of a topic, or one of them, hold now.
pub(super) fn held(
    cluster: &Cluster,
    topic: &str,
    partition: Option<i32>,
) -> Result<BTreeMap<i32, Range<i64>>, Failure> {
    let all: Vec<TopicPartition> = cluster.topic(topic)?.topic_partitions().collect();
    let mut wanted = all.clone();
    wanted.retain(|(_, index)| partition.is_none_or(|partition| partition == *index));
    if let (Some(partition), true) = (partition, wanted.is_empty()) {
        return Err(Failure::Client {
            action: format!("read {topic}"),
            reason: format!("there is no partition {partition}: it has {}, counted from 0", all.len()),
        });
    }
    let starts = cluster.offsets(&wanted, Position::Beginning)?;
    let ends = cluster.offsets(&wanted, Position::End)?;
    let range = |key: &TopicPartition| {
        let (start, end) = (starts.get(key).copied().unwrap_or(0), ends.get(key).copied().unwrap_or(0));
        (key.1, start..end)
    };
    Ok(wanted.iter().map(range).collect())
}

/// What is held from `position` on.
pub(super) fn from(
    cluster: &Cluster,
    topic: &str,
    mut held: BTreeMap<i32, Range<i64>>,
    position: Position,
) -> Result<BTreeMap<i32, Range<i64>>, Failure> {
    let partitions: Vec<TopicPartition> = held.keys().map(|index| (topic.to_owned(), *index)).collect();
    for ((_, partition), offset) in cluster.offsets(&partitions, position)? {
        if let Some(range) = held.get_mut(&partition) {
            range.start = offset.clamp(range.start, range.end);
        }
    }
    Ok(held)
}

/// Shows the letters to `visit` until it has seen enough, there are no more, or somebody interrupts. False in the last
/// case.
pub(super) fn read(
    connection: &Connection,
    topic: &str,
    ranges: &BTreeMap<i32, Range<i64>>,
    interrupt: &Interrupt,
    mut visit: impl FnMut(Letter) -> Result<Next, Failure>,
) -> Result<bool, Failure> {
    if ranges.values().all(Range::is_empty) {
        return Ok(true);
    }
    let mut source = Source::over(connection, topic, ranges)?;
    let mut quiet = Stopwatch::start();
    while !source.at_end() {
        if interrupt.requested() {
            return Ok(false);
        }
        match source.poll(POLL) {
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let is_wanted = ranges.get(&partition).is_some_and(|range| range.contains(&offset));
                let letter = (is_wanted && source.is_unread(partition)).then(|| Letter::of(&message));
                drop(message);
                source.passed(partition, offset);
                match letter.map(&mut visit).transpose()? {
                    Some(Next::End) => break,
                    Some(Next::OtherPartition) => source.reached_end(partition),
                    Some(Next::Letter) | None => {}
                }
                // A visit takes as long as the cluster takes for a chunk of a replay.
                quiet = Stopwatch::start();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => source.reached_end(partition),
            Some(Err(error)) if !is_passing(&error) => {
                return Err(Failure::kafka(format!("read {topic}"), &error));
            }
            Some(Err(_)) | None => still_waits(topic, quiet.seconds())?,
        }
    }
    Ok(true)
}

/// Whether more may come after so long without anything.
fn still_waits(topic: &str, quiet_seconds: f64) -> Result<(), Failure> {
    if quiet_seconds <= Duration::as_secs_f64(&REQUEST_TIMEOUT) {
        return Ok(());
    }
    let reason = format!("nothing came for {} s: try again", REQUEST_TIMEOUT.as_secs());
    Err(Failure::Client { action: format!("read {topic}"), reason })
}

/// The last letters of each partition, as many of all together at most.
pub(super) fn newest(held: &BTreeMap<i32, Range<i64>>, letters: u64) -> BTreeMap<i32, Range<i64>> {
    let share = i64::try_from(letters / held.len().max(1) as u64).unwrap_or(i64::MAX).max(1);
    let last = |(partition, range): (&i32, &Range<i64>)| {
        (*partition, range.end.saturating_sub(share).max(range.start)..range.end)
    };
    held.iter().map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_waited_for_as_long_as_an_answer() {
        assert!(still_waits("dead", REQUEST_TIMEOUT.as_secs_f64()).is_ok());
        let failure = still_waits("dead", REQUEST_TIMEOUT.as_secs_f64() + 0.1).unwrap_err();
        assert!(failure.to_string().starts_with("can't read dead: nothing came for "), "{failure}");
    }

    #[test]
    fn the_newest_are_the_last_of_each_partition() {
        let held = BTreeMap::from([(0, 10..100), (1, 95..100), (2, 0..0)]);
        assert_eq!(newest(&held, 30), BTreeMap::from([(0, 90..100), (1, 95..100), (2, 0..0)]));
        assert_eq!(newest(&held, 0), BTreeMap::from([(0, 99..100), (1, 99..100), (2, 0..0)]));
        assert_eq!(newest(&held, u64::MAX), held);
        assert_eq!(newest(&BTreeMap::new(), 5), BTreeMap::new());
    }
}
