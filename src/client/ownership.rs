//! What a member owns, as its task tells the port.

use std::sync::Arc;

use super::error::ClientError;
use super::membership::Membership;

/// A membership, numbered so that what was fetched under it can be told from what another one brought.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) serial: u64,
    pub(crate) membership: Membership,
}

#[derive(Debug, Clone)]
pub(crate) enum Ownership {
    /// Nothing: the member is about to join.
    Joining,
    Owned(Arc<Owned>),
    /// Still, but the group waits for the member to let go.
    Revoking(Arc<Owned>),
    /// The member's task has ended.
    Failed(Arc<ClientError>),
}

impl Ownership {
    /// Whether commits under that membership can still be accepted.
    pub(crate) fn is_valid(&self, serial: u64) -> bool {
        match self {
            Self::Owned(owned) | Self::Revoking(owned) => owned.serial == serial,
            Self::Joining | Self::Failed(_) => false,
        }
    }
}
