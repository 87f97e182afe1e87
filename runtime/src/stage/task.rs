//! One member of a stage's group: the loop between its port and its worker.
//!
//! | in flight | at most | why |
//! | --- | --- | --- |
//! | poll | 1 | |
//! | jobs and units in the worker's queues | 2 and 1 | the next is fetched while one is mapped |
//! | commit | 1 | offsets are committed in order |

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::port::{Commit, Polled, PortError, PortFactory, PortRequest, StagePort, TopicPartition};
use super::spec::OnError;
use super::status::{StageFailure, StageShared, StageState};
use super::topic::{OutputTopic, TopicInfo};
use super::unit::{Ending, Unit};
use super::worker::{Job, Topology, Worker};

const POLL_WAIT: Duration = Duration::from_millis(500);
/// How old the topology may be: a topic that grows, takes other records or is gone is noticed this late.
const TOPOLOGY_AGE_MAX: Duration = Duration::from_secs(10);
const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(100);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A stage that is told to stop waits so long for the batch in flight and for its commit.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

type Pending<'a, T> = Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>;

/// Why a session with a port ended.
enum Ended {
    Stopped,
    Failed(Box<StageFailure>),
    /// Another port may do better.
    Lost(PortError),
}

/// Runs one task of a stage until it is stopped or fails. `stop` is cancelled for the other tasks of the stage as
/// well, if this one fails.
pub(crate) async fn run_stage<F: PortFactory>(
    shared: Arc<StageShared>,
    factory: Arc<F>,
    task: u32,
    stop: CancellationToken,
) {
    let mut backoff = REOPEN_BACKOFF_MIN;
    loop {
        let started = shared.clock().monotonic();
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ended::Stopped,
            opened = factory.open(PortRequest::of(&shared.spec, task)) => match opened {
                Ok(port) => with_port(&shared, port, task, &stop).await,
                Err(error) => ended_by(error),
            },
        };
        // A session that worked for a while is no reason to wait long after it.
        if shared.clock().monotonic().saturating_sub(started) > REOPEN_BACKOFF_MAX {
            backoff = REOPEN_BACKOFF_MIN;
        }
        match ended {
            Ended::Stopped => return shared.set_state(StageState::Stopped),
            Ended::Failed(failure) => {
                let spec = &shared.spec;
                tracing::error!(pipeline = spec.pipeline, stage = spec.name, ?failure, "stage stopped");
                shared.set_state(StageState::Failed(*failure));
                return stop.cancel();
            }
            Ended::Lost(error) => {
                shared.metrics.count_error("port");
                shared.set_state(StageState::Waiting { reason: error.to_string() });
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return shared.set_state(StageState::Stopped),
                    () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(REOPEN_BACKOFF_MAX),
                }
            }
        }
    }
}

fn ended_by(error: PortError) -> Ended {
    match error {
        PortError::Fatal(_) => Ended::Failed(Box::new(StageFailure::without_batch("port", &error))),
        PortError::Fenced(_) | PortError::Unavailable(_) => Ended::Lost(error),
    }
}

async fn with_port<P: StagePort>(
    shared: &Arc<StageShared>,
    port: P,
    task: u32,
    stop: &CancellationToken,
) -> Ended {
    let ended = match Worker::start(Arc::clone(shared), task) {
        Ok(mut worker) => {
            let ended = Session::run(shared, &port, &mut worker, stop).await;
            if worker.stop().await {
                ended
            } else {
                Ended::Failed(Box::new(StageFailure::without_batch("worker", &"the worker thread panicked")))
            }
        }
        Err(error) => Ended::Failed(Box::new(StageFailure::without_batch("worker", &error))),
    };
    let _ = tokio::time::timeout(STOP_WAIT_MAX, port.close()).await;
    ended
}

async fn topology<P: StagePort>(shared: &StageShared, port: &P) -> Result<Topology, PortError> {
    let spec = &shared.spec;
    let dead_letters = match &spec.on_error {
        OnError::DeadLetter(topic) => Some(topic),
        OnError::Stop | OnError::Skip => None,
    };
    let names: Vec<_> = spec.from.iter().chain(&spec.to).chain(dead_letters).map(Arc::clone).collect();
    let described = port.describe_topics(&names).await?;
    let mut topology = Topology::default();
    for (at, (name, info)) in names.into_iter().zip(described).enumerate() {
        let Some(TopicInfo { partitions, rules }) = info.filter(|info| info.partitions > 0) else {
            return Err(PortError::Unavailable(format!("topic {name:?} does not exist")));
        };
        if at < spec.from.len() {
            topology.sources.insert(name, partitions);
        } else {
            topology.outputs.push(OutputTopic { name, partitions, rules });
        }
    }
    Ok(topology)
}

/// One port and one worker, and what is between them.
struct Session<'a, P> {
    shared: &'a StageShared,
    port: &'a P,
    worker: &'a mut Worker,
    topology: Arc<Topology>,
    topology_read: Duration,
    poll: Pending<'a, Result<Polled, PortError>>,
    commit: Pending<'a, Result<(), PortError>>,
    /// The unit that is being committed.
    committing: Option<Unit>,
    /// Fetched, but the worker's queue is full.
    job: Option<Job>,
    jobs_in_flight: usize,
    /// No poll until everything in flight is committed: partitions are being taken away.
    draining: bool,
}

enum Event {
    Stop,
    Committed(Result<(), PortError>),
    Unit(Option<Unit>),
    JobTaken,
    Polled(Result<Polled, PortError>),
}

impl<'a, P: StagePort> Session<'a, P> {
    async fn run(
        shared: &'a StageShared,
        port: &'a P,
        worker: &'a mut Worker,
        stop: &CancellationToken,
    ) -> Ended {
        let topology = tokio::select! {
            biased;
            () = stop.cancelled() => return Ended::Stopped,
            topology = topology(shared, port) => topology,
        };
        let topology = match topology {
            Ok(topology) => Arc::new(topology),
            Err(error) => return ended_by(error),
        };
        shared.set_state(StageState::Running);
        let mut session = Self {
            shared,
            port,
            worker,
            topology,
            topology_read: shared.clock().monotonic(),
            poll: None,
            commit: None,
            committing: None,
            job: None,
            jobs_in_flight: 0,
            draining: false,
        };
        loop {
            session.start_poll();
            let handled = match session.next(stop).await {
                Event::Stop => {
                    let drained = tokio::time::timeout(STOP_WAIT_MAX, session.drain()).await;
                    drained.unwrap_or(Ok(())).and(Err(Ended::Stopped))
                }
                event => session.handle(event).await,
            };
            if let Err(ended) = handled {
                return ended;
            }
        }
    }

    fn start_poll(&mut self) {
        if self.draining && self.jobs_in_flight == 0 && self.job.is_none() {
            self.draining = false;
        }
        if self.poll.is_none() && self.job.is_none() && !self.draining {
            self.poll = Some(Box::pin(self.port.poll(POLL_WAIT)));
        }
    }

    /// Stopping first, then what makes room, then what brings more.
    async fn next(&mut self, stop: &CancellationToken) -> Event {
        let idle = self.commit.is_none();
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            result = finished(&mut self.commit) => Event::Committed(result),
            unit = self.worker.units.recv(), if idle => Event::Unit(unit),
            permit = self.worker.jobs.reserve(), if self.job.is_some() => {
                if let (Ok(permit), Some(job)) = (permit, self.job.take()) {
                    permit.send(job);
                }
                Event::JobTaken
            }
            polled = finished(&mut self.poll) => Event::Polled(polled),
        }
    }

    /// Commits what the worker has done up to the batch that it is at, so that a clean stop repeats nothing. What
    /// is queued behind that batch is left to whoever goes on.
    async fn drain(&mut self) -> Result<(), Ended> {
        (self.poll, self.job) = (None, None);
        self.worker.finish();
        let never = CancellationToken::new();
        loop {
            match self.next(&never).await {
                Event::Unit(None) => return Ok(()),
                event => self.handle(event).await?,
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Stop => Err(Ended::Stopped),
            Event::Committed(result) => {
                result.map_err(ended_by)?;
                let unit = self.committing.take().expect("a commit has a unit");
                self.committed(unit)
            }
            Event::Unit(Some(unit)) => self.start_commit(unit),
            Event::Unit(None) => Err(Ended::Failed(Box::new(StageFailure::without_batch(
                "worker",
                &"the worker thread ended",
            )))),
            Event::JobTaken => Ok(()),
            Event::Polled(polled) => self.polled(polled.map_err(ended_by)?).await,
        }
    }

    fn start_commit(&mut self, mut unit: Unit) -> Result<(), Ended> {
        let commit = std::mem::take(&mut unit.commit);
        let Commit { outputs, offsets, .. } = &commit;
        if outputs.is_empty() && offsets.is_empty() {
            return self.committed(unit);
        }
        self.commit = Some(Box::pin(self.port.commit(commit)));
        self.committing = Some(unit);
        Ok(())
    }

    fn committed(&mut self, unit: Unit) -> Result<(), Ended> {
        self.jobs_in_flight = self.jobs_in_flight.saturating_sub(unit.jobs);
        self.shared.count_commit(&unit.counts);
        match unit.ending {
            Some(Ending::Failed(failure)) => Err(Ended::Failed(failure)),
            // Other stages may make room.
            Some(Ending::NoRoom(reason)) => Err(Ended::Lost(PortError::Unavailable(reason))),
            None => Ok(()),
        }
    }

    async fn polled(&mut self, polled: Polled) -> Result<(), Ended> {
        let Polled { revoked, assigned, fetched } = polled;
        if !revoked.is_empty() {
            self.shared.metrics.forget_lags(&revoked);
            self.draining = true;
        }
        if !assigned.is_empty() {
            let names: Vec<String> = assigned
                .iter()
                .map(|TopicPartition { topic, partition }| format!("{topic}-{partition}"))
                .collect();
            tracing::debug!(
                stage = self.shared.spec.name,
                partitions = names.join(","),
                "partitions assigned"
            );
        }
        // Also without any records: a topic that is gone brings none, and the stage must not go on as if it ran.
        let now = self.shared.clock().monotonic();
        if !assigned.is_empty() || now.saturating_sub(self.topology_read) > TOPOLOGY_AGE_MAX {
            let read = topology(self.shared, self.port).await.map_err(ended_by)?;
            self.topology_read = now;
            if read != *self.topology {
                self.topology = Arc::new(read);
            }
        }
        if fetched.is_empty() {
            return Ok(());
        }
        self.job = Some(Job { fetched, topology: Arc::clone(&self.topology) });
        self.jobs_in_flight += 1;
        Ok(())
    }
}

/// The result of a future that may not be there; then it takes for ever.
async fn finished<T>(pending: &mut Pending<'_, T>) -> T {
    let result = match pending {
        Some(future) => future.await,
        None => std::future::pending().await,
    };
    *pending = None;
    result
}
