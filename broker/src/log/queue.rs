//! What waits for a log dir's writer.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::batch::BatchMeta;
use super::compaction::CompactedSegments;
use super::error::StorageError;
use super::partition::{AppendError, Log};
use super::state::Change;

/// Something for the writer to commit.
#[derive(Debug)]
pub(crate) enum Command {
    Create {
        log: Arc<Log>,
    },
    Delete {
        log: Arc<Log>,
    },
    Append {
        log: Arc<Log>,
        data: Bytes,
        metas: Vec<BatchMeta>,
    },
    Change {
        log: Arc<Log>,
        change: Change,
    },
    /// The segment's file goes once this is synced.
    RemoveSegment(u32),
    /// Compacted segments count once this is synced.
    AddSegments(Arc<CompactedSegments>),
    /// The newest segment is sealed, and a new one begun.
    Roll,
    /// Answered when everything before it is on disk.
    Barrier(SyncSender<Result<(), Arc<StorageError>>>),
}

impl Command {
    /// Bytes that it holds on to.
    fn bytes(&self) -> usize {
        match self {
            Self::Append { data, metas, .. } => data.len() + metas.len() * size_of::<BatchMeta>(),
            _ => 0,
        }
    }

    /// Entries that it becomes.
    fn entries(&self) -> usize {
        match self {
            Self::Append { metas, .. } => metas.len(),
            _ => 1,
        }
    }
}

/// Unbounded in length, since a command is never refused while its bytes fit: the request memory
/// bounds what clients have in flight. `bytes_max` is the backstop.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    bytes: usize,
    is_closed: bool,
    fenced: Option<Arc<StorageError>>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn push(&self, command: Command) -> Result<(), AppendError> {
        let mut state = self.lock();
        if let Some(error) = &state.fenced {
            return Err(AppendError::Fenced(error.clone()));
        }
        let bytes = command.bytes();
        if bytes > 0 && state.bytes + bytes > self.bytes_max {
            return Err(AppendError::QueueFull { queued_bytes: state.bytes });
        }
        state.bytes += bytes;
        state.commands.push_back(command);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for commands and takes them, up to a commit's worth; `None` once the queue is closed
    /// and drained.
    pub(crate) fn take(&self, commit_bytes_max: usize, commit_entries_max: usize) -> Option<Vec<Command>> {
        let mut state = self.lock();
        while state.commands.is_empty() {
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut bytes, mut entries, mut count) = (0, 0, 0);
        for command in &state.commands {
            let fits = bytes + command.bytes() <= commit_bytes_max
                && entries + command.entries() <= commit_entries_max;
            if count > 0 && !fits {
                break;
            }
            bytes += command.bytes();
            entries += command.entries();
            count += 1;
        }
        state.bytes -= bytes;
        Some(state.commands.drain(..count).collect())
    }

    /// Nothing is pushed after this; what is queued is still taken.
    pub(crate) fn close(&self, error: StorageError) {
        let mut state = self.lock();
        state.is_closed = true;
        state.fenced.get_or_insert_with(|| Arc::new(error));
        drop(state);
        self.changed.notify_all();
    }

    /// Refuses everything from now on, and gives back what was queued.
    pub(crate) fn fence(&self, error: &Arc<StorageError>) -> VecDeque<Command> {
        let mut state = self.lock();
        state.is_closed = true;
        state.fenced.get_or_insert_with(|| error.clone());
        state.bytes = 0;
        std::mem::take(&mut state.commands)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
