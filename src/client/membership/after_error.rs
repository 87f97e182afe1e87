//! What a member does when the coordinator says no.

use millstream_wire::ErrorCode;

use crate::client::error::ClientError;

/// The next step after an error of JoinGroup, SyncGroup or Heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterError {
    /// The group shares anew: let go of the partitions, and join as the same member.
    Rejoin,
    /// The group has shared anew without the member: join at once, as the same member.
    RejoinFenced,
    /// The group does not know the member any more: join at once, as a new one.
    RejoinAsNew,
    /// The coordinator is not there, or somewhere else: wait, find it, and go on as the same member.
    FindCoordinator,
    /// Nothing that waiting would mend.
    Fail,
}

impl AfterError {
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { code, .. } => match *code {
                ErrorCode::REBALANCE_IN_PROGRESS => Self::Rejoin,
                ErrorCode::ILLEGAL_GENERATION => Self::RejoinFenced,
                ErrorCode::UNKNOWN_MEMBER_ID => Self::RejoinAsNew,
                code if code.is_retriable() => Self::FindCoordinator,
                _ => Self::Fail,
            },
            error if error.is_retriable() => Self::FindCoordinator,
            _ => Self::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::connection::CallError;
    use crate::client::transport::TransportError;
    use millstream_wire::ApiKey;

    #[test]
    fn each_error_has_its_step() {
        let table = [
            (ErrorCode::REBALANCE_IN_PROGRESS, AfterError::Rejoin),
            (ErrorCode::ILLEGAL_GENERATION, AfterError::RejoinFenced),
            (ErrorCode::UNKNOWN_MEMBER_ID, AfterError::RejoinAsNew),
            (ErrorCode::NOT_COORDINATOR, AfterError::FindCoordinator),
            (ErrorCode::COORDINATOR_NOT_AVAILABLE, AfterError::FindCoordinator),
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, AfterError::FindCoordinator),
            (ErrorCode::FENCED_INSTANCE_ID, AfterError::Fail),
            (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, AfterError::Fail),
            (ErrorCode::INVALID_SESSION_TIMEOUT, AfterError::Fail),
            (ErrorCode::GROUP_MAX_SIZE_REACHED, AfterError::Fail),
            (ErrorCode::GROUP_AUTHORIZATION_FAILED, AfterError::Fail),
            (ErrorCode::INVALID_GROUP_ID, AfterError::Fail),
        ];
        for (code, expected) in table {
            let error = ClientError::Refused { key: ApiKey::JoinGroup, code };
            assert_eq!(AfterError::of(&error), expected, "{code:?}");
        }
    }

    #[test]
    fn a_lost_answer_is_no_reason_to_give_up() {
        let lost = TransportError::Unreachable("reset".into());
        assert_eq!(AfterError::of(&CallError::from(lost).into()), AfterError::FindCoordinator);
    }
}
