//! Applies committed entries to the image, keeps its rows, and publishes it.
//!
//! Owner of the image: readers get it from the `watch`, which changes after the rows were written and before Raft
//! answers the proposer, so whoever has an answer sees its effect.

use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, LogId, OptionalSend, RaftSnapshotBuilder, StoredMembership,
};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use tokio::sync::watch;

use super::delta::{MetadataDelta, RowKey};
use super::image::{ClusterId, MetadataImage};
use super::log_store::fatal;
use super::raft::{AppliedState, BatchResponse, Entry, Membership, SnapshotMeta, StorageError, TypeConfig};
use super::rows::{ImageBuilder, Row};
use super::schema::{APPLIED, SNAPSHOT, STATE};
use super::snapshot::{self, SnapshotData};
use super::store::{Store, StoreError, get, put, write};
use crate::codec;

#[derive(Debug)]
pub(super) struct StateMachine {
    store: Store,
    cluster_id: ClusterId,
    image: MetadataImage,
    applied: AppliedState,
    published: watch::Sender<Published>,
    current: CurrentSnapshot,
}

/// What readers see: the image, and the index of the last entry in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    pub(super) image: Arc<MetadataImage>,
    pub(super) applied_index: Option<u64>,
}

/// The last snapshot taken or installed: a reference to the image of that moment.
type CurrentSnapshot = Arc<Mutex<Option<(SnapshotMeta, Arc<MetadataImage>)>>>;

impl StateMachine {
    /// Reads the state. A snapshot that was taken before is the state as it stands: no older one is ever needed.
    pub(super) async fn load(
        store: Store,
        cluster_id: ClusterId,
    ) -> Result<(Self, watch::Receiver<Published>), StoreError> {
        let (image, applied, has_snapshot) = store.run(move |db| load(db, cluster_id)).await?;
        let current = has_snapshot.then(|| (snapshot_meta(&applied), Arc::new(image.clone())));
        let (published, readers) = watch::channel(Published::default());
        let current = Arc::new(Mutex::new(current));
        let machine = Self { store, cluster_id, image, applied, published, current };
        machine.publish();
        Ok((machine, readers))
    }

    fn publish(&self) {
        self.published.send_replace(Published {
            image: Arc::new(self.image.clone()),
            applied_index: self.applied.last_applied.map(|id| id.index),
        });
    }
}

fn load(db: &Database, cluster_id: ClusterId) -> Result<(MetadataImage, AppliedState, bool), StoreError> {
    let applied = get::<AppliedState>(db, APPLIED)?;
    let has_snapshot = get::<LogId<u64>>(db, SNAPSHOT)?.is_some();
    let table = db.begin_read()?.open_table(STATE)?;
    let mut builder = ImageBuilder::of_cluster(cluster_id);
    for item in table.iter()? {
        let (_, value) = item?;
        builder.add(codec::decode(value.value())?).map_err(|error| StoreError::Damaged(error.to_string()))?;
    }
    Ok((builder.finish(), applied.unwrap_or_default(), has_snapshot))
}

fn snapshot_meta(applied: &AppliedState) -> SnapshotMeta {
    // The state at a log id is the same everywhere, so the log id names it.
    let snapshot_id = applied.last_applied.map_or_else(|| "empty".to_owned(), |id| id.to_string());
    let last_membership = applied.membership.clone();
    SnapshotMeta { last_log_id: applied.last_applied, last_membership, snapshot_id }
}

fn put_row(txn: &WriteTransaction, rows: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
    let mut table = txn.open_table(STATE)?;
    for (key, row) in rows {
        match row {
            Some(row) => table.insert(key.as_slice(), row.as_slice())?,
            None => table.remove(key.as_slice())?,
        };
    }
    Ok(())
}

fn encode_row(image: &MetadataImage, key: &RowKey) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    let row = image.row(key).map(|row: Row| codec::encode(&row)).transpose()?;
    Ok((key.to_bytes(), row))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, Membership), StorageError> {
        Ok((self.applied.last_applied, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<BatchResponse>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut delta = MetadataDelta::default();
        let mut responses = Vec::new();
        for entry in entries {
            self.applied.last_applied = Some(entry.log_id);
            responses.push(match entry.payload {
                EntryPayload::Blank => BatchResponse::default(),
                EntryPayload::Membership(membership) => {
                    self.applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    BatchResponse::default()
                }
                EntryPayload::Normal(batch) => {
                    let apply = |command| self.image.apply(command, &mut delta);
                    BatchResponse(batch.0.iter().map(apply).collect())
                }
            });
        }
        self.keep(&delta).await.map_err(fatal(ErrorSubject::StateMachine, ErrorVerb::Write))?;
        self.publish();
        Ok(responses)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: self.store.clone(),
            meta: snapshot_meta(&self.applied),
            image: Arc::new(self.image.clone()),
            current: self.current.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotData>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotData>,
    ) -> Result<(), StorageError> {
        let failed = |error: StoreError| fatal(ErrorSubject::Snapshot(None), ErrorVerb::Write)(error);
        let bytes = snapshot.into_bytes().map_err(|e| failed(StoreError::Damaged(e.to_string())))?;
        let image = snapshot::decode(&bytes, self.cluster_id)
            .map_err(|e| failed(StoreError::Damaged(e.to_string())))?;
        let applied =
            AppliedState { last_applied: meta.last_log_id, membership: meta.last_membership.clone() };
        let rows: Result<Vec<_>, _> = image.row_keys().map(|key| encode_row(&image, &key)).collect();
        let rows = rows.map_err(failed)?;
        let written = applied.clone();
        let install = move |db: &Database| {
            write(db, Durability::Immediate, |txn| {
                txn.delete_table(STATE)?;
                put_row(txn, &rows)?;
                put(txn, SNAPSHOT, &written.last_applied.unwrap_or_default())?;
                put(txn, APPLIED, &written)
            })
        };
        self.store.run(install).await.map_err(failed)?;
        self.image = image;
        self.applied = applied;
        *lock(&self.current) = Some((meta.clone(), Arc::new(self.image.clone())));
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let current = lock(&self.current).clone();
        Ok(current.map(|(meta, image)| Snapshot { meta, snapshot: Box::new(SnapshotData::of(image)) }))
    }
}

impl StateMachine {
    /// The rows that changed and how far they go, in one transaction.
    async fn keep(&mut self, delta: &MetadataDelta) -> Result<(), StoreError> {
        let rows: Vec<_> =
            delta.rows.iter().map(|key| encode_row(&self.image, key)).collect::<Result<_, _>>()?;
        let applied = self.applied.clone();
        let keep = move |db: &Database| {
            write(db, Durability::None, |txn| {
                put_row(txn, &rows)?;
                put(txn, APPLIED, &applied)
            })
        };
        self.store.run(keep).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it guards is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds on to the image of the moment in which it was made, while the state machine goes on.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    store: Store,
    meta: SnapshotMeta,
    image: Arc<MetadataImage>,
    current: CurrentSnapshot,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    /// The rows are the snapshot: all there is to write is that it exists.
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let last = self.meta.last_log_id.unwrap_or_default();
        let mark = move |db: &Database| write(db, Durability::None, |txn| put(txn, SNAPSHOT, &last));
        self.store.run(mark).await.map_err(fatal(ErrorSubject::Snapshot(None), ErrorVerb::Write))?;
        *lock(&self.current) = Some((self.meta.clone(), self.image.clone()));
        let snapshot = Box::new(SnapshotData::of(self.image.clone()));
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
