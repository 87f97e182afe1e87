//! Why the coordinator refuses: one enum, because every group request can meet most of these.

/// A refusal, one to one with Kafka's error of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the coordinator is still loading this group's partition")]
    CoordinatorLoadInProgress,
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    #[error("the coordinator can't serve the group now")]
    CoordinatorNotAvailable,
    #[error("the group id is not valid")]
    InvalidGroupId,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("the group has as many members as it may")]
    GroupMaxSizeReached,
    #[error("the group's members subscribe to the topic")]
    GroupSubscribedToTopic,
    #[error("the member has to join again with the id it was given")]
    MemberIdRequired,
    #[error("the member is not known")]
    UnknownMemberId,
    #[error("another member has taken the group instance id")]
    FencedInstanceId,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member's protocols don't fit the group's")]
    InconsistentGroupProtocol,
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    #[error("the offset's metadata is too large")]
    OffsetMetadataTooLarge,
    #[error("the offsets don't fit one batch")]
    InvalidCommitOffsetSize,
    #[error("the request asks for more than a group may hold")]
    InvalidRequest,
    #[error("the group's metadata doesn't fit one batch")]
    GroupMetadataTooLarge,
}

/// Why records could not be made durable in `__consumer_offsets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("partition does not exist")]
    UnknownPartition,
    #[error("too few replicas are in sync")]
    NotEnoughReplicas,
    #[error("replicas did not confirm in time")]
    TimedOut,
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("log dir has failed")]
    StorageFailed,
    #[error("batch is larger than the topic allows")]
    TooLarge,
}

impl AppendError {
    /// What a client is told whose change to a group's membership could not be written.
    pub(super) fn for_group(self) -> GroupError {
        match self {
            Self::UnknownPartition | Self::NotEnoughReplicas | Self::TimedOut => {
                GroupError::CoordinatorNotAvailable
            }
            Self::NotLeader | Self::StorageFailed => GroupError::NotCoordinator,
            Self::TooLarge => GroupError::GroupMetadataTooLarge,
        }
    }

    /// What a client is told whose offsets could not be written.
    pub(super) fn for_offsets(self) -> GroupError {
        match self {
            Self::TooLarge => GroupError::InvalidCommitOffsetSize,
            other => other.for_group(),
        }
    }
}
