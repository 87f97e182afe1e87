//! Why a command did not do what it was asked: what was wrong, and what to do about it, in one line.

use std::io;
use std::path::PathBuf;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

/// The reason for a non-zero exit code; [`Failure::ReaderGone`] alone is none.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("can't reach {bootstrap}: {reason}: is the node running? start one with `millstream up`")]
    Unreachable { bootstrap: String, reason: String },

    #[error("can't {action}: {}", explain(*.code))]
    Kafka { action: String, code: RDKafkaErrorCode },

    #[error("can't {action}: {reason}")]
    Client { action: String, reason: String },

    #[error("topic {topic} does not exist: `millstream topic list` shows those that do")]
    UnknownTopic { topic: String },

    #[error("group {group} does not exist: `millstream group list` shows those that do")]
    UnknownGroup { group: String },

    #[error("group {group} has {members} active member(s): stop its consumers first")]
    GroupInUse { group: String, members: usize },

    #[error("can't read {}: {source}", .path.display())]
    Input { path: PathBuf, source: io::Error },

    #[error("can't write {}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },

    #[error("can't write the output: {0}")]
    Output(io::Error),

    /// A node, or its storage, in the words of its own error.
    #[error("{0}")]
    Node(String),

    #[error("{address} refused: {reason}")]
    Admin { address: String, reason: String },

    /// What the node will do in a moment.
    #[error("{address} refused: {reason}")]
    Busy { address: String, reason: String },

    #[error("{}: {reason}", .path.display())]
    Plugin { path: PathBuf, reason: String },

    /// What is wrong with a pipeline file, a line each.
    #[error("{}", .0.join("\nerror: "))]
    Problems(Vec<String>),

    #[error("can't watch for signals: {0}")]
    Signals(io::Error),

    /// The node has written down what it was asked for, and does it when somebody agrees.
    #[error("{0}")]
    Waiting(String),

    /// The command ran, and not all of it succeeded.
    #[error("{0}")]
    Incomplete(String),

    /// The arguments contradict each other in a way that clap can't see.
    #[error("{0}")]
    Usage(String),

    #[error("the reader of the output went away")]
    ReaderGone,
}

impl Failure {
    /// What `action` (an infinitive that reads after "can't") met.
    pub(crate) fn kafka(action: impl Into<String>, error: &KafkaError) -> Self {
        let action = action.into();
        match error {
            // librdkafka checks its settings one by one; the reason names the setting.
            KafkaError::ClientConfig(_, reason, name, _) if !name.is_empty() => {
                Self::Usage(format!("{name}: {reason}"))
            }
            KafkaError::ClientConfig(_, reason, ..) => Self::Usage(reason.clone()),
            other => match code_of(other) {
                Some(code) => Self::Kafka { action, code },
                None => Self::Client { action, reason: other.to_string() },
            },
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Usage(_) => 2,
            Self::Waiting(_) => 3,
            Self::Unreachable { .. }
            | Self::Kafka { .. }
            | Self::Client { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownGroup { .. }
            | Self::GroupInUse { .. }
            | Self::Input { .. }
            | Self::File { .. }
            | Self::Output(_)
            | Self::Node(_)
            | Self::Admin { .. }
            | Self::Busy { .. }
            | Self::Plugin { .. }
            | Self::Problems(_)
            | Self::Signals(_)
            | Self::Incomplete(_) => 1,
        }
    }
}

/// The code in `error`, where it has one.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        // The crate's own accessor leaves this one out.
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// A broker's or librdkafka's error code, in words that say what to do where that is known.
pub(crate) fn explain(code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as Code;
    let words = match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "no such topic or partition: `millstream topic list` shows those that exist"
        }
        Code::TopicAlreadyExists => "it exists already: pass --if-not-exists where that is fine",
        Code::InvalidTopic => {
            "not a valid topic name: use at most 249 letters, digits, dots, underscores and hyphens"
        }
        Code::InvalidPartitions => "not a valid number of partitions: it must be at least 1",
        Code::InvalidReplicationFactor => {
            "not a valid replication factor: it must be at least 1 and at most the number of brokers"
        }
        Code::InvalidConfig => "the cluster refuses one of the settings: check each --config name and value",
        Code::PolicyViolation => "a policy of the cluster forbids it",
        Code::MessageSizeTooLarge => {
            "a record is larger than the topic's max.message.bytes: raise that, or send smaller records"
        }
        Code::NonEmptyGroup => "the group has active members: stop its consumers first",
        Code::UnknownMemberId | Code::RebalanceInProgress | Code::IllegalGeneration => {
            "the group is in use: stop its consumers first"
        }
        Code::GroupIdNotFound => "no such group: `millstream group list` shows those that exist",
        Code::InvalidGroupId => "not a valid group id",
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than min.insync.replicas asks for: bring brokers back first"
        }
        Code::OffsetOutOfRange | Code::AutoOffsetReset => {
            "the offset is not in the partition: `millstream topic describe` shows what is"
        }
        Code::BrokerTransportFailure | Code::AllBrokersDown => {
            "the connection to the cluster was lost: try again"
        }
        Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut => {
            "no answer in time: the cluster is overloaded or unreachable; try again"
        }
        Code::Resolve => "a broker's advertised host name can't be resolved from here",
        Code::KafkaStorageError => "a log dir of the broker has failed: see the broker's log",
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => "not authorized",
        _ => {
            // "Name (Broker: Description)", of which the description reads well.
            let description = code.to_string();
            let inside = description.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            let words = inside.unwrap_or(&description);
            return words.trim_start_matches("Broker: ").trim_start_matches("Local: ").to_lowercase();
        }
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::{Failure, explain};

    #[test]
    fn a_failure_says_what_was_wrong_and_what_to_do() {
        let failure = Failure::kafka(
            "create topic a",
            &KafkaError::AdminOp(RDKafkaErrorCode::InvalidReplicationFactor),
        );
        assert_eq!(
            failure.to_string(),
            "can't create topic a: not a valid replication factor: it must be at least 1 and at most the number of brokers"
        );
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn codes_without_advice_are_described() {
        assert_eq!(explain(RDKafkaErrorCode::UnknownLeaderEpoch), "leader epoch is newer than broker epoch");
    }

    #[test]
    fn a_bad_client_setting_is_a_usage_error() {
        let error = rdkafka::ClientConfig::new()
            .set("no.such.setting", "1")
            .create::<rdkafka::consumer::BaseConsumer>()
            .map(drop)
            .unwrap_err();
        let failure = Failure::kafka("connect", &error);
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("no.such.setting"), "{failure}");
    }
}
