//! What one step of the core may touch beside its group: the time, the timers, the writes, the commands.

use std::time::Duration;

use super::timers::Timers;
use super::writes::{Completion, Write, Writes};
use super::{GroupConfig, GroupId, GroupRecord, MemberId, Reply, Token};

/// The time a step happens at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Duration,
    /// For timestamps, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

/// What the core wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Reply(Token, Reply),
    /// Make these durable and say so with `Event::Appended`. One at a time.
    Append(Vec<GroupRecord>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TimerKey {
    /// A member, or one that was given an id, has not been heard of.
    Session(GroupId, MemberId),
    /// Time to complete the join phase with those who have joined.
    Join(GroupId),
    /// Time to go on without those who have not synced.
    Sync(GroupId),
    /// Time to look for offsets nobody needs any more.
    ExpireOffsets,
}

pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) config: &'a GroupConfig,
    pub(super) timers: &'a mut Timers<TimerKey>,
    pub(super) writes: &'a mut Writes,
    pub(super) commands: &'a mut Vec<Command>,
}

impl Step<'_> {
    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.commands.push(Command::Reply(token, reply));
    }

    pub(super) fn set_timer(&mut self, key: TimerKey, after: Duration) {
        self.timers.set(key, self.now.monotonic.saturating_add(after));
    }

    pub(super) fn write(&mut self, group_id: &GroupId, records: Vec<GroupRecord>, completion: Completion) {
        self.writes.push(Write { group_id: group_id.clone(), records, completion });
    }
}
