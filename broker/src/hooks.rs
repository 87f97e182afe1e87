//! Where somebody else's code looks at record batches on their way in and out: the traits that it implements.
//!
//! ```text
//! produce -> validated -> Ingest::transform -> validated -> partition      (records that are checked, mapped, refused)
//! fetch of a view -> source's batches -> View::map -> client               (records that are shown in another form)
//! ```
//! The broker asks [`Hooks`] for what is bound to a topic, each time, so that a binding can change at any moment. It
//! hands over whole batches and takes batches back that it has built itself: a [`Rewrite`] has the offsets, the
//! sequences and the flags of the batch in whose place it comes, and at most one record for each of that batch's.
//!
//! What an implementation must know: futures are polled on threads that serve clients, so heavy work belongs on other
//! threads; they may be dropped at any time; what is slower than [`INGEST_TIME_MAX`] or [`VIEW_TIME_MAX`] is given up.
//! The broker bounds how many batches are at the hooks, and their bytes as they came; what opening them takes is for
//! whoever opens them to bound.

mod rewrite;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::rewrite::{Rewrite, RewriteError};
use crate::ids::{PartitionIndex, Principal, TopicId, TopicName};
use crate::metadata::{TopicImage, ViewImage};
pub use crate::partition::RecordRefusal;

/// From a batch's arrival to its hook's answer, the wait for a place included. Clients wait 15 to 30 s for an answer.
pub const INGEST_TIME_MAX: Duration = Duration::from_secs(10);
/// The same for a batch of a view.
pub const VIEW_TIME_MAX: Duration = Duration::from_secs(10);

/// What is bound to topics and views. Asked for every request, so an answer must be cheap.
pub trait Hooks: Send + Sync + 'static {
    /// What the topic's batches go through before they are stored.
    fn ingest(&self, topic: &TopicImage) -> IngestBinding;

    /// What makes the view's batches out of its source's; none as long as it is not ready. Without it the view
    /// can't be read: its source's records are not what a view's reader may see.
    fn view(&self, view: &ViewImage) -> Option<Arc<dyn View>>;
}

/// Nothing is bound to anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn ingest(&self, _topic: &TopicImage) -> IngestBinding {
        IngestBinding::None
    }

    fn view(&self, _view: &ViewImage) -> Option<Arc<dyn View>> {
        None
    }
}

#[derive(Clone)]
pub enum IngestBinding {
    None,
    /// Something is bound, and not ready yet: nothing is stored until it is, nor goes past it.
    Pending,
    Active(Arc<dyn Ingest>),
}

pub trait Ingest: Send + Sync + 'static {
    fn transform(&self, request: IngestRequest) -> BoxFuture<'static, IngestOutcome>;
}

/// A batch on its way into a topic.
#[derive(Debug)]
pub struct IngestRequest {
    pub topic: TopicName,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// What the client calls itself.
    pub client_id: Arc<str>,
    pub principal: Principal,
    /// One whole batch as the client sent it, its offsets from 0 on. Its checksum and its header have been checked;
    /// its records, too, unless they are compressed.
    pub batch: Bytes,
    /// For [`IngestOutcome::Rewritten`].
    pub rewrite: Rewrite,
}

#[derive(Debug)]
pub enum IngestOutcome {
    /// The batch is stored as it came.
    Unchanged,
    /// In its place a batch is stored of the records that were kept; of none, if need be.
    Rewritten(Rewrite),
    /// Nothing of the batch is stored, and sending it again would not help.
    Refused { message: String, records: Vec<RecordRefusal> },
    /// Nothing of the batch is stored, and the client may send it again.
    TryLater { message: String },
}

pub trait View: Send + Sync + 'static {
    /// What it makes of a batch is remembered under this number: another plugin, or another configuration of it, has
    /// another one.
    fn version(&self) -> u64;

    fn map(&self, request: ViewRequest) -> BoxFuture<'static, Result<Viewed, ViewError>>;
}

/// A batch on its way to a reader of a view.
#[derive(Debug)]
pub struct ViewRequest {
    pub view: TopicName,
    pub source: TopicName,
    pub partition: PartitionIndex,
    /// One whole batch as it is stored; never one without records, nor a control batch. Its checksum was right when it
    /// was stored.
    pub batch: Bytes,
    /// For [`Viewed::Rewritten`].
    pub rewrite: Rewrite,
}

#[derive(Debug)]
pub enum Viewed {
    /// Readers get the batch as it is stored.
    Unchanged,
    /// They get the records that were kept, at their offsets.
    Rewritten(Rewrite),
}

/// Why there is nothing to show of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The reader asks again by itself.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The reader is told, and stays where it is until somebody has looked.
    #[error("{0}")]
    Failed(String),
}
