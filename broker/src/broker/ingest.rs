//! From a client's batch to its place in the log, where that takes longer than a network thread has: an ingest hook
//! looks at it, or it must be opened to be checked.
//!
//! ```text
//! begin_append -> checked -> in the partition's lane -> hook -> rebuilt -> its turn -> checked again -> appended
//!             \-> appended at once, where there is no hook, nothing to open, and nobody ahead
//! ```
//! Hooks see batches of a partition side by side and answer in any order; the lane gives the batches their offsets in
//! the order in which they came. Other partitions have lanes of their own.
//!
//! | task | owner | ends when |
//! | --- | --- | --- |
//! | one for each batch in a lane | the broker's tracker | its batch is appended or turned away: within `INGEST_TIME_MAX` after those before it; at once when the broker stops |
//!
//! It goes on when its client is gone: what has begun may be appended, and a client that asks again is told so.

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{BuildError, RecordBatch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Broker;
use super::hook_room::{HookPlace, HookRoom};
use crate::hooks::{INGEST_TIME_MAX, Ingest, IngestBinding, IngestOutcome, IngestRequest, Rewrite};
use crate::ids::Principal;
use crate::log::batch::{BatchMeta, ProducerBatch};
use crate::metrics::HookOutcome;
use crate::partition::{
    AppendError, Appended, LocalTopic, Origin, Partition, REFUSALS_MAX, RecordRefusal, Sent, Turn,
    must_decompress,
};

/// Batches in the lanes of all partitions. The memory of requests bounds them, too, but not their number.
const IN_LANES_MAX: usize = 32 * 1024;
/// The longest message of a hook that a client is told.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Why a client's batch is not on the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("{message}")]
    Refused { message: String, records: Vec<RecordRefusal> },
    /// It may be sent again.
    #[error("{0}")]
    Later(String),
}

/// A batch that is on its way.
pub(crate) enum Appending {
    Done(Result<Appended, IngestError>),
    InLane(JoinHandle<Result<Appended, IngestError>>),
}

/// What the batches in lanes share.
pub(crate) struct Lanes {
    tasks: TaskTracker,
    room: HookRoom,
    places: Arc<Semaphore>,
}

impl Lanes {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { tasks, room: HookRoom::new(), places: Arc::new(Semaphore::new(IN_LANES_MAX)) }
    }
}

/// A batch in a lane.
struct InLane {
    partition: Arc<Partition>,
    batch: Bytes,
    turn: Turn,
    _place: OwnedSemaphorePermit,
}

/// Where a batch goes through before it is stored.
struct Through {
    hook: Option<Arc<dyn Ingest>>,
    request: IngestRequest,
    meta: BatchMeta,
    arrived: Instant,
}

/// What a hook has made of a batch.
enum Verdict {
    Store(Bytes, Origin),
    TurnAway(IngestError),
}

impl Broker {
    /// Begins to append a batch. Batches of one partition get their offsets in the order of these calls.
    pub(crate) fn begin_append(
        self: &Arc<Self>,
        topic: &LocalTopic,
        partition: &Arc<Partition>,
        binding: &IngestBinding,
        batch: Bytes,
        client_id: &Arc<str>,
        principal: &Principal,
    ) -> Appending {
        let hook = match binding {
            IngestBinding::None => return self.begin_unhooked(topic, partition, batch),
            IngestBinding::Pending => None,
            IngestBinding::Active(hook) => Some(Arc::clone(hook)),
        };
        let meta = match partition.check_sent(&batch) {
            Ok(Sent::New(meta)) => meta,
            Ok(Sent::Duplicate(appended)) => return Appending::Done(Ok(appended)),
            Err(error) => return Appending::Done(Err(error.into())),
        };
        let rewrite = RecordBatch::new(&batch).ok().and_then(|batch| Rewrite::of(&batch));
        let request = IngestRequest {
            topic: topic.image().name.clone(),
            topic_id: topic.image().id,
            partition: partition.id().partition,
            client_id: Arc::clone(client_id),
            principal: principal.clone(),
            batch: batch.clone(),
            rewrite: rewrite.expect("the header has been checked"),
        };
        let through = Through { hook, request, meta, arrived: Instant::now() };
        self.enter_lane(partition, batch, |broker, in_lane| broker.pass_through(in_lane, through))
    }

    fn begin_unhooked(
        self: &Arc<Self>,
        topic: &LocalTopic,
        partition: &Arc<Partition>,
        batch: Bytes,
    ) -> Appending {
        if partition.lane().is_idle() && !must_decompress(&batch, topic.config()) {
            return Appending::Done(self.append(partition, batch, Origin::Client));
        }
        self.enter_lane(partition, batch, |broker, in_lane| async move {
            in_lane.turn.come().await;
            broker.append_in_turn(&in_lane, in_lane.batch.clone(), Origin::Client).await
        })
    }

    /// Runs `work`, in a task of its own, for a batch that has its place in the partition's lane.
    fn enter_lane<F>(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        batch: Bytes,
        work: impl FnOnce(Arc<Self>, InLane) -> F,
    ) -> Appending
    where
        F: Future<Output = Result<Appended, IngestError>> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.lanes.places).try_acquire_owned() else {
            turn_away(partition, &batch);
            let message = format!("{IN_LANES_MAX} batches are waiting already");
            return Appending::Done(Err(IngestError::Later(message)));
        };
        let turn = partition.lane().enter();
        let in_lane = InLane { partition: Arc::clone(partition), batch, turn, _place: place };
        Appending::InLane(self.lanes.tasks.spawn(work(Arc::clone(self), in_lane)))
    }

    async fn pass_through(
        self: Arc<Self>,
        in_lane: InLane,
        through: Through,
    ) -> Result<Appended, IngestError> {
        let Through { hook, request, meta, arrived } = through;
        let (topic, records_in) = (request.topic.clone(), meta.last_offset.0 + 1);
        // Kept until the batch is appended: what a hook has made of it takes memory until then.
        let mut place = None;
        let outcome = match hook {
            Some(hook) => {
                let outcome = self.ask(&in_lane, &*hook, request, arrived, &mut place).await;
                self.metrics.ingest.observe(&topic, arrived.elapsed());
                outcome
            }
            None => {
                IngestOutcome::TryLater { message: "the topic's ingest plugin is not ready yet".to_owned() }
            }
        };
        let counted = match &outcome {
            IngestOutcome::Unchanged => HookOutcome::Unchanged,
            IngestOutcome::Rewritten(rewrite) => {
                HookOutcome::Rewritten { records_out: i64::from(rewrite.records_count()) }
            }
            IngestOutcome::Refused { .. } => HookOutcome::Refused,
            IngestOutcome::TryLater { .. } => HookOutcome::Later,
        };
        self.metrics.ingest.batch(&topic, records_in, counted);
        let verdict = self.judge(&in_lane, outcome).await;
        in_lane.turn.come().await;
        match verdict {
            Verdict::Store(bytes, origin) => self.append_in_turn(&in_lane, bytes, origin).await,
            Verdict::TurnAway(error) => {
                if let (IngestError::Later(_), Some(producer)) = (&error, &meta.producer) {
                    in_lane.partition.turned_away(producer);
                }
                Err(error)
            }
        }
    }

    /// The hook's answer, if it comes in time.
    async fn ask(
        &self,
        in_lane: &InLane,
        hook: &dyn Ingest,
        request: IngestRequest,
        arrived: Instant,
        place: &mut Option<HookPlace>,
    ) -> IngestOutcome {
        let room = &self.lanes.room;
        let asked = async {
            *place = Some(tokio::select! {
                biased;
                place = room.enter(request.topic_id, request.batch.len()) => place,
                place = async {
                    in_lane.turn.come().await;
                    room.enter_first().await
                } => place,
            });
            hook.transform(request).await
        };
        let later = |message: String| IngestOutcome::TryLater { message };
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => later("the broker is stopping".to_owned()),
            answered = tokio::time::timeout_at(arrived + INGEST_TIME_MAX, asked) => answered.unwrap_or_else(|_| {
                later(format!("the topic's ingest plugin gave no answer within {} s", INGEST_TIME_MAX.as_secs()))
            }),
        }
    }

    /// What there is to be stored. A batch that is to be compressed is, off the network threads.
    async fn judge(&self, in_lane: &InLane, outcome: IngestOutcome) -> Verdict {
        let rewrite = match outcome {
            IngestOutcome::Unchanged => return Verdict::Store(in_lane.batch.clone(), Origin::Client),
            IngestOutcome::Rewritten(rewrite) => rewrite,
            IngestOutcome::Refused { message, mut records } => {
                records.truncate(REFUSALS_MAX);
                for record in &mut records {
                    shorten(&mut record.message);
                }
                return Verdict::TurnAway(IngestError::Refused { message: shortened(message), records });
            }
            IngestOutcome::TryLater { message } => {
                return Verdict::TurnAway(IngestError::Later(shortened(message)));
            }
        };
        let (sent, must_compress) = (in_lane.batch.clone(), rewrite.is_compressed());
        let build = move || {
            let bytes = rewrite.finish(&sent)?;
            Ok::<_, BuildError>(Bytes::from_owner(Rewritten { bytes, _sent: sent }))
        };
        let built = match must_compress {
            true => self.openings.run(build).await,
            false => build(),
        };
        match built {
            Ok(bytes) => Verdict::Store(bytes, Origin::Ingest),
            Err(error) => Verdict::TurnAway(IngestError::Later(error.to_string())),
        }
    }

    async fn append_in_turn(
        self: &Arc<Self>,
        in_lane: &InLane,
        bytes: Bytes,
        origin: Origin,
    ) -> Result<Appended, IngestError> {
        let partition = &in_lane.partition;
        if !must_decompress(&bytes, &partition.config()) {
            return self.append(partition, bytes, origin);
        }
        let (broker, partition) = (Arc::clone(self), Arc::clone(partition));
        self.openings.run(move || broker.append(&partition, bytes, origin)).await
    }

    fn append(&self, partition: &Partition, bytes: Bytes, origin: Origin) -> Result<Appended, IngestError> {
        let length = bytes.len();
        let appended = partition.append(bytes, origin)?;
        self.metrics.produced(appended.records, length);
        Ok(appended)
    }
}

/// A rewritten batch on its way to the disk. It holds what was sent, which holds its part of the request memory: what
/// is on its way is bounded by that, as it is without a hook.
struct Rewritten {
    bytes: Bytes,
    _sent: Bytes,
}

impl AsRef<[u8]> for Rewritten {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn turn_away(partition: &Partition, batch: &Bytes) {
    let Ok((batch, _)) = RecordBatch::split_first(batch) else { return };
    if let Some(producer) = ProducerBatch::of(&batch) {
        partition.turned_away(&producer);
    }
}

fn shortened(mut message: String) -> String {
    shorten(&mut message);
    message
}

fn shorten(message: &mut String) {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
}
