//! `millstream dlq replay`: letters become records again, where they came from.
//!
//! Letters are sent in chunks. When the cluster has all of a chunk, the place behind it is committed. A replay ends at a
//! letter that can't be sent: what is before it in each partition is committed, the rest is sent the next time, once more
//! where the cluster has taken it already.

mod delivery;
mod filter;
mod report;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use clap::Args;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};

use self::delivery::{Deliveries, Place, Refused, positions};
use self::filter::Filter;
use self::report::Report;
use super::letter::{Error, Letter};
use super::reader::{self, Next};
use crate::cli::cluster::{Cluster, TopicPartition};
use crate::cli::connection::Connection;
use crate::cli::delivery::DeliveryContext;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{Output, remark};
use crate::cli::position::Position;
use crate::cli::produce::{deliver_rest, producer};

/// Letters, and bytes of them, that are sent before the cluster is waited for.
const CHUNK_LETTERS_MAX: u64 = 500;
const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The client compares it with a record as it is, and its topic's limit is about the compressed one: that is the
/// cluster's to say.
const MESSAGE_BYTES_MAX: &str = "1000000000";

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    connection: Connection,

    /// A dead letter topic: `millstream dlq list` shows them
    topic: String,

    #[command(flatten)]
    filter: Filter,

    /// Write to this topic rather than to those that the letters came from
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,

    /// Give the records the time of now: for topics that do not take the original one
    #[arg(long)]
    new_timestamps: bool,

    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &ReplayArgs, output: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::watch().map_err(Failure::Signals)?;
    let cluster = Cluster::connect(&args.connection)?;
    if args.to.as_ref() == Some(&args.topic) {
        return Err(Failure::Usage(
            "--to is the topic that the letters lie in: there they are already".to_owned(),
        ));
    }
    let held = reader::held(&cluster, &args.topic, args.filter.partition)?;
    // A filtered replay is for some letters; what the others wait for is not its business.
    let group = args.filter.is_empty().then(|| format!("millstream-dlq-replay.{}", args.topic));
    let progress = match &group {
        Some(group) => Some(Cluster::connect_for_group(&args.connection, group)?),
        None => None,
    };
    let ranges = ranges(args, &cluster, held, progress.as_ref())?;
    let deliveries = Arc::new(Deliveries::default());
    let settings = [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        // What fitted its topic compressed is to fit it again.
        ("compression.type", "zstd"),
        ("message.max.bytes", MESSAGE_BYTES_MAX),
    ];
    let mut replay = Replay {
        args,
        cluster: &cluster,
        producer: producer(&args.connection, &settings, DeliveryContext(Arc::clone(&deliveries)))?,
        deliveries,
        progress,
        targets: BTreeMap::new(),
        chunk: Chunk::default(),
        report: Report::new(&args.topic, group, args.dry_run),
    };
    let read =
        reader::read(&args.connection, &args.topic, &ranges, &interrupt, |letter| replay.take(&letter));
    let replayed = match read {
        Ok(whole) => replay.end(whole, &ranges),
        // What was sent before counts. A letter that was not taken is in front of what failed now.
        Err(failure) => replay.end_chunk().and(Err(failure)),
    };
    let Replay { mut report, deliveries, .. } = replay;
    if !args.dry_run {
        report.delivered = deliveries.delivered();
    }
    report.interrupted = interrupt.requested();
    if report.group.is_some() {
        // Nothing that was done is worth less for not knowing this.
        report.left = left(args, &cluster, &ranges, &report.positions).ok();
    }
    // Also of a replay that failed, which is the failure to tell then.
    let printed = report.print(output);
    replayed.and(printed)
}

/// What is looked at: from where the last replay came to, or from where the filter says.
fn ranges(
    args: &ReplayArgs,
    cluster: &Cluster,
    mut held: BTreeMap<i32, Range<i64>>,
    progress: Option<&Cluster>,
) -> Result<BTreeMap<i32, Range<i64>>, Failure> {
    if let Some(progress) = progress {
        let partitions: Vec<TopicPartition> = held.keys().map(|index| (args.topic.clone(), *index)).collect();
        let committed = progress.committed(&partitions)?;
        let committed =
            committed.into_iter().map(|((_, partition), committed)| (partition, committed.offset));
        let from_start = go_on(&mut held, &committed.collect());
        if !from_start.is_empty() {
            remark(begins_at_start(&from_start));
        }
        return Ok(held);
    }
    if let (Some(partition), Some(offset)) = (args.filter.partition, args.filter.offset) {
        let range = held.get(&partition).filter(|range| range.contains(&offset));
        if range.is_none() {
            let action = format!("read {}", args.topic);
            let reason = format!("there is no letter at partition {partition} offset {offset}");
            return Err(Failure::Client { action, reason });
        }
        return Ok(BTreeMap::from([(partition, offset..offset + 1)]));
    }
    reader::from(cluster, &args.topic, held, args.filter.from.unwrap_or(Position::Beginning))
}

/// Lets what is `held` begin where it was `committed`. The partitions with letters of which nothing is committed.
fn go_on(held: &mut BTreeMap<i32, Range<i64>>, committed: &BTreeMap<i32, i64>) -> Vec<i32> {
    let mut from_start = Vec::new();
    for (partition, range) in held {
        match committed.get(partition) {
            Some(offset) => range.start = (*offset).clamp(range.start, range.end),
            None if range.is_empty() => {}
            None => from_start.push(*partition),
        }
    }
    from_start
}

fn begins_at_start(partitions: &[i32]) -> String {
    let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
    format!(
        "begins with the first letter of partition {}: no replay is remembered there (it is forgotten when nobody \
         replays for the cluster's offsets.retention.minutes)",
        partitions.join(", ")
    )
}

/// Letters that wait for the next replay.
fn left(
    args: &ReplayArgs,
    cluster: &Cluster,
    ranges: &BTreeMap<i32, Range<i64>>,
    positions: &BTreeMap<i32, i64>,
) -> Result<u64, Failure> {
    let held = reader::held(cluster, &args.topic, None)?;
    let wait = held.iter().map(|(partition, held)| {
        let from = positions.get(partition).copied().or(ranges.get(partition).map(|range| range.start));
        held.end.saturating_sub(from.unwrap_or(held.start).max(held.start)).max(0).unsigned_abs()
    });
    Ok(wait.sum())
}

struct Replay<'a> {
    args: &'a ReplayArgs,
    cluster: &'a Cluster,
    producer: BaseProducer<DeliveryContext<Deliveries>>,
    deliveries: Arc<Deliveries>,
    /// Commits how far this has come; none if that is not remembered.
    progress: Option<Cluster>,
    /// How many partitions the topics have that were written to.
    targets: BTreeMap<String, i32>,
    chunk: Chunk,
    report: Report,
}

/// What was sent and not waited for yet.
#[derive(Default)]
struct Chunk {
    letters: u64,
    bytes: usize,
    /// The last topic that something was sent to, for messages.
    topic: String,
    /// Where each partition of the letters goes on.
    next: BTreeMap<i32, i64>,
}

impl Replay<'_> {
    fn take(&mut self, letter: &Letter) -> Result<Next, Failure> {
        if !self.args.filter.matches(letter) {
            self.report.others += 1;
            return Ok(Next::Letter);
        }
        match (letter.incomplete(), &letter.error) {
            (None, Some(error)) => {
                self.send(letter, error)
                    .map_err(|failure| self.stopped(letter.partition, letter.offset, &failure))?;
            }
            (why, _) => self.report.leave(letter, why.unwrap_or_default()),
        }
        self.chunk.next.insert(letter.partition, letter.offset + 1);
        if self.chunk.letters >= CHUNK_LETTERS_MAX || self.chunk.bytes >= CHUNK_BYTES_MAX {
            self.end_chunk()?;
        }
        Ok(Next::Letter)
    }

    fn send(&mut self, letter: &Letter, error: &Error) -> Result<(), Failure> {
        let topic = self.args.to.as_ref().unwrap_or(&error.topic);
        let partitions = self.partitions_of(topic)?;
        // Where it lay, so that its key stays in its partition whoever chose that.
        let partition =
            (*topic == error.topic && (0..partitions).contains(&error.partition)).then_some(error.partition);
        self.report.count(topic, letter, error);
        if self.args.dry_run {
            return Ok(());
        }
        let bytes = letter.key.as_ref().map_or(0, Vec::len) + letter.value.as_ref().map_or(0, Vec::len);
        let place = Box::new(Place { partition: letter.partition, offset: letter.offset });
        let mut record = BaseRecord::<[u8], [u8], Box<Place>>::with_opaque_to(topic, place);
        record.partition = partition;
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        record.timestamp = if self.args.new_timestamps { None } else { letter.original_timestamp() };
        record.headers = headers(letter);
        self.producer
            .send(record)
            .map_err(|(error, _)| Failure::kafka(format!("produce to {topic}"), &error))?;
        self.chunk.letters += 1;
        self.chunk.bytes += bytes;
        self.chunk.topic.clone_from(topic);
        Ok(())
    }

    fn partitions_of(&mut self, topic: &str) -> Result<i32, Failure> {
        if let Some(partitions) = self.targets.get(topic) {
            return Ok(*partitions);
        }
        let Some(found) = self.cluster.find_topic(topic)? else {
            return Err(Failure::Client {
                action: format!("replay to {topic}"),
                reason: "the topic does not exist: create it, or name another one with --to".to_owned(),
            });
        };
        let partitions = i32::try_from(found.partitions.len()).unwrap_or(i32::MAX);
        self.targets.insert(topic.to_owned(), partitions);
        Ok(partitions)
    }

    /// Waits until the cluster has what was sent, and remembers that.
    fn end_chunk(&mut self) -> Result<(), Failure> {
        let chunk = std::mem::take(&mut self.chunk);
        if self.args.dry_run {
            return Ok(());
        }
        deliver_rest(&self.producer, &chunk.topic)?;
        let refused = self.deliveries.take_refused();
        let next = positions(chunk.next, &refused);
        if let Some(progress) = &self.progress
            && !next.is_empty()
        {
            let offset = |(partition, offset): (&i32, &i64)| ((self.args.topic.clone(), *partition), *offset);
            progress.commit(&next.iter().map(offset).collect())?;
            self.report.positions.extend(next);
        }
        match refused.first_key_value() {
            Some((partition, first)) => Err(self.stopped(*partition, first.offset, &remedy(first))),
            None => Ok(()),
        }
    }

    /// Which letter this ends at, why, and what to do when it is to be left.
    fn stopped(&self, partition: i32, offset: i64, why: &dyn Display) -> Failure {
        let topic = &self.args.topic;
        let past = match &self.report.group {
            Some(group) => format!(
                "; to go past it: `millstream group reset {group} --topic {topic} --partition {partition} --to {} \
                 --execute`",
                offset + 1
            ),
            None => String::new(),
        };
        Failure::Incomplete(format!(
            "stopped at the letter {topic} partition {partition} offset {offset}: {why}{past}"
        ))
    }

    /// The end of what there was, if `whole`.
    fn end(&mut self, whole: bool, ranges: &BTreeMap<i32, Range<i64>>) -> Result<(), Failure> {
        if whole {
            // Also behind offsets that hold nothing, and where there was nothing: what a group does not commit again and
            // again expires, and the next replay would begin with the first letter.
            self.chunk.next.extend(ranges.iter().map(|(partition, range)| (*partition, range.end)));
        }
        self.end_chunk()
    }
}

fn headers(letter: &Letter) -> Option<OwnedHeaders> {
    if letter.headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(letter.headers.len());
    let insert = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
        headers.insert(Header { key, value: value.as_ref() })
    };
    Some(letter.headers.iter().fold(empty, insert))
}

/// Why a letter was not taken, and what to do.
fn remedy(Refused { reason, code, .. }: &Refused) -> String {
    let remedy = match code {
        Some(RDKafkaErrorCode::InvalidTimestamp) => {
            "the topic does not take the records' original timestamps: pass --new-timestamps, or raise the topic's \
             message.timestamp.before.max.ms and message.timestamp.after.max.ms, and replay again"
        }
        _ => "replay again when that is mended, or to another topic with --to",
    };
    format!("it was not taken ({reason}): {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_goes_on_where_the_last_one_ended() {
        let mut held = BTreeMap::from([(0, 5..9), (1, 5..9), (2, 5..9), (3, 5..9), (4, 9..9)]);
        let from_start = go_on(&mut held, &BTreeMap::from([(0, 7), (1, 3), (2, 12)]));
        assert_eq!(held, BTreeMap::from([(0, 7..9), (1, 5..9), (2, 9..9), (3, 5..9), (4, 9..9)]));
        assert_eq!(from_start, [3], "one without letters has no first one");
        assert!(begins_at_start(&[0, 3]).starts_with("begins with the first letter of partition 0, 3: "));
    }

    #[test]
    fn a_refused_timestamp_is_told_from_other_reasons() {
        let of = |code| remedy(&Refused { offset: 0, reason: "r".to_owned(), code });
        assert!(of(Some(RDKafkaErrorCode::InvalidTimestamp)).contains("--new-timestamps"));
        assert!(of(Some(RDKafkaErrorCode::MessageSizeTooLarge)).contains("(r): replay again"));
        assert!(!of(None).contains("--new-timestamps"));
    }
}
