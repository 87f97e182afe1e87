//! The brokers that a cluster has, as Raft and replication reach them.

use std::sync::Arc;

use uuid::Uuid;

use super::apply::Applied;
use super::command::{ADDRESS_BYTES_MAX, MEMBERS_MAX, Rejection, Response};
use super::delta::{MetadataDelta, RowKey};
use super::image::{MemberImage, MetadataImage};
use crate::ids::BrokerId;

impl MetadataImage {
    pub(super) fn put_member(
        &mut self,
        broker_id: BrokerId,
        incarnation: Uuid,
        address: &str,
        delta: &mut MetadataDelta,
    ) -> Applied {
        if !(1..=ADDRESS_BYTES_MAX).contains(&address.len()) {
            return Err(Rejection::InvalidAddress);
        }
        match self.members.get(&broker_id) {
            // A disk that was wiped, or somebody else's: it has forgotten for whom it voted, and what it was given.
            Some(known) if known.incarnation != incarnation => {
                return Err(Rejection::OtherIncarnation { broker_id });
            }
            None if self.members.len() >= MEMBERS_MAX => return Err(Rejection::TooManyMembers),
            _ => {}
        }
        let member = MemberImage { id: broker_id, incarnation, address: address.to_owned() };
        Arc::make_mut(&mut self.members).insert(broker_id, member);
        delta.rows.insert(RowKey::Member(broker_id));
        Ok(Response::Done)
    }

    pub(super) fn remove_member(&mut self, broker_id: BrokerId, delta: &mut MetadataDelta) -> Applied {
        if Arc::make_mut(&mut self.members).remove(&broker_id).is_none() {
            return Err(Rejection::UnknownMember(broker_id));
        }
        delta.rows.insert(RowKey::Member(broker_id));
        Ok(Response::Done)
    }
}
