//! Group commit: what is to be appended to one partition of `__consumer_offsets`, and what follows from it.
//!
//! One append is in flight at a time; what is asked for meanwhile becomes the next one. So commits of a group
//! keep their order, and one sync covers everybody who waited for it.

use std::collections::{HashMap, VecDeque};

use super::static_member::ReplacedMember;
use super::{AppendError, FetchOffsets, GenerationId, GroupId, GroupRecord, MemberId, Reply, Token};

/// What one append carries at most, unless a single write is larger: below `max.message.bytes`.
const APPEND_BYTES_MAX: usize = 900_000;

/// What may wait for its append before commits are refused.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// Records to make durable together, and what to do then. Without records it waits for those before it.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) group_id: GroupId,
    pub(super) records: Vec<GroupRecord>,
    pub(super) completion: Completion,
}

/// What follows when a write's records are durable, or will never be.
#[derive(Debug)]
pub(super) enum Completion {
    Nothing,
    /// This answer, or its counterpart if the write fails.
    Reply(Token, Reply),
    /// The generation's assignment may be handed out.
    Assignment {
        generation_id: GenerationId,
        assignment: HashMap<MemberId, bytes::Bytes>,
    },
    /// A static member that came back may carry on.
    StaticMember(Box<ReplacedMember>),
    /// The commits accepted before have been decided: look the offsets up.
    Fetch(Token, FetchOffsets),
    /// The commits accepted before have been decided: write the dead group's tombstones.
    Delete(Option<Token>),
    /// The dead group's tombstones are durable.
    Deleted(Option<Token>),
}

#[derive(Debug, Default)]
pub(super) struct Writes {
    queued: VecDeque<Write>,
    queued_bytes: usize,
    in_flight: Option<Vec<Write>>,
    writes_by_group: HashMap<GroupId, usize>,
}

impl Writes {
    pub(super) fn push(&mut self, write: Write) {
        self.queued_bytes += size_bound(&write);
        *self.writes_by_group.entry(write.group_id.clone()).or_default() += 1;
        self.queued.push_back(write);
    }

    pub(super) fn are_full(&self) -> bool {
        self.queued_bytes >= QUEUED_BYTES_MAX
    }

    /// Something of the group is not decided yet.
    pub(super) fn has_pending(&self, group_id: &GroupId) -> bool {
        self.writes_by_group.contains_key(group_id)
    }

    /// Takes a write that has no records to wait for: it is decided as soon as it is first in line.
    pub(super) fn pop_decided(&mut self) -> Option<Write> {
        if self.in_flight.is_some() || !self.queued.front()?.records.is_empty() {
            return None;
        }
        let write = self.pop()?;
        self.decided(&write.group_id);
        Some(write)
    }

    /// The next append's records, unless one is in flight or nothing waits.
    pub(super) fn begin_append(&mut self) -> Option<Vec<GroupRecord>> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(write) = self.queued.front() {
            bytes += size_bound(write);
            if bytes > APPEND_BYTES_MAX && !batch.is_empty() {
                break;
            }
            batch.extend(self.pop());
        }
        let records: Vec<_> = batch.iter().flat_map(|write| write.records.iter().cloned()).collect();
        if batch.is_empty() {
            return None;
        }
        assert!(!records.is_empty(), "writes without records at the front are decided before an append");
        self.in_flight = Some(batch);
        Some(records)
    }

    /// The writes of the append in flight, which is now decided.
    pub(super) fn end_append(&mut self) -> Vec<Write> {
        let batch = self.in_flight.take().expect("an append ends after it began");
        for write in &batch {
            self.decided(&write.group_id);
        }
        batch
    }

    /// All that is not decided, in order: the shard is going away.
    pub(super) fn drain(&mut self) -> Vec<Write> {
        let mut writes = self.in_flight.take().unwrap_or_default();
        writes.extend(self.queued.drain(..));
        *self = Self::default();
        writes
    }

    fn pop(&mut self) -> Option<Write> {
        let write = self.queued.pop_front()?;
        self.queued_bytes -= size_bound(&write);
        Some(write)
    }

    fn decided(&mut self, group_id: &GroupId) {
        let count = self.writes_by_group.get_mut(group_id).expect("a queued write is counted");
        *count -= 1;
        if *count == 0 {
            self.writes_by_group.remove(group_id);
        }
    }
}

fn size_bound(write: &Write) -> usize {
    write.records.iter().map(GroupRecord::size_bound).sum()
}

impl Completion {
    /// The request that waits for this completion alone, with its answer if the write failed.
    pub(super) fn into_refusal(self, error: AppendError) -> Option<(Token, Reply)> {
        match self {
            Self::Reply(token, reply) => Some((token, reply.not_durable(error))),
            Self::Fetch(token, _) => Some((token, Reply::FetchOffsets(Err(error.for_group())))),
            Self::Delete(token) | Self::Deleted(token) => {
                token.map(|token| (token, Reply::DeleteGroup(Err(error.for_group()))))
            }
            // These answer requests that are parked in their group.
            Self::Nothing | Self::Assignment { .. } | Self::StaticMember(_) => None,
        }
    }
}
