//! Hooks whose answers a test gives, when it likes and in the order it likes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use millstream_record::{BatchBuilder, RecordBatch, RecordBody, RecordIter};
use tokio::sync::{mpsc, oneshot};

use crate::hooks::{
    Hooks, Ingest, IngestBinding, IngestOutcome, IngestRequest, Rewrite, View, ViewError, ViewRequest, Viewed,
};
use crate::log::batch::OPENED_BYTES_MAX;
use crate::metadata::{TopicImage, ViewImage};

#[derive(Default)]
pub(crate) struct Fakes {
    ingest: Mutex<HashMap<String, IngestBinding>>,
    views: Mutex<HashMap<String, Arc<dyn View>>>,
}

impl Fakes {
    pub(crate) fn bind(&self, topic: &str, binding: IngestBinding) {
        self.ingest.lock().unwrap().insert(topic.to_owned(), binding);
    }

    /// Answers each batch at once.
    pub(crate) fn ingest(
        &self,
        topic: &str,
        answer: impl Fn(IngestRequest) -> IngestOutcome + Send + Sync + 'static,
    ) {
        self.bind(topic, IngestBinding::Active(Arc::new(AtOnce(answer))));
    }

    /// The test answers.
    pub(crate) fn hold_ingest(&self, topic: &str) -> Held<IngestRequest, IngestOutcome> {
        let (hook, held) = held();
        self.bind(topic, IngestBinding::Active(Arc::new(hook)));
        held
    }

    pub(crate) fn view(
        &self,
        name: &str,
        version: u64,
        answer: impl Fn(ViewRequest) -> Result<Viewed, ViewError> + Send + Sync + 'static,
    ) -> Arc<AtomicU64> {
        let calls = Arc::new(AtomicU64::new(0));
        let hook = AtOnceView { version, answer, calls: Arc::clone(&calls) };
        self.views.lock().unwrap().insert(name.to_owned(), Arc::new(hook));
        calls
    }

    pub(crate) fn hold_view(&self, name: &str) -> Held<ViewRequest, Result<Viewed, ViewError>> {
        let (hook, held) = held();
        self.views.lock().unwrap().insert(name.to_owned(), Arc::new(hook));
        held
    }

    pub(crate) fn unready(&self, view: &str) {
        self.views.lock().unwrap().remove(view);
    }
}

impl Hooks for Fakes {
    fn ingest(&self, topic: &TopicImage) -> IngestBinding {
        let bound = self.ingest.lock().unwrap();
        bound.get(topic.name.as_str()).cloned().unwrap_or(IngestBinding::None)
    }

    fn view(&self, view: &ViewImage) -> Option<Arc<dyn View>> {
        self.views.lock().unwrap().get(view.name.as_str()).cloned()
    }
}

struct AtOnce<F>(F);

impl<F: Fn(IngestRequest) -> IngestOutcome + Send + Sync + 'static> Ingest for AtOnce<F> {
    fn transform(&self, request: IngestRequest) -> BoxFuture<'static, IngestOutcome> {
        std::future::ready((self.0)(request)).boxed()
    }
}

struct AtOnceView<F> {
    version: u64,
    answer: F,
    calls: Arc<AtomicU64>,
}

impl<F: Fn(ViewRequest) -> Result<Viewed, ViewError> + Send + Sync + 'static> View for AtOnceView<F> {
    fn version(&self) -> u64 {
        self.version
    }

    fn map(&self, request: ViewRequest) -> BoxFuture<'static, Result<Viewed, ViewError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready((self.answer)(request)).boxed()
    }
}

/// The test's end of a hook.
pub(crate) struct Held<Q, A>(mpsc::UnboundedReceiver<(Q, oneshot::Sender<A>)>);

impl<Q, A> Held<Q, A> {
    /// The next question, and where its answer goes.
    pub(crate) async fn next(&mut self) -> (Q, oneshot::Sender<A>) {
        self.0.recv().await.expect("the hook is bound")
    }

    /// Whether nobody has asked since.
    pub(crate) fn is_unasked(&mut self) -> bool {
        self.0.try_recv().is_err()
    }
}

struct Holding<Q, A>(mpsc::UnboundedSender<(Q, oneshot::Sender<A>)>);

fn held<Q, A>() -> (Holding<Q, A>, Held<Q, A>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Holding(sender), Held(receiver))
}

impl<Q: Send + 'static, A: Send + 'static> Holding<Q, A> {
    fn ask(&self, question: Q) -> BoxFuture<'static, A> {
        let (sender, answer) = oneshot::channel();
        self.0.send((question, sender)).expect("the test listens");
        async move {
            match answer.await {
                Ok(answer) => answer,
                // A hook that never answers.
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl Ingest for Holding<IngestRequest, IngestOutcome> {
    fn transform(&self, request: IngestRequest) -> BoxFuture<'static, IngestOutcome> {
        self.ask(request)
    }
}

impl View for Holding<ViewRequest, Result<Viewed, ViewError>> {
    fn version(&self) -> u64 {
        1
    }

    fn map(&self, request: ViewRequest) -> BoxFuture<'static, Result<Viewed, ViewError>> {
        self.ask(request)
    }
}

/// Keeps the records of the batch for which `map` has a value, with that value.
pub(crate) fn rewritten(
    batch: &Bytes,
    mut rewrite: Rewrite,
    map: impl Fn(&str) -> Option<String>,
) -> Rewrite {
    let view = RecordBatch::new(batch).unwrap();
    let section = view.uncompressed_records(OPENED_BYTES_MAX).unwrap();
    for record in RecordIter::new(&section).map(Result::unwrap) {
        let value = std::str::from_utf8(record.value.unwrap_or_default()).unwrap();
        if let Some(value) = map(value) {
            let body = body(record.key, &value);
            let body = RecordBody::parse(&body).unwrap();
            rewrite.keep(record.offset_delta, view.timestamp_of(&record), body).unwrap();
        }
    }
    rewrite
}

/// Drops the records whose value begins with `-`, and makes the others loud.
pub(crate) fn loud(value: &str) -> Option<String> {
    (!value.starts_with('-')).then(|| value.to_uppercase())
}

/// A record's key and value, encoded.
pub(crate) fn body(key: Option<&[u8]>, value: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 26);
    builder.append(0, key, Some(value.as_bytes()), []).unwrap();
    let batch = builder.finish().unwrap();
    let section = RecordBatch::new(&batch).unwrap().records_section();
    let record = RecordIter::new(section).next().unwrap().unwrap();
    record.body.as_bytes().to_vec()
}
