//! Where records come from: partitions that were assigned by hand, or those that a group gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

use super::ConsumeArgs;
use crate::cli::cluster::{Cluster, TopicPartition};
use crate::cli::connection::{Connection, log_to_tracing};
use crate::cli::failure::Failure;
use crate::cli::position::Position;

pub(crate) struct Source {
    consumer: BaseConsumer<Membership>,
    /// The consumer belongs to a group, whose offsets follow what is printed.
    in_group: bool,
    /// With `--until-end`: the partitions that still have records to read, and where they ended at the start.
    unread: Option<BTreeMap<i32, i64>>,
}

/// Learns when the consumer has been given its partitions, which takes a group seconds.
#[derive(Default)]
struct Membership {
    assigned: AtomicBool,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_to_tracing(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Membership {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance {
            self.assigned.store(true, Ordering::Relaxed);
        }
    }
}

impl Source {
    pub(super) fn open(args: &ConsumeArgs) -> Result<Self, Failure> {
        match &args.group {
            Some(group) => Self::join(args, group),
            None => Self::assign(args),
        }
    }

    fn join(args: &ConsumeArgs, group: &str) -> Result<Self, Failure> {
        let cluster = Cluster::connect(&args.connection)?;
        for topic in &args.topics {
            cluster.topic(topic)?;
        }
        let reset = match args.from {
            Some(Position::Beginning) => "earliest",
            _ => "latest",
        };
        let settings = [
            ("group.id", group),
            ("auto.offset.reset", reset),
            // An offset is stored when its record was printed, so that a crash repeats and does not skip.
            ("enable.auto.offset.store", "false"),
            ("enable.auto.commit", "true"),
        ];
        let consumer = args.connection.consumer(&settings, Membership::default())?;
        let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
        consumer
            .subscribe(&topics)
            .map_err(|error| Failure::kafka(format!("subscribe to {}", args.topics.join(", ")), &error))?;
        Ok(Self { consumer, in_group: true, unread: None })
    }

    fn assign(args: &ConsumeArgs) -> Result<Self, Failure> {
        let cluster = Cluster::connect(&args.connection)?;
        let partitions = partitions(args, &cluster)?;
        let starts = cluster.offsets(&partitions, args.from.unwrap_or(Position::End))?;
        let unread = if args.until_end {
            let ends = cluster.offsets(&partitions, Position::End)?;
            let unread = starts
                .iter()
                .filter(|&(partition, start)| ends.get(partition).is_some_and(|end| start < end));
            Some(unread.map(|(partition, _)| (partition.1, ends[partition])).collect())
        } else {
            None
        };
        Self::of_partitions(&args.connection, &starts, unread)
    }

    /// Reads what a topic's partitions hold from an offset up to another one, which is not read any more.
    pub(crate) fn over(
        connection: &Connection,
        topic: &str,
        ranges: &BTreeMap<i32, Range<i64>>,
    ) -> Result<Self, Failure> {
        let filled = || ranges.iter().filter(|(_, range)| !range.is_empty());
        let starts =
            filled().map(|(partition, range)| ((topic.to_owned(), *partition), range.start)).collect();
        let unread = filled().map(|(partition, range)| (*partition, range.end)).collect();
        Self::of_partitions(connection, &starts, Some(unread))
    }

    fn of_partitions(
        connection: &Connection,
        starts: &BTreeMap<TopicPartition, i64>,
        unread: Option<BTreeMap<i32, i64>>,
    ) -> Result<Self, Failure> {
        let settings = [
            // librdkafka wants a group id even where it neither joins nor commits.
            ("group.id", "millstream-consume"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", if unread.is_some() { "true" } else { "false" }),
            // An offset that is not there (any more) is said so, instead of jumping elsewhere.
            ("auto.offset.reset", "error"),
        ];
        let consumer = connection.consumer(&settings, Membership::default())?;
        let action = || {
            let topics: BTreeSet<&str> = starts.keys().map(|(topic, _)| topic.as_str()).collect();
            format!("consume {}", topics.into_iter().collect::<Vec<_>>().join(", "))
        };
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for ((topic, partition), offset) in starts {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|error| Failure::kafka(action(), &error))?;
        }
        consumer.assign(&list).map_err(|error| Failure::kafka(action(), &error))?;
        Ok(Self { consumer, in_group: false, unread })
    }

    /// Whether there is more to read of a partition, where only what was there at the start is.
    pub(crate) fn is_unread(&self, partition: i32) -> bool {
        self.unread.as_ref().is_none_or(|unread| unread.contains_key(&partition))
    }

    pub(crate) fn poll(&self, timeout: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(timeout)
    }

    /// Whether records can be expected: a member of a group waits until it has its partitions.
    pub(super) fn is_assigned(&self) -> bool {
        !self.in_group || self.consumer.context().assigned.load(Ordering::Relaxed)
    }

    /// Has the group begin after `message` the next time.
    pub(super) fn store_offset(&self, message: &BorrowedMessage<'_>) -> Result<(), Failure> {
        if !self.in_group {
            return Ok(());
        }
        match self.consumer.store_offset_from_message(message) {
            // The partition was given to another member meanwhile, who will print this record too.
            Ok(()) | Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Ok(()),
            Err(error) => Err(Failure::kafka("store the group's offset", &error)),
        }
    }

    /// The record at `offset` was printed.
    pub(crate) fn passed(&mut self, partition: i32, offset: i64) {
        if let Some(unread) = &mut self.unread
            && unread.get(&partition).is_some_and(|&end| offset + 1 >= end)
        {
            unread.remove(&partition);
        }
    }

    /// The client has read a partition to its end, also where the last offsets hold no record.
    pub(crate) fn reached_end(&mut self, partition: i32) {
        if let Some(unread) = &mut self.unread {
            unread.remove(&partition);
        }
    }

    /// Whether all that was there at the start has been read, where that was asked for.
    pub(crate) fn at_end(&self) -> bool {
        self.unread.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// Leaves the group, if any, with the offsets of what was printed.
    pub(super) fn close(self) -> Result<(), Failure> {
        if !self.in_group {
            return Ok(());
        }
        match self.consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
            Err(error) => Err(Failure::kafka("commit the group's offsets", &error)),
        }
    }
}

/// The partitions to read: all of the topics, or those that were named.
fn partitions(args: &ConsumeArgs, cluster: &Cluster) -> Result<Vec<TopicPartition>, Failure> {
    let wanted: BTreeSet<i32> = args.partitions.iter().copied().collect();
    let mut partitions = Vec::new();
    for name in &args.topics {
        let topic = cluster.topic(name)?;
        let known: BTreeSet<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
        if let Some(unknown) = wanted.difference(&known).next() {
            return Err(Failure::Client {
                action: format!("consume {name}"),
                reason: format!("there is no partition {unknown}: it has {}, counted from 0", known.len()),
            });
        }
        let wanted = |partition: &TopicPartition| wanted.is_empty() || wanted.contains(&partition.1);
        partitions.extend(topic.topic_partitions().filter(wanted));
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}
