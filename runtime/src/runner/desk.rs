//! The runner's side on the node's runtime: it owns the port, and does what the session asks, one request at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::thread;
use crate::stage::{
    Commit, FetchedPartition, Polled, PortError, PortFactory, PortRequest, RunnerPort, SeekTo, StageFailure,
    StagePort as _, StageShared, StageState, TopicInfo, TopicPartition,
};

/// How long closing the port may hold up the end.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);
/// A session has one request under way.
const REQUESTS_MAX: usize = 1;

type Reply<T> = oneshot::Sender<Result<T, PortError>>;

/// What a session asks. An answer that nobody waits for any more is dropped.
pub(super) enum Request {
    /// From now on these topics are read, in another membership than before.
    Subscribe {
        topics: Vec<Arc<str>>,
        reply: Reply<()>,
    },
    Poll {
        max_wait: Duration,
        reply: Reply<Polled>,
    },
    Seek {
        partition: TopicPartition,
        to: SeekTo,
        reply: Reply<()>,
    },
    Committed {
        partitions: Vec<TopicPartition>,
        reply: Reply<Vec<Option<i64>>>,
    },
    Commit {
        commit: Commit,
        reply: Reply<()>,
    },
    Describe {
        topics: Vec<Arc<str>>,
        reply: Reply<Vec<Option<TopicInfo>>>,
    },
    LastValue {
        partition: TopicPartition,
        key: Arc<str>,
        reply: Reply<Option<Bytes>>,
    },
}

/// Runs one task of a source or sink until it is stopped, its work is done, or it fails. `stop` is cancelled for the
/// other tasks as well, if this one fails.
pub(crate) async fn run_runner<F: PortFactory>(
    shared: Arc<StageShared>,
    factory: Arc<F>,
    task: u32,
    stop: CancellationToken,
) {
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    let session = Session::new(Arc::clone(&shared), task, requests);
    let thread = match thread::start(Arc::clone(&shared), session, task, stop.clone()) {
        Ok(thread) => thread,
        Err(error) => {
            shared.set_state(StageState::Failed(StageFailure::without_batch("worker", &error)));
            return stop.cancel();
        }
    };
    let mut desk = Desk {
        factory: &*factory,
        stop: stop.clone(),
        request: PortRequest::of(&shared.spec, task),
        port: None,
        receiver,
        unheard: None,
    };
    desk.serve().await;
    if let Some(port) = desk.port.take() {
        let _ = tokio::time::timeout(CLOSE_WAIT_MAX, port.close()).await;
    }
    // It lets go of its requests as the last thing that it does, so that joining does not block.
    if thread.join().is_err() {
        let reason = "the thread panicked";
        shared.set_state(StageState::Failed(StageFailure::without_batch("worker", &reason)));
    }
    if shared.is_failed() {
        stop.cancel();
    }
}

struct Desk<'a, F: PortFactory> {
    factory: &'a F,
    stop: CancellationToken,
    request: PortRequest,
    /// None, until it is needed; and after an error that it does not go on from.
    port: Option<F::Port>,
    receiver: mpsc::Receiver<Request>,
    /// What a poll brought when its session had been told to stop: the next one gets it, or nobody knew what is assigned.
    unheard: Option<Result<Polled, PortError>>,
}

impl<F: PortFactory> Desk<'_, F> {
    async fn serve(&mut self) {
        while let Some(request) = self.receiver.recv().await {
            self.answer(request).await;
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Subscribe { topics, reply } => {
                self.request.from = topics;
                self.unheard = None;
                self.close().await;
                let _ = reply.send(Ok(()));
            }
            Request::Poll { max_wait, reply } => self.poll(max_wait, reply).await,
            Request::Seek { partition, to, reply } => {
                if let Some(Ok(polled)) = &mut self.unheard {
                    let is_of = |found: &FetchedPartition| {
                        (&found.topic, found.partition) == (&partition.topic, partition.partition)
                    };
                    polled.fetched.retain(|found| !is_of(found));
                }
                let _ = reply.send(self.port().await.map(|port| port.seek(&partition, to)));
            }
            Request::Committed { partitions, reply } => {
                let found = match self.port().await {
                    Ok(port) => port.committed(&partitions).await,
                    Err(error) => Err(error),
                };
                let _ = reply.send(found);
            }
            Request::Commit { commit, mut reply } => {
                let stop = self.stop.clone();
                let committed = match self.port().await {
                    Ok(port) => tokio::select! {
                        committed = port.commit(commit) => committed,
                        // Nobody waits for it any more, and nothing comes behind it.
                        () = async { reply.closed().await; stop.cancelled().await } => return,
                    },
                    Err(error) => Err(error),
                };
                let _ = reply.send(committed);
            }
            Request::Describe { topics, mut reply } => {
                let described = match self.port().await {
                    Ok(port) => tokio::select! {
                        described = port.describe_topics(&topics) => described,
                        () = reply.closed() => return,
                    },
                    Err(error) => Err(error),
                };
                let _ = reply.send(described);
            }
            Request::LastValue { partition, key, mut reply } => {
                let found = match self.port().await {
                    Ok(port) => tokio::select! {
                        found = port.last_value(&partition, key.as_bytes()) => found,
                        () = reply.closed() => return,
                    },
                    Err(error) => Err(error),
                };
                let _ = reply.send(found);
            }
        }
    }

    async fn poll(&mut self, max_wait: Duration, mut reply: Reply<Polled>) {
        if let Some(unheard) = self.unheard.take() {
            self.unheard = reply.send(unheard).err();
            return;
        }
        let polled = match self.port().await {
            Ok(port) => tokio::select! {
                biased;
                polled = port.poll(max_wait) => polled,
                // A session that is told to stop commits next.
                () = reply.closed() => return,
            },
            Err(error) => Err(error),
        };
        // What a member has left behind is told by the next one.
        if polled.is_err() {
            self.close().await;
        }
        self.unheard = reply.send(polled).err();
    }

    async fn port(&mut self) -> Result<&F::Port, PortError> {
        let port = match self.port.take() {
            Some(port) => port,
            None => self.factory.open(self.request.clone()).await?,
        };
        Ok(self.port.insert(port))
    }

    async fn close(&mut self) {
        if let Some(port) = self.port.take() {
            let _ = tokio::time::timeout(CLOSE_WAIT_MAX, port.close()).await;
        }
    }
}
