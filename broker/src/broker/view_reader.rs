//! Reading views: batches of the source, each in the form that the view gives it.
//!
//! ```text
//! read of the source -> whole batches -> cache -> hook -> rebuilt -> reader
//! ```
//! A batch that a view has looked at is another batch at the same offsets. One without records, and a marker of a
//! transaction, is shown as it is: there is nothing to show. Nothing else goes past the hook.
//!
//! | task | owner | ends when |
//! | --- | --- | --- |
//! | one for each batch that a hook is asked about | the broker's tracker | the hook answers, or `VIEW_TIME_MAX` is over; at once when the broker stops |
//!
//! It goes on when the reader that began it is gone: others may wait for the same batch.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use millstream_record::RecordBatch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hook_room::HookRoom;
use super::view_cache::{Asking, Found, Showing, Shown, ViewCache, ViewKey};
use super::whole_batches::whole_batches;
use super::{Broker, Openings};
use crate::config::BrokerConfig;
use crate::hooks::{Rewrite, VIEW_TIME_MAX, View, ViewError, ViewRequest, Viewed};
use crate::ids::{PartitionIndex, TopicId, TopicName};
use crate::metadata::ViewImage;
use crate::metrics::{BrokerMetrics, HookOutcome};
use crate::partition::LocalTopic;

/// Batches of one read that are looked at side by side.
const BATCHES_AHEAD: usize = 4;

/// What a name leads readers to: a topic, or the source of a view.
pub(crate) struct Readable {
    pub(crate) topic: Arc<LocalTopic>,
    pub(crate) view: Option<Arc<ViewImage>>,
}

/// Batches of a view's source, to be shown.
pub(crate) struct ReadView<'a> {
    pub(crate) view: &'a Arc<ViewImage>,
    pub(crate) source: &'a TopicName,
    pub(crate) partition: PartitionIndex,
    /// Whole batches, end to end.
    pub(crate) batches: Vec<Bytes>,
    pub(crate) bytes_max: usize,
    /// Whether the first is shown even if it is larger than `bytes_max`.
    pub(crate) min_one_batch: bool,
    pub(crate) deadline: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct ShownRead {
    pub(crate) batches: Vec<Bytes>,
    /// More could have been shown.
    pub(crate) is_full: bool,
}

pub(crate) struct ViewReader(Arc<Shared>);

struct Shared {
    tasks: TaskTracker,
    stopping: CancellationToken,
    cache: ViewCache,
    room: HookRoom,
    openings: Openings,
    metrics: Arc<BrokerMetrics>,
}

/// One batch that a hook is asked about.
struct Question {
    hook: Arc<dyn View>,
    view_id: TopicId,
    request: ViewRequest,
    asking: Asking,
}

impl Broker {
    /// What readers of this name read.
    pub(crate) fn readable(&self, name: &str) -> Option<Readable> {
        let image = self.metadata.image();
        match image.view(name) {
            Some(view) => self.source_of(view),
            None => Some(Readable { topic: self.topics.by_name(name)?, view: None }),
        }
    }

    pub(crate) fn readable_by_id(&self, id: TopicId) -> Option<Readable> {
        let image = self.metadata.image();
        match image.view_by_id(id) {
            Some(view) => self.source_of(view),
            None => Some(Readable { topic: self.topics.by_id(id)?, view: None }),
        }
    }

    fn source_of(&self, view: &Arc<ViewImage>) -> Option<Readable> {
        Some(Readable { topic: self.topics.by_id(view.source_id)?, view: Some(Arc::clone(view)) })
    }

    /// Shows what can be shown until the deadline. An error is of the first batch: what comes before another one can
    /// be read.
    pub(crate) async fn show(&self, read: ReadView<'_>) -> Result<ShownRead, ViewError> {
        let not_ready = || ViewError::NotReady("the view's plugin is not ready".to_owned());
        let hook = self.hooks.view(read.view).ok_or_else(not_ready)?;
        self.views.show(&hook, read).await
    }
}

impl ViewReader {
    pub(super) fn new(
        config: &BrokerConfig,
        tasks: TaskTracker,
        openings: &Openings,
        metrics: &Arc<BrokerMetrics>,
        stopping: &CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            tasks,
            stopping: stopping.clone(),
            cache: ViewCache::new(usize::try_from(config.view_cache_bytes).unwrap_or(0)),
            room: HookRoom::new(),
            openings: openings.clone(),
            metrics: Arc::clone(metrics),
        }))
    }

    async fn show(&self, hook: &Arc<dyn View>, read: ReadView<'_>) -> Result<ShownRead, ViewError> {
        let ReadView { view, source, partition, batches, bytes_max, min_one_batch, deadline } = read;
        let damaged = |error| ViewError::Failed(format!("a stored batch is damaged: {error}"));
        let batches = whole_batches(batches).map_err(damaged)?;
        let show = |batch| self.show_batch(hook, view, source, partition, batch);
        let mut showing = stream::iter(batches.into_iter().map(show)).buffered(BATCHES_AHEAD);
        let mut shown = ShownRead::default();
        let mut bytes = 0;
        loop {
            let batch = match tokio::time::timeout_at(deadline, showing.next()).await {
                Ok(None) => return Ok(shown),
                Ok(Some(Ok(batch))) => batch,
                // What can be shown is; the next read begins with the others.
                _ if !shown.batches.is_empty() => break,
                Ok(Some(Err(error))) => return Err(error),
                // Others have something to give.
                Err(_) if !min_one_batch => break,
                Err(_) => return Err(too_slow()),
            };
            let must = shown.batches.is_empty() && min_one_batch;
            if bytes + batch.len() > bytes_max && !must {
                break;
            }
            bytes += batch.len();
            shown.batches.push(batch);
        }
        shown.is_full = true;
        Ok(shown)
    }

    async fn show_batch(
        &self,
        hook: &Arc<dyn View>,
        view: &Arc<ViewImage>,
        source: &TopicName,
        partition: PartitionIndex,
        stored: Bytes,
    ) -> Result<Bytes, ViewError> {
        let failed = |error: String| ViewError::Failed(format!("a stored batch is damaged: {error}"));
        let batch = RecordBatch::new(&stored).map_err(|error| failed(error.to_string()))?;
        if batch.is_control() || batch.records_count() == 0 {
            return Ok(stored);
        }
        let key = ViewKey {
            view: view.id,
            version: hook.version(),
            partition,
            base_offset: batch.base_offset(),
            crc: batch.crc(),
        };
        let coming = match self.0.cache.find(key) {
            Found::Known(shown) => {
                let records = i64::from(batch.records_count());
                self.0.metrics.views.batch(&view.name, records, HookOutcome::Remembered);
                return Ok(shown.or_stored(stored));
            }
            Found::Coming(coming) => coming,
            Found::Missing(asking, coming) => {
                batch.validate_header().map_err(|error| failed(error.to_string()))?;
                let rewrite = Rewrite::of(&batch).expect("the header has been checked");
                let request = ViewRequest {
                    view: view.name.clone(),
                    source: source.clone(),
                    partition,
                    batch: stored.clone(),
                    rewrite,
                };
                let question = Question { hook: Arc::clone(hook), view_id: view.id, request, asking };
                self.0.tasks.spawn(Arc::clone(&self.0).answer(question));
                coming
            }
        };
        let showing = coming.answer().await;
        showing.unwrap_or_else(|| Err(too_slow())).map(|shown| shown.or_stored(stored))
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, question: Question) {
        let Question { hook, view_id, request, asking } = question;
        let (view, stored, begun) = (request.view.clone(), request.batch.clone(), Instant::now());
        let records_in = RecordBatch::new(&stored).map_or(0, |batch| i64::from(batch.records_count()));
        // Kept until the batch is rebuilt: what a hook has made of it takes memory until then.
        let mut place = None;
        let asked = async {
            place = Some(self.room.enter(view_id, request.batch.len()).await);
            hook.map(request).await
        };
        let viewed = tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(ViewError::NotReady("the broker is stopping".to_owned())),
            viewed = tokio::time::timeout_at(begun + VIEW_TIME_MAX, asked) => {
                viewed.unwrap_or_else(|_| Err(too_slow()))
            }
        };
        self.metrics.views.observe(&view, begun.elapsed());
        let outcome = match &viewed {
            Ok(Viewed::Unchanged) => HookOutcome::Unchanged,
            Ok(Viewed::Rewritten(rewrite)) => {
                HookOutcome::Rewritten { records_out: i64::from(rewrite.records_count()) }
            }
            Err(ViewError::NotReady(_)) => HookOutcome::Later,
            Err(ViewError::Failed(error)) => {
                tracing::error!(%view, error, "a view can't show a batch");
                HookOutcome::Failed
            }
        };
        self.metrics.views.batch(&view, records_in, outcome);
        asking.answer(self.rebuild(viewed, &stored).await);
        drop(place);
    }

    async fn rebuild(&self, viewed: Result<Viewed, ViewError>, stored: &Bytes) -> Showing {
        let rewrite = match viewed? {
            Viewed::Unchanged => return Ok(Shown::AsStored),
            Viewed::Rewritten(rewrite) => rewrite,
        };
        let stored = stored.clone();
        let built = match rewrite.is_compressed() {
            true => self.openings.run(move || rewrite.finish(&stored)).await,
            false => rewrite.finish(&stored),
        };
        built.map(Shown::Rewritten).map_err(|error| ViewError::NotReady(error.to_string()))
    }
}

impl Shown {
    fn or_stored(self, stored: Bytes) -> Bytes {
        match self {
            Self::AsStored => stored,
            Self::Rewritten(bytes) => bytes,
        }
    }
}

fn too_slow() -> ViewError {
    ViewError::NotReady(format!("the view's plugin gave no answer within {} s", VIEW_TIME_MAX.as_secs()))
}
