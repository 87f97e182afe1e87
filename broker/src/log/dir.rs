//! A log dir: the logs placed in one directory, their segments, and the thread that writes them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use super::LogNumber;
use super::block_cache::BlockCache;
use super::config::LogDirConfig;
use super::disk::{DirLock, Disk};
use super::error::{OpenError, StorageError};
use super::metrics::LogMetrics;
use super::open_segments::OpenSegments;
use super::partition::{AppendError, Log, LogInner};
use super::queue::{Command, Queue};
use super::recovery::{self, Recovered};
use super::segment::{Segment, SegmentId};
use super::space_guard::SpaceGuard;
use super::state::LogState;
use super::tail_cache::TailCache;
use super::writer::Writer;
use crate::clock::SharedClock;
use crate::ids::TopicIdPartition;

/// What a log dir takes of the world outside.
#[derive(Clone)]
pub struct LogDirContext {
    pub clock: SharedClock,
    pub disk: Arc<dyn Disk>,
    pub metrics: Arc<dyn LogMetrics>,
}

/// An open log dir. Dropping it drains what is queued and closes the segment; [`LogDir::close`] says
/// whether that went well.
pub struct LogDir {
    shared: Arc<DirShared>,
    /// Until it is closed.
    open: Mutex<Option<Open>>,
}

struct Open {
    writer: JoinHandle<()>,
    _lock: Box<dyn DirLock>,
}

/// Why a log can't be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateLogError {
    #[error("create a log for {0}: there is one")]
    Exists(TopicIdPartition),
    #[error("create a log for {0}")]
    Append(TopicIdPartition, #[source] AppendError),
}

/// What the log dir's logs, its writer and its readers share.
pub(crate) struct DirShared {
    pub(crate) path: PathBuf,
    pub(crate) config: LogDirConfig,
    pub(crate) clock: SharedClock,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) metrics: Arc<dyn LogMetrics>,
    pub(crate) queue: Queue,
    pub(crate) space: SpaceGuard,
    pub(crate) tail_cache: TailCache,
    pub(crate) block_cache: BlockCache,
    pub(crate) open_segments: OpenSegments,
    pub(crate) next_log_number: AtomicU32,
    next_segment_id: AtomicU64,
    logs: RwLock<HashMap<TopicIdPartition, Arc<Log>>>,
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    pub(crate) reclaiming: Mutex<()>,
    /// Held while listeners are told, so that none hears of a flush after it heard of the failure.
    telling: Mutex<()>,
    fenced: OnceLock<Arc<StorageError>>,
}

impl LogDir {
    /// Opens or creates a log dir, with the logs that are in it. Blocks: it may walk a segment.
    pub fn open(path: &Path, config: LogDirConfig, context: LogDirContext) -> Result<Self, OpenError> {
        let lock = recovery::lock(path, &*context.disk)?;
        let shared = Arc::new(DirShared {
            path: path.to_owned(),
            queue: Queue::new(config.queue_bytes_max),
            space: SpaceGuard::default(),
            tail_cache: TailCache::new(config.tail_cache_bytes),
            block_cache: BlockCache::new(config.block_cache_bytes),
            open_segments: OpenSegments::new(config.open_segments_max),
            config,
            clock: context.clock,
            disk: context.disk,
            metrics: context.metrics,
            next_log_number: AtomicU32::new(0),
            next_segment_id: AtomicU64::new(0),
            logs: RwLock::default(),
            segments: RwLock::default(),
            reclaiming: Mutex::default(),
            telling: Mutex::default(),
            fenced: OnceLock::new(),
        });
        let Recovered { active, logs } = recovery::recover(&shared)?;
        shared.space.look(&*shared.disk, &shared.path);
        let by_partition = logs.values().map(|log| (log.topic_id_partition(), log.clone()));
        shared.logs_mut().extend(by_partition);
        let writer = Writer { shared: shared.clone(), active, logs, sealing: None };
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        let guarded = shared.clone();
        let run = move || {
            let _guard = FenceOnPanic(guarded);
            writer.run();
        };
        let writer = thread.spawn(run).map_err(|error| OpenError::Storage {
            path: path.to_owned(),
            source: StorageError::io("start a thread for", path)(error),
        })?;
        Ok(Self { shared, open: Mutex::new(Some(Open { writer, _lock: lock })) })
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The logs, in no particular order.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.shared.logs().values().cloned().collect()
    }

    pub fn log_count(&self) -> usize {
        self.shared.logs().len()
    }

    pub fn log(&self, tp: &TopicIdPartition) -> Option<Arc<Log>> {
        self.shared.logs().get(tp).cloned()
    }

    /// Creates an empty log. It can be appended to at once; it is on disk with the next commit.
    pub fn create_log(&self, tp: TopicIdPartition) -> Result<Arc<Log>, CreateLogError> {
        let mut logs = self.shared.logs_mut();
        if logs.contains_key(&tp) {
            return Err(CreateLogError::Exists(tp));
        }
        let number = LogNumber(self.shared.next_log_number.fetch_add(1, Ordering::AcqRel));
        let inner = LogInner::new(LogState::default());
        let log = Arc::new(Log::new(tp, number, self.shared.clone(), inner));
        let command = Command::Create { log: log.clone() };
        self.shared.queue.push(command).map_err(|error| CreateLogError::Append(tp, error))?;
        logs.insert(tp, log.clone());
        Ok(log)
    }

    /// Deletes a log, if there is one; its bytes come free when the log dir reclaims.
    pub fn delete_log(&self, tp: &TopicIdPartition) -> Result<(), AppendError> {
        let mut logs = self.shared.logs_mut();
        if let Some(log) = logs.get(tp) {
            log.mark_deleted()?;
            logs.remove(tp);
        }
        Ok(())
    }

    /// Waits until everything queued before is on disk. Blocks.
    pub fn flush(&self) -> Result<(), Arc<StorageError>> {
        self.shared.flush()
    }

    /// The error that fenced the log dir.
    pub fn failure(&self) -> Option<Arc<StorageError>> {
        self.shared.fenced.get().cloned()
    }

    /// Writes what is queued, and closes the segment so that the next open needs no repair. Blocks.
    pub fn close(&self) -> Result<(), Arc<StorageError>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.take() {
            self.shared.queue.close(StorageError::Closed { path: self.shared.path.clone() });
            // A writer that panicked has fenced the log dir on its way out.
            let _ = open.writer.join();
            // Logs and log dir hold each other.
            self.shared.logs_mut().clear();
        }
        self.failure().map_or(Ok(()), Err)
    }

    pub(crate) fn shared(&self) -> &Arc<DirShared> {
        &self.shared
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        // Whoever wants to know closes it.
        let _ = self.close();
    }
}

/// A broken invariant of ours, or of a listener's, stops the writer: then nobody may wait for it.
struct FenceOnPanic(Arc<DirShared>);

impl Drop for FenceOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "the writer stopped on a broken invariant";
            self.0.fence(StorageError::inconsistent(&self.0.path, what));
        }
    }
}

impl DirShared {
    pub(crate) fn logs(&self) -> RwLockReadGuard<'_, HashMap<TopicIdPartition, Arc<Log>>> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn logs_mut(&self) -> RwLockWriteGuard<'_, HashMap<TopicIdPartition, Arc<Log>>> {
        self.logs.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segments(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn segments_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment was opened, and others shut for it; pieces of those would keep their files open.
    pub(crate) fn opened(&self, segment: &Arc<Segment>) {
        for shut in self.open_segments.opened(segment) {
            self.block_cache.forget(shut);
        }
    }

    pub(crate) fn next_segment_id(&self) -> SegmentId {
        SegmentId(self.next_segment_id.fetch_add(1, Ordering::AcqRel))
    }

    /// Queues a command of the log dir itself.
    pub(crate) fn ask(&self, command: Command) -> Result<(), Arc<StorageError>> {
        match self.queue.push(command) {
            Ok(()) => Ok(()),
            Err(AppendError::Fenced(error)) => Err(error),
            Err(error) => panic!("it has no bytes and no log: {error}"),
        }
    }

    pub(crate) fn flush(&self) -> Result<(), Arc<StorageError>> {
        let (sender, receiver) = sync_channel(1);
        self.ask(Command::Barrier(sender))?;
        // A writer that panics drops the barriers that it has taken.
        let stopped = || self.fence(StorageError::inconsistent(&self.path, "the writer stopped"));
        receiver.recv().unwrap_or_else(|_| Err(stopped()))
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.get().is_some()
    }

    /// Tells listeners of a flush, unless they heard of a failure.
    pub(crate) fn unless_fenced(&self, tell: impl FnOnce()) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_fenced() {
            tell();
        }
    }

    /// Nothing is acknowledged any more: what was queued has failed, and so has all that comes. After
    /// an error of the disk nobody knows what it holds, and a later sync that succeeds proves nothing
    /// about the earlier one. Answers the first error.
    pub(crate) fn fence(&self, error: StorageError) -> Arc<StorageError> {
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let error = Arc::new(error);
        if self.fenced.set(error.clone()).is_err() {
            return self.fenced.get().cloned().unwrap_or(error);
        }
        let pending = self.queue.fence(&error);
        let logs: Vec<Arc<Log>> = self.logs().values().cloned().collect();
        for log in logs {
            log.notify_failed(&error);
        }
        drop(telling);
        self.metrics.fenced();
        for command in pending {
            if let Command::Barrier(answer) = command {
                let _ = answer.send(Err(error.clone()));
            }
        }
        // Last of all: whoever waits must not wait for a log that can't be written either.
        tracing::error!(dir = %self.path.display(), %error, "log dir failed, its partitions go offline");
        error
    }
}

impl std::fmt::Debug for DirShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirShared({})", self.path.display())
    }
}
