//! The writer thread of a log dir: it alone writes, and owns the order of everything on disk.
//!
//! What queues while it syncs one commit is the next commit; there is no linger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use super::LogNumber;
use super::commit::{COMMIT_ENTRIES_MAX, Commit};
use super::dir::DirShared;
use super::error::StorageError;
use super::metrics::CommitStats;
use super::partition::Log;
use super::queue::Command;
use super::roll::{SEGMENT_NUMBER_STEP, create_segment, write_seal};
use super::schema::SealRow;
use super::segment::Segment;

/// The segment that is written.
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    /// Where the next batch goes.
    pub(crate) position: u64,
    /// Batches in it: what its index in memory is bounded by.
    pub(crate) entries: usize,
    pub(crate) next_commit: u64,
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<DirShared>,
    pub(crate) active: Active,
    /// The logs whose creation is on disk: what a checkpoint holds.
    pub(crate) logs: BTreeMap<LogNumber, Arc<Log>>,
    pub(crate) sealing: Option<JoinHandle<()>>,
}

impl Writer {
    /// Until the log dir is closed, or fails.
    pub(crate) fn run(mut self) {
        let bytes_max = self.shared.config.commit_bytes_max;
        while let Some(commands) = self.shared.queue.take(bytes_max, COMMIT_ENTRIES_MAX) {
            let Work { commands, barriers, roll } = Work::sort(commands);
            match self.commit(commands).and_then(|()| self.roll_if_due(roll)) {
                Ok(()) => answer(barriers, &Ok(())),
                Err(error) => {
                    let error = self.shared.fence(error);
                    answer(barriers, &Err(error));
                    break;
                }
            }
        }
        self.join_seal();
        if !self.shared.is_fenced()
            && let Err(error) = self.active.segment.close_writable()
        {
            self.shared.fence(error);
        }
    }

    fn commit(&mut self, commands: Vec<Command>) -> Result<(), StorageError> {
        if commands.is_empty() {
            return Ok(());
        }
        let started = self.shared.clock.monotonic();
        let position = self.active.position;
        let segment = self.active.segment.clone();
        let commit = Commit::build(commands, position);
        let number = self.active.next_commit;
        segment.write(|database| commit.write(database, &segment, number, position))?;

        self.active.next_commit += 1;
        self.active.position += commit.bytes;
        segment.set_bytes(self.active.position);
        self.active.entries += commit.batches;
        let stats = CommitStats {
            batches: commit.batches,
            bytes: commit.bytes,
            logs: commit.logs.len(),
            duration: self.shared.clock.monotonic() - started,
        };
        self.publish(commit, &segment, position);
        self.shared.metrics.committed(&stats);
        self.shared.space.committed(stats.bytes, &*self.shared.disk, &self.shared.path);
        Ok(())
    }

    /// Shows a synced commit to readers, then to the listeners.
    fn publish(&mut self, commit: Commit, segment: &Arc<Segment>, position: u64) {
        self.shared.tail_cache.push(segment.id, position, commit.chunks);
        for log in commit.created {
            self.logs.insert(log.number(), log);
        }
        for log in &commit.deleted {
            self.logs.remove(&log.number());
        }
        for touched in &commit.logs {
            touched.log.apply(segment, &touched.changes);
        }
        for added in commit.added {
            added.publish(&self.shared);
        }
        self.shared.unless_fenced(|| {
            for touched in &commit.logs {
                touched.log.notify_flushed();
            }
        });
        for log in commit.deleted {
            log.inner_mut().spans.clear();
        }
    }

    fn roll_if_due(&mut self, asked: bool) -> Result<(), StorageError> {
        let config = &self.shared.config;
        let (bytes, entries) = (self.active.position, self.active.entries);
        let is_full = bytes >= config.segment_bytes || entries >= config.segment_entries_max;
        // Also an empty one: between two segments there is room for so many compacted ones and no more.
        if !is_full && !asked {
            return Ok(());
        }
        // One seal at a time bounds the indexes in memory. A disk too slow for it is rather given
        // twice the segment than made to wait.
        let is_pending = self.sealing.as_ref().is_some_and(|seal| !seal.is_finished());
        if is_pending && bytes < 2 * config.segment_bytes && entries < 2 * config.segment_entries_max {
            return Ok(());
        }
        self.join_seal();
        self.roll()
    }

    fn roll(&mut self) -> Result<(), StorageError> {
        let old = self.active.segment.clone();
        let next =
            create_segment(&self.shared, next_number(old.number), self.active.next_commit, &self.logs)?;
        let seal = SealRow { end_commit: self.active.next_commit, end_position: self.active.position };
        // A new file takes more than what is committed to it at first.
        self.shared.space.look(&*self.shared.disk, &self.shared.path);
        self.active.segment = next;
        self.active.position = 0;
        self.active.entries = 0;

        let shared = self.shared.clone();
        let logs: Vec<Arc<Log>> = self.logs.values().cloned().collect();
        let thread = std::thread::Builder::new().name("log-seal".to_owned()).spawn(move || {
            let started = shared.clock.monotonic();
            match write_seal(&old, &logs, &seal) {
                Ok(()) => shared.metrics.sealed(shared.clock.monotonic() - started),
                Err(error) => drop(shared.fence(error)),
            }
        });
        let thread = thread.map_err(StorageError::io("start a thread for", &self.shared.path))?;
        self.sealing = Some(thread);
        Ok(())
    }

    fn join_seal(&mut self) {
        if let Some(seal) = self.sealing.take() {
            seal.join().expect("sealing panics only on a broken invariant");
        }
    }
}

/// Files end long before numbers do: at 16 MiB a segment, after an exabyte.
fn next_number(number: u32) -> u32 {
    number.checked_add(SEGMENT_NUMBER_STEP).expect("segments' numbers don't run out")
}

type Answer = SyncSender<Result<(), Arc<StorageError>>>;

/// What was taken from the queue.
struct Work {
    /// What goes to disk.
    commands: Vec<Command>,
    barriers: Vec<Answer>,
    /// Whether a new segment was asked for.
    roll: bool,
}

impl Work {
    fn sort(taken: Vec<Command>) -> Self {
        let mut work = Self { commands: Vec::with_capacity(taken.len()), barriers: Vec::new(), roll: false };
        for command in taken {
            match command {
                Command::Barrier(answer) => work.barriers.push(answer),
                Command::Roll => work.roll = true,
                command => work.commands.push(command),
            }
        }
        work
    }
}

fn answer(barriers: Vec<Answer>, result: &Result<(), Arc<StorageError>>) {
    for barrier in barriers {
        // Whoever asked may have gone.
        let _ = barrier.send(result.clone());
    }
}
