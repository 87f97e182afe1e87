//! Domain errors to Kafka's error codes: the one place where this is decided.

use millstream_wire::ErrorCode;

use crate::broker::{IngestError, TopicError};
use crate::group::GroupError;
use crate::hooks::ViewError;
use crate::log;
use crate::log::producer_states::ProducerCheckError;
use crate::log::read::ReadError;
use crate::metadata::{PlacementError, Rejection};
use crate::partition::{AppendError, InvalidBatch, PositionError, Unavailable};

pub(super) fn of_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Invalid(InvalidBatch::Corrupt(_)) => ErrorCode::CORRUPT_MESSAGE,
        AppendError::Invalid(InvalidBatch::TooLarge { .. }) => ErrorCode::MESSAGE_TOO_LARGE,
        AppendError::Invalid(InvalidBatch::Record { .. }) => ErrorCode::INVALID_RECORD,
        AppendError::Invalid(InvalidBatch::Timestamp { .. }) => ErrorCode::INVALID_TIMESTAMP,
        AppendError::Invalid(InvalidBatch::Transaction) => ErrorCode::INVALID_TXN_STATE,
        AppendError::Producer(ProducerCheckError::OutOfOrderSequence { .. }) => {
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        }
        AppendError::Producer(ProducerCheckError::InvalidProducerEpoch { .. }) => {
            ErrorCode::INVALID_PRODUCER_EPOCH
        }
        AppendError::Storage(_)
        | AppendError::Log(
            log::partition::AppendError::Fenced(_) | log::partition::AppendError::DiskFull { .. },
        ) => ErrorCode::KAFKA_STORAGE_ERROR,
        // Retriable: the queue drains.
        AppendError::Log(log::partition::AppendError::QueueFull { .. }) => ErrorCode::REQUEST_TIMED_OUT,
        AppendError::Log(log::partition::AppendError::Deleted) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// What became of a batch on its way through an ingest hook.
pub(super) fn of_ingest(error: &IngestError) -> ErrorCode {
    match error {
        IngestError::Append(error) => of_append(error),
        IngestError::Refused { .. } => ErrorCode::INVALID_RECORD,
        // Of the codes that every client takes for "not stored, send it again", the one with which it does nothing
        // else. Java's, librdkafka, franz-go, sarama, kafkajs and kafka-python retry it, with the same sequence if they
        // are idempotent. LEADER_NOT_AVAILABLE and KAFKA_STORAGE_ERROR would make them ask for the metadata again and
        // again; with REQUEST_TIMED_OUT librdkafka must assume that the records may have been stored.
        IngestError::Later(_) => ErrorCode::NOT_ENOUGH_REPLICAS,
    }
}

pub(super) fn of_unavailable(unavailable: Unavailable) -> ErrorCode {
    match unavailable {
        Unavailable::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Unavailable::Offline => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

pub(super) fn of_position(error: &PositionError) -> ErrorCode {
    match error {
        PositionError::FencedLeaderEpoch(_) => ErrorCode::FENCED_LEADER_EPOCH,
        PositionError::UnknownLeaderEpoch(_) => ErrorCode::UNKNOWN_LEADER_EPOCH,
        PositionError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
    }
}

pub(super) fn of_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        ReadError::Storage(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Why a view shows nothing. Consumers retry the first by themselves: Java's, librdkafka and franz-go know it as "the
/// leader isn't there yet". The second they hand to the application and stay where they are; Java's throws.
pub(super) fn of_view(error: &ViewError) -> ErrorCode {
    match error {
        ViewError::NotReady(_) => ErrorCode::OFFSET_NOT_AVAILABLE,
        ViewError::Failed(_) => ErrorCode::INVALID_RECORD,
    }
}

pub(super) fn of_topic(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::Name(_) | TopicError::Collides(..) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        // As for an internal topic: it exists, but not for this.
        TopicError::IsView(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        TopicError::SourceOfView { .. } => ErrorCode::POLICY_VIOLATION,
        TopicError::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        TopicError::Unknown(_) | TopicError::UnknownView(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        TopicError::UnknownId(_) => ErrorCode::UNKNOWN_TOPIC_ID,
        TopicError::Internal(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        TopicError::NotMorePartitions { .. }
        | TopicError::Placement(PlacementError::Partitions(_) | PlacementError::NoIncrease { .. }) => {
            ErrorCode::INVALID_PARTITIONS
        }
        TopicError::Placement(
            PlacementError::ReplicationFactor(_) | PlacementError::TooFewBrokers { .. },
        ) => ErrorCode::INVALID_REPLICATION_FACTOR,
        TopicError::Assignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        TopicError::Config(_) => ErrorCode::INVALID_CONFIG,
        TopicError::DeletionDisabled => ErrorCode::TOPIC_DELETION_DISABLED,
        TopicError::Rejected(rejection) => of_rejection(rejection),
        TopicError::Propose(_) => ErrorCode::REQUEST_TIMED_OUT,
    }
}

pub(super) fn of_group(error: GroupError) -> ErrorCode {
    match error {
        GroupError::CoordinatorLoadInProgress => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        GroupError::NotCoordinator => ErrorCode::NOT_COORDINATOR,
        GroupError::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        GroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
        GroupError::GroupMaxSizeReached => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::GroupSubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
        GroupError::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::InconsistentGroupProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
        GroupError::InvalidCommitOffsetSize => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        GroupError::InvalidRequest => ErrorCode::INVALID_REQUEST,
        // What Kafka answers, too: the group has outgrown the batch that keeps it.
        GroupError::GroupMetadataTooLarge => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// What a racing change left of a request that was checked before it was proposed.
fn of_rejection(rejection: &Rejection) -> ErrorCode {
    match rejection {
        Rejection::TopicExists(_) | Rejection::TopicIdExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        Rejection::UnknownTopicId(_) | Rejection::UnknownView(_) => ErrorCode::UNKNOWN_TOPIC_ID,
        Rejection::SourceOfView { .. } | Rejection::TooManyViews => ErrorCode::POLICY_VIOLATION,
        Rejection::UnknownPartition { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Rejection::NoPartitions
        | Rejection::PartitionCount { .. }
        | Rejection::TooManyPartitions { .. }
        | Rejection::ClusterFull { .. } => ErrorCode::INVALID_PARTITIONS,
        Rejection::UnknownBroker(_) | Rejection::InvalidReplicas | Rejection::NotAReplica(_) => {
            ErrorCode::INVALID_REPLICA_ASSIGNMENT
        }
        Rejection::ConfigsTooLarge => ErrorCode::INVALID_CONFIG,
        // No request of a client's comes to these.
        Rejection::OtherIncarnation { .. }
        | Rejection::UnknownMember(_)
        | Rejection::TooManyMembers
        | Rejection::InvalidAddress
        | Rejection::LeaderNotInSync(_)
        | Rejection::StalePartitionEpoch { .. }
        | Rejection::StaleBrokerEpoch { .. }
        | Rejection::InvalidBlock(_)
        | Rejection::ProducerIdsExhausted
        | Rejection::UnknownDocument { .. }
        | Rejection::DocumentVersion { .. }
        | Rejection::InvalidDocumentName
        | Rejection::DocumentTooLarge { .. }
        | Rejection::TooManyDocuments => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}
