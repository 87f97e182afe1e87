//! Transforms in the way of the records: `ingest`, of what producers send, before it is stored, and `view`, of what
//! consumers read. Whoever asks waits for the answer, and no thread of his does.
//!
//! ```text
//! Inline::map ── jobs (bounded) ──> worker threads: open, transform, check ──> one answer each
//!    waits for `budget`                (own OS threads, own the instances)
//! ```
//!
//! Versions are those of stages: they are swapped between two batches, and taken back when they crash. A batch that
//! crashes its plugin fails alone.

mod answer;
mod isolate;
mod letters;
mod spec;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::stage::StageShared;

pub use answer::{InlineAnswer, InlineError, InlineRecord, InlineRecords, LettersFault};
pub use spec::{InlineSpec, OnFailure};

pub(crate) use letters::{LetterBox, Postman};

use worker::{Bench, Job};

/// Batches that wait for a worker, of one binding. Each is held in memory by whoever asks.
const JOBS_QUEUED_MAX: usize = 64;

/// A record batch to be mapped.
#[derive(Debug, Clone)]
pub struct InlineBatch {
    pub topic: Arc<str>,
    pub partition: i32,
    /// One batch of version 2, as it came.
    pub batch: Bytes,
}

/// A running binding. Clones are the same.
#[derive(Clone)]
pub struct Inline {
    /// Bindings are numbered as they start.
    number: u64,
    spec: Arc<InlineSpec>,
    shared: Arc<StageShared>,
    jobs: mpsc::Sender<Job>,
}

/// What its owner keeps of a binding.
pub(crate) struct RunningInline {
    pub(crate) inline: Inline,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    /// Of an ingest that writes dead letters.
    postman: Option<Postman>,
}

impl Inline {
    pub fn spec(&self) -> &Arc<InlineSpec> {
        &self.spec
    }

    pub(crate) fn shared(&self) -> &Arc<StageShared> {
        &self.shared
    }

    /// Changes with every version, and is no other binding's: what was mapped under one number is not what another
    /// would make of it.
    pub fn generation(&self) -> u64 {
        (self.number << 32) | (self.shared.deployments.current().generation & u64::from(u32::MAX))
    }

    /// Maps one batch, within the binding's budget.
    pub async fn map(&self, batch: InlineBatch) -> Result<InlineAnswer, InlineError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { batch, reply };
        let answered = async {
            self.jobs.send(job).await.map_err(|_| InlineError::Stopped)?;
            answer.await.map_err(|_| InlineError::Stopped)?
        };
        let budget = self.spec.budget;
        let answered =
            tokio::time::timeout(budget, answered).await.unwrap_or(Err(InlineError::Late { budget }));
        if let Err(error) = &answered {
            self.shared.set_last_failure(&error.to_string());
            if matches!(error, InlineError::Late { .. }) {
                self.shared.metrics.count_error(error.kind());
            }
        }
        answered
    }
}

impl RunningInline {
    /// Starts the binding's threads. Their instances follow; until then batches wait.
    pub(crate) fn start(
        spec: InlineSpec,
        shared: Arc<StageShared>,
        letters: Option<(LetterBox, Postman)>,
    ) -> std::io::Result<Self> {
        let (letters, postman) = letters.unzip();
        let spec = Arc::new(spec);
        let (jobs, receiver) = mpsc::channel(JOBS_QUEUED_MAX);
        let stop = CancellationToken::new();
        let bench = Bench {
            spec: Arc::clone(&spec),
            shared: Arc::clone(&shared),
            jobs: Arc::new(tokio::sync::Mutex::new(receiver)),
            found: Arc::default(),
            letters: letters.map(Arc::new),
            stop: stop.clone(),
        };
        let mut threads = Vec::new();
        for task in 0..spec.stage.parallelism {
            match worker::start(task, bench.clone()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    stop.cancel();
                    return Err(error);
                }
            }
        }
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        Ok(Self { inline: Inline { number, spec, shared, jobs }, stop, threads, postman })
    }

    /// What the threads are at is answered, what waits is not.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Ends the threads.
    pub(crate) async fn stop(self) {
        self.cancel();
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join));
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("a thread of an ingest or view panicked");
        }
        if let Some(postman) = self.postman {
            postman.end().await;
        }
    }
}

#[cfg(test)]
mod tests;
