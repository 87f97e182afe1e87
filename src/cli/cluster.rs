//! Questions to a cluster: its topics, where their partitions begin and end, its groups and their offsets.

mod assignment;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::groups::GroupInfo;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use super::clock::Stopwatch;
use super::connection::{Connection, LogToTracing, REQUEST_TIMEOUT};
use super::failure::Failure;
use super::position::Position;

/// Partitions asked about in one ListOffsets or OffsetFetch round, so that no request grows without bound.
const PARTITIONS_PER_QUESTION: usize = 5_000;

/// How often new metadata is asked for while partitions have no leader yet.
const METADATA_POLL: Duration = Duration::from_millis(50);

/// How long a question is asked again while the answer is that a leader or a coordinator moves.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// A partition by name and index, in the order in which people list them.
pub(crate) type TopicPartition = (String, i32);

/// A topic as the cluster's metadata shows it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: Vec<Partition>,
}

impl Topic {
    /// Kafka's internal topics are the brokers' own, and begin with two underscores by convention.
    pub(crate) fn is_internal(&self) -> bool {
        self.name.starts_with("__")
    }

    pub(crate) fn topic_partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions.iter().map(|partition| (self.name.clone(), partition.index))
    }
}

#[derive(Debug, serde::Serialize)]
pub(crate) struct Partition {
    #[serde(rename = "partition")]
    pub(crate) index: i32,
    /// -1 while there is none.
    pub(crate) leader: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
}

/// A consumer group as its coordinator describes it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) group_id: String,
    pub(crate) state: String,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) member_id: String,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// None where the group is not of consumers, or the member has no assignment that can be read.
    pub(crate) assignment: Option<Vec<TopicPartition>>,
}

/// What a group has committed for a partition.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// A client that only asks.
pub(crate) struct Cluster {
    consumer: BaseConsumer<LogToTracing>,
}

impl Cluster {
    pub(crate) fn connect(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self { consumer: connection.consumer(&[], LogToTracing)? })
    }

    /// Sees, and can commit, the offsets of `group`, without being a member of it.
    pub(crate) fn connect_for_group(connection: &Connection, group: &str) -> Result<Self, Failure> {
        let settings = [("group.id", group), ("enable.auto.commit", "false")];
        Ok(Self { consumer: connection.consumer(&settings, LogToTracing)? })
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> Result<Vec<Topic>, Failure> {
        let metadata = self
            .consumer
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|error| Failure::kafka("list the topics", &error))?;
        let mut topics: Vec<Topic> = metadata.topics().iter().map(topic_of).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// None where there is no such topic; asking does not create it.
    pub(crate) fn find_topic(&self, name: &str) -> Result<Option<Topic>, Failure> {
        let action = || format!("look up topic {name}");
        let metadata = self
            .consumer
            .fetch_metadata(Some(name), REQUEST_TIMEOUT)
            .map_err(|error| Failure::kafka(action(), &error))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(None);
        };
        match topic.error().filter(IsError::is_error).map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Some(topic_of(topic))),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(None),
            Some(code) => Err(Failure::Kafka { action: action(), code }),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Result<Topic, Failure> {
        self.find_topic(name)?.ok_or_else(|| Failure::UnknownTopic { topic: name.to_owned() })
    }

    /// Waits until each of the topic's `partitions` partitions has a leader, as they do a moment after creation.
    pub(crate) fn wait_for_leaders(&self, name: &str, partitions: usize) -> Result<(), Failure> {
        let waited = Stopwatch::start();
        loop {
            if let Some(topic) = self.find_topic(name)? {
                let led = topic.partitions.iter().filter(|partition| partition.leader >= 0).count();
                if led >= partitions {
                    return Ok(());
                }
            }
            if waited.seconds() > REQUEST_TIMEOUT.as_secs_f64() {
                let action = format!("use topic {name}");
                return Err(Failure::Kafka { action, code: RDKafkaErrorCode::LeaderNotAvailable });
            }
            std::thread::sleep(METADATA_POLL);
        }
    }

    /// The offset of `position` in each partition; a time after the last record is the end.
    pub(crate) fn offsets(
        &self,
        partitions: &[TopicPartition],
        position: Position,
    ) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        retrying(|| self.ask_for_offsets(partitions, position))
    }

    fn ask_for_offsets(
        &self,
        partitions: &[TopicPartition],
        position: Position,
    ) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        let asked = match position {
            Position::Offset(offset) => {
                return Ok(partitions.iter().map(|partition| (partition.clone(), offset)).collect());
            }
            Position::Beginning => Offset::Beginning,
            Position::End => Offset::End,
            // librdkafka takes the time in the place of the offset.
            Position::Timestamp(ms) => Offset::Offset(ms),
        };
        let mut offsets = BTreeMap::new();
        let mut at_end = Vec::new();
        for some in partitions.chunks(PARTITIONS_PER_QUESTION) {
            let answer = self
                .consumer
                .offsets_for_times(list_of(some, asked)?, REQUEST_TIMEOUT)
                .map_err(|error| Failure::kafka("ask for offsets", &error))?;
            for element in answer.elements() {
                let partition = (element.topic().to_owned(), element.partition());
                element.error().map_err(|error| {
                    Failure::kafka(format!("ask for the offsets of {}-{}", partition.0, partition.1), &error)
                })?;
                match element.offset() {
                    Offset::Offset(offset) => drop(offsets.insert(partition, offset)),
                    // No record is that young.
                    _ => at_end.push(partition),
                }
            }
        }
        if position == Position::End && !at_end.is_empty() {
            let action = "ask for offsets".to_owned();
            return Err(Failure::Kafka { action, code: RDKafkaErrorCode::LeaderNotAvailable });
        }
        if !at_end.is_empty() {
            offsets.extend(self.ask_for_offsets(&at_end, Position::End)?);
        }
        Ok(offsets)
    }

    /// All groups, or the one with this id.
    pub(crate) fn groups(&self, group: Option<&str>) -> Result<Vec<Group>, Failure> {
        let list = self
            .consumer
            .fetch_group_list(group, REQUEST_TIMEOUT)
            .map_err(|error| Failure::kafka("list the groups", &error))?;
        let mut groups: Vec<Group> = list.groups().iter().map(group_of).collect();
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(groups)
    }

    /// What the group of [`Cluster::connect_for_group`] has committed, for those partitions that it has.
    pub(crate) fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Committed>, Failure> {
        retrying(|| self.ask_for_committed(partitions))
    }

    fn ask_for_committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Committed>, Failure> {
        let mut committed = BTreeMap::new();
        for some in partitions.chunks(PARTITIONS_PER_QUESTION) {
            let answer = self
                .consumer
                .committed_offsets(list_of(some, Offset::Invalid)?, REQUEST_TIMEOUT)
                .map_err(|error| Failure::kafka("ask for the committed offsets", &error))?;
            for element in answer.elements() {
                let partition = (element.topic().to_owned(), element.partition());
                element.error().map_err(|error| {
                    Failure::kafka(format!("ask for the offset of {}-{}", partition.0, partition.1), &error)
                })?;
                if let Offset::Offset(offset) = element.offset() {
                    let metadata = element.metadata().to_owned();
                    committed.insert(partition, Committed { offset, metadata });
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets for the group of [`Cluster::connect_for_group`], which must have no members.
    pub(crate) fn commit(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), Failure> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), &offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(offset))
                .map_err(|error| Failure::kafka(format!("commit offset {offset}"), &error))?;
        }
        retrying(|| {
            self.consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|error| Failure::kafka("commit the new offsets", &error))
        })
    }
}

/// Asks again while leaders move, as they do a moment after a topic was created.
fn retrying<T>(mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let waited = Stopwatch::start();
    loop {
        match ask() {
            Err(Failure::Kafka { code, .. })
                if is_passing(code) && waited.seconds() < RETRY_TIMEOUT.as_secs_f64() =>
            {
                std::thread::sleep(METADATA_POLL);
            }
            outcome => return outcome,
        }
    }
}

/// Whether the cluster will soon answer otherwise.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::UnknownLeaderEpoch
            | RDKafkaErrorCode::FencedLeaderEpoch
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::NotCoordinator
    )
}

fn list_of(partitions: &[TopicPartition], offset: Offset) -> Result<TopicPartitionList, Failure> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, *partition, offset)
            .map_err(|error| Failure::kafka(format!("ask about {topic}-{partition}"), &error))?;
    }
    Ok(list)
}

fn topic_of(topic: &MetadataTopic) -> Topic {
    let mut partitions: Vec<Partition> = topic
        .partitions()
        .iter()
        .map(|partition| Partition {
            index: partition.id(),
            leader: partition.leader(),
            replicas: partition.replicas().to_vec(),
            isr: partition.isr().to_vec(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    Topic { name: topic.name().to_owned(), partitions }
}

fn group_of(group: &GroupInfo) -> Group {
    let of_consumers = group.protocol_type() == "consumer";
    let members = group
        .members()
        .iter()
        .map(|member| Member {
            member_id: member.id().to_owned(),
            client_id: member.client_id().to_owned(),
            client_host: member.client_host().to_owned(),
            assignment: member.assignment().filter(|_| of_consumers).and_then(assignment::read),
        })
        .collect();
    Group {
        group_id: group.name().to_owned(),
        state: group.state().to_owned(),
        protocol_type: group.protocol_type().to_owned(),
        protocol: group.protocol().to_owned(),
        members,
    }
}
