//! Producer ids, taken from the cluster in blocks and given out here.
//!
//! A block that a crash cuts short is lost, not reused.

use std::sync::Mutex;

use super::command::{Command, Response};
use super::handle::{Metadata, ProposeError};
use super::image::BrokerEpoch;
use crate::ids::ProducerId;

/// Ids of one block, as in Kafka.
const BLOCK_IDS: i32 = 1000;

#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    /// Held while a block is on its way, so that one comes and not one for each who waits.
    block: tokio::sync::Mutex<Block>,
    epoch: Mutex<Option<BrokerEpoch>>,
}

#[derive(Debug, Default)]
struct Block {
    next: i64,
    /// Exclusive.
    end: i64,
}

impl ProducerIds {
    /// Blocks are asked for under this epoch from now on.
    pub(super) fn registered(&self, epoch: BrokerEpoch) {
        *self.epoch.lock().expect("no code panics while it holds this lock") = Some(epoch);
    }

    pub(super) async fn next(&self, metadata: &Metadata) -> Result<ProducerId, ProposeError> {
        let mut block = self.block.lock().await;
        if block.next == block.end {
            let epoch = *self.epoch.lock().expect("no code panics while it holds this lock");
            let broker_epoch = epoch.ok_or(ProposeError::NotRegistered)?;
            let broker_id = metadata.node_id();
            let command = Command::AllocateProducerIds { broker_id, broker_epoch, count: BLOCK_IDS };
            let Response::ProducerIds { first, count } = metadata.propose(command).await? else {
                unreachable!("apply answers an allocation with a block");
            };
            *block = Block { next: first.0, end: first.0 + i64::from(count) };
        }
        let id = ProducerId(block.next);
        block.next += 1;
        Ok(id)
    }
}
