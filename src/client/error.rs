//! Why the client did not do what it was asked, and what a stage should make of it.

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

use millstream_runtime::stage::PortError;
use millstream_wire::{ApiKey, ErrorCode};

use super::connection::CallError;
use super::consumer_protocol::ConsumerProtocolError;
use super::transport::TransportError;
use millstream_runtime::stage::TopicPartition;

/// What a client operation ends with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// The broker refuses a request as a whole.
    #[error("{key}: {code}")]
    Refused { key: ApiKey, code: ErrorCode },
    /// The broker refuses a request's part for one partition.
    #[error("{key} for {}-{}: {code}{detail}", partition.topic, partition.partition)]
    PartitionRefused { key: ApiKey, partition: TopicPartition, code: ErrorCode, detail: String },
    #[error("describe topic {topic:?}: {code}")]
    Topic { topic: String, code: ErrorCode },
    /// An answer lacks what was asked for.
    #[error("find {missing} in an answer to {key}")]
    Incomplete { key: ApiKey, missing: String },
    #[error(transparent)]
    ConsumerProtocol(#[from] ConsumerProtocolError),
    #[error("use what was fetched of {}-{} at offset {position}: {reason}", partition.topic, partition.partition)]
    FetchedBatch { partition: TopicPartition, position: i64, reason: String },
    #[error("write to {}-{}: the batch is invalid: {reason}", partition.topic, partition.partition)]
    OutputBatch { partition: TopicPartition, reason: String },
    /// The group has moved on without this member.
    #[error("commit {}-{}: the group has given it to another member", .0.topic, .0.partition)]
    NotOwned(TopicPartition),
    #[error("commit without being a member of the group any more")]
    NotMember,
    /// The port's task has ended before.
    #[error("go on as a member of the group")]
    MemberFailed(#[source] Arc<ClientError>),
    #[error("go on: the port is closed")]
    Closed,
}

impl ClientError {
    /// Whether the same may work later.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            Self::Call(CallError::Transport(TransportError::Unreachable(_)) | CallError::Timeout { .. }) => {
                true
            }
            Self::Call(CallError::ApiVersions(code)) => code.is_retriable(),
            Self::Refused { code, .. } | Self::PartitionRefused { code, .. } | Self::Topic { code, .. } => {
                code.is_retriable()
            }
            Self::MemberFailed(error) => error.is_retriable() || error.is_fenced(),
            Self::Call(_)
            | Self::Incomplete { .. }
            | Self::ConsumerProtocol(_)
            | Self::FetchedBatch { .. }
            | Self::OutputBatch { .. }
            | Self::NotOwned(_)
            | Self::NotMember
            | Self::Closed => false,
        }
    }

    /// Whether the group's coordinator took this member for one of the past.
    pub(crate) fn is_fenced(&self) -> bool {
        match self {
            Self::NotOwned(_) | Self::NotMember => true,
            Self::Refused { code, .. } | Self::PartitionRefused { code, .. } => matches!(
                *code,
                ErrorCode::ILLEGAL_GENERATION
                    | ErrorCode::UNKNOWN_MEMBER_ID
                    | ErrorCode::REBALANCE_IN_PROGRESS
            ),
            _ => false,
        }
    }

    /// What it means to a stage, whose status shows it by itself.
    pub(crate) fn to_port_error(&self) -> PortError {
        let text = match self {
            // They name what was refused, and by which code.
            Self::Refused { .. } | Self::PartitionRefused { .. } => with_causes(self),
            // All others say what was attempted.
            _ => format!("can't {}", with_causes(self)),
        };
        if self.is_fenced() {
            PortError::Fenced(text)
        } else if self.is_retriable() {
            PortError::Unavailable(text)
        } else {
            PortError::Fatal(text)
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").expect("writing to a string does not fail");
        source = cause.source();
    }
    text
}

/// `Ok` if the code says so.
pub(crate) fn check(key: ApiKey, code: ErrorCode) -> Result<(), ClientError> {
    if code.is_error() { Err(ClientError::Refused { key, code }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> PortError {
        ClientError::Refused { key: ApiKey::OffsetCommit, code }.to_port_error()
    }

    #[test]
    fn a_stage_learns_what_it_can_do() {
        assert!(matches!(refused(ErrorCode::ILLEGAL_GENERATION), PortError::Fenced(_)));
        assert!(matches!(refused(ErrorCode::UNKNOWN_MEMBER_ID), PortError::Fenced(_)));
        // Retriable to Kafka, but the commit is lost: the member has joined anew.
        assert!(matches!(refused(ErrorCode::REBALANCE_IN_PROGRESS), PortError::Fenced(_)));
        assert!(matches!(refused(ErrorCode::NOT_COORDINATOR), PortError::Unavailable(_)));
        assert!(matches!(refused(ErrorCode::OFFSET_METADATA_TOO_LARGE), PortError::Fatal(_)));
    }

    #[test]
    fn a_status_reads_as_a_sentence() {
        let check = |error: ClientError, expect: &str| {
            let (PortError::Fenced(text) | PortError::Unavailable(text) | PortError::Fatal(text)) =
                error.to_port_error();
            assert_eq!(text, expect);
        };
        let refused = || ClientError::Refused { key: ApiKey::JoinGroup, code: ErrorCode::INVALID_GROUP_ID };
        let code = ErrorCode::INVALID_GROUP_ID;
        check(refused(), &format!("JoinGroup: {code}"));
        let failed = ClientError::MemberFailed(Arc::new(refused()));
        check(failed, &format!("can't go on as a member of the group: JoinGroup: {code}"));
        check(ClientError::NotMember, "can't commit without being a member of the group any more");
        check(ClientError::Closed, "can't go on: the port is closed");
        let partition = TopicPartition { topic: "in".into(), partition: 3 };
        check(
            ClientError::NotOwned(partition),
            "can't commit in-3: the group has given it to another member",
        );
    }

    #[test]
    fn causes_are_told() {
        let source = TransportError::Unreachable("connection refused".into());
        let error = ClientError::Call(CallError::Transport(source));
        assert_eq!(with_causes(&error), "reach the broker: connection refused");
    }
}
