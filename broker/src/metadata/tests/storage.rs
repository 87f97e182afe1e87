//! openraft's storage suite against real files, also with the file closed and opened between any two steps.

use std::fmt::Debug;
use std::future::Future;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{LogId, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Vote};
use tempfile::TempDir;
use uuid::Uuid;

use super::super::image::ClusterId;
use super::super::log_store::LogStore;
use super::super::raft::{
    BatchResponse, Entry, Identity, Membership, SnapshotMeta, StorageError, TypeConfig,
};
use super::super::snapshot::SnapshotData;
use super::super::state_machine::{SnapshotBuilder, StateMachine};
use super::super::store::{Closed, Expected, FILE_NAME, Store, open_file};
use crate::ids::BrokerId;

/// Both halves over one file.
struct Opened {
    log: LogStore,
    machine: StateMachine,
    closed: Closed,
}

impl Opened {
    async fn at(dir: &Path) -> Self {
        let cluster_id = ClusterId(Uuid::from_u128(7));
        let identity = Identity { node_id: BrokerId(0), cluster_id };
        let expected = Expected { node_id: BrokerId(0), cluster_id: Some(cluster_id) };
        let in_thread = dir.to_owned();
        let open = move || open_file(&in_thread, identity, super::origin());
        let (store, _, closed) = Store::open(&dir.join(FILE_NAME), expected, open).await.unwrap();
        let (machine, _) = StateMachine::load(store.clone(), cluster_id).await.unwrap();
        Self { log: LogStore::new(store), machine, closed }
    }

    async fn close(self) {
        drop((self.log, self.machine));
        self.closed.await.unwrap().unwrap();
    }
}

struct Files;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, (TempDir, Closed)> for Files {
    async fn build(&self) -> Result<((TempDir, Closed), LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let Opened { log, machine, closed } = Opened::at(dir.path()).await;
        Ok(((dir, closed), log, machine))
    }
}

#[test]
fn the_suite_passes() {
    Suite::test_all(Files).unwrap();
}

struct Reopening;

/// Opens the file for each step and closes it after.
struct Reopened {
    dir: PathBuf,
}

impl Reopened {
    async fn step<R>(&self, step: impl AsyncFnOnce(&mut Opened) -> R) -> R {
        let mut opened = Opened::at(&self.dir).await;
        let result = step(&mut opened).await;
        opened.close().await;
        result
    }

    fn again(&self) -> Self {
        Self { dir: self.dir.clone() }
    }
}

impl StoreBuilder<TypeConfig, Reopened, Reopened, TempDir> for Reopening {
    async fn build(&self) -> Result<(TempDir, Reopened, Reopened), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let store = Reopened { dir: dir.path().to_owned() };
        Ok((dir, store.again(), store))
    }
}

#[test]
fn the_suite_passes_with_a_reopen_between_steps() {
    Suite::test_all(Reopening).unwrap();
}

impl RaftLogReader<TypeConfig> for Reopened {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        sendable(self.step(async |s| s.log.try_get_log_entries(bounds).await)).await
    }
}

/// Names the future, so that the compiler need not infer its bounds through the trait.
fn sendable<F: Future>(future: F) -> F {
    future
}

impl RaftLogStorage<TypeConfig> for Reopened {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.step(async |s| s.log.get_log_state().await).await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.again()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        self.step(async |s| s.log.save_vote(vote).await).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        self.step(async |s| s.log.read_vote().await).await
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError> {
        self.step(async |s| s.log.save_committed(committed).await).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError> {
        self.step(async |s| s.log.read_committed().await).await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.step(async |s| s.log.append(entries, callback).await).await
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        self.step(async |s| s.log.truncate(log_id).await).await
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        self.step(async |s| s.log.purge(log_id).await).await
    }
}

struct ReopenedBuilder(Reopened);

impl RaftSnapshotBuilder<TypeConfig> for ReopenedBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        self.0
            .step(async |s| {
                let mut builder: SnapshotBuilder = s.machine.get_snapshot_builder().await;
                builder.build_snapshot().await
            })
            .await
    }
}

impl RaftStateMachine<TypeConfig> for Reopened {
    type SnapshotBuilder = ReopenedBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, Membership), StorageError> {
        self.step(async |s| s.machine.applied_state().await).await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<BatchResponse>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.step(async |s| s.machine.apply(entries).await).await
    }

    async fn get_snapshot_builder(&mut self) -> ReopenedBuilder {
        ReopenedBuilder(self.again())
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        self.step(async |s| s.machine.begin_receiving_snapshot().await).await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        self.step(async |s| s.machine.install_snapshot(meta, snapshot).await).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.step(async |s| s.machine.get_current_snapshot().await).await
    }
}
