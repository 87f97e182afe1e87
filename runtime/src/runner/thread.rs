//! The thread of one task of a source or sink: one instance after the other, as versions and crashes come.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::poison::{self, Suspicion};
use super::session::Session;
use crate::plugin::{PluginError, RunEnd, RunnerInstance, StartError};
use crate::stage::{AfterCrash, Crash, Deployment, OnError, StageFailure, StageShared, StageState};

/// How long a plugin may take to return from `run` when it is told to, and what it has sent to be written.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Between an instance that ended and the next one; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// An instance that worked for so long is no reason to wait long after it.
const WORKED_TIME: Duration = Duration::from_secs(60);
/// So many crashes, none of which came after it had worked, and the plugin is given up.
const CRASHES_MAX: u32 = 5;
/// The same where records may be to blame, and are being looked for.
const SUSPICIOUS_CRASHES_MAX: u32 = 20;

pub(super) fn start(
    shared: Arc<StageShared>,
    session: Session,
    task: u32,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    // Waiting, the plugin's time limits, and its connections.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("{}-{task}", shared.spec.name);
    thread::Builder::new().name(name).spawn(move || {
        let runner = Runner {
            shared,
            stop,
            session: Some(session),
            backoff: BACKOFF_MIN,
            crashes: 0,
            suspicious: 0,
            generation: 0,
        };
        runtime.block_on(runner.run());
        // A look-up of a name that hangs holds up nobody.
        runtime.shutdown_background();
    })
}

struct Runner {
    shared: Arc<StageShared>,
    stop: CancellationToken,
    /// None while an instance has it.
    session: Option<Session>,
    backoff: Duration,
    crashes: u32,
    /// Those that records may be to blame for.
    suspicious: u32,
    /// Of the deployment that ran last.
    generation: u64,
}

/// What follows an instance.
enum Next {
    /// Another one at once: there is another version.
    Now,
    /// Another one after a wait.
    Later {
        reason: String,
    },
    End(StageState),
}

impl Runner {
    async fn run(mut self) {
        loop {
            let deployment = self.shared.deployments.current();
            if std::mem::replace(&mut self.generation, deployment.generation) != deployment.generation {
                // What others did is not this version's fault.
                self.forget_crashes();
                self.session.as_mut().expect("no instance has it").acquit();
            }
            let started = self.shared.clock().monotonic();
            let next = self.run_once(&deployment).await;
            if self.shared.clock().monotonic().saturating_sub(started) > WORKED_TIME {
                self.forget_crashes();
            }
            let next = match self.session.as_mut().and_then(Session::take_failure) {
                Some(failure) => Next::End(StageState::Failed(*failure)),
                None if self.stop.is_cancelled() => Next::End(StageState::Stopped),
                None => next,
            };
            match next {
                Next::Now => {}
                Next::Later { reason } => {
                    self.shared.set_state(StageState::Waiting { reason });
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return self.shared.set_state(StageState::Stopped),
                        () = self.shared.deployments.replaced(deployment.generation) => {}
                        () = tokio::time::sleep(self.backoff) => {}
                    }
                    self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                }
                Next::End(StageState::Finished) => return self.shared.finished(),
                Next::End(state) => {
                    if let StageState::Failed(failure) = &state {
                        let spec = &self.shared.spec;
                        tracing::error!(pipeline = spec.pipeline, stage = spec.name, ?failure, "stopped");
                    }
                    return self.shared.set_state(state);
                }
            }
        }
    }

    async fn run_once(&mut self, deployment: &Deployment) -> Next {
        let plugin = &deployment.plugins[0];
        // What stops the runner stops its plugin in the same moment.
        let token = self.stop.child_token();
        let mut session = self.session.take().expect("each instance gives it back");
        session.prepare(token.clone(), plugin);
        let config = self.shared.instance_config(0, plugin);
        let mut instance = match RunnerInstance::start(&plugin.plugin, config, session).await {
            Ok(instance) => instance,
            Err((session, error)) => {
                self.session = Some(*session);
                return self.not_started(deployment, &error);
            }
        };
        // Where it stands may not be known for a while; nobody who stops waits for that.
        let begun = self.stop.run_until_cancelled(instance.session().begin()).await;
        // One time for what the plugin does when it is told to stop, and for what is written after it.
        let (stop, shared) = (self.stop.clone(), Arc::clone(&self.shared));
        let mut overdue = std::pin::pin!(overdue(stop, shared, deployment.generation, token.clone()));
        let ended = match begun {
            None | Some(Err(_)) => None,
            Some(Ok(())) => {
                self.shared.set_state(StageState::Running);
                tokio::select! {
                    biased;
                    ended = instance.run() => Some(Some(ended)),
                    () = &mut overdue => Some(None),
                }
            }
        };
        let mut session = instance.into_session();
        let is_told = token.is_cancelled();
        let is_unwritten = match &ended {
            Some(Some(RunEnd::Done | RunEnd::Retry(_) | RunEnd::Stop(_))) => tokio::select! {
                biased;
                written = session.finish() => written.is_err(),
                () = &mut overdue => true,
            },
            _ => false,
        };
        self.session = Some(session);
        let unavailable = |what: &str| Next::Later { reason: format!("{what} can't be reached") };
        match ended {
            None => unavailable("the topics"),
            Some(None) => {
                let spec = &self.shared.spec;
                tracing::warn!(
                    pipeline = spec.pipeline,
                    stage = spec.name,
                    "the plugin did not stop when it was told to"
                );
                Next::Now
            }
            Some(Some(RunEnd::Crashed(error))) => self.crashed(deployment, &error),
            Some(Some(_)) if is_unwritten => unavailable("the topics to write to"),
            Some(Some(_)) if is_told => Next::Now,
            Some(Some(RunEnd::Done)) => Next::End(StageState::Finished),
            Some(Some(RunEnd::Retry(reason))) => {
                self.shared.metrics.count_error("retry");
                Next::Later { reason }
            }
            Some(Some(RunEnd::Stop(reason))) => {
                self.shared.metrics.count_error("stop");
                let failure = StageFailure::of_plugin("stop", &reason, &plugin.name);
                Next::End(StageState::Failed(failure))
            }
        }
    }

    fn not_started(&mut self, deployment: &Deployment, error: &StartError) -> Next {
        let plugin = &deployment.plugins[0].name;
        match error {
            StartError::NoRoom { message } => Next::Later { reason: message.clone() },
            StartError::Role | StartError::ConfigRefused { .. } => {
                Next::End(StageState::Failed(StageFailure::of_plugin("start", error, plugin)))
            }
            StartError::Failed(error) => self.crashed(deployment, error),
        }
    }

    fn forget_crashes(&mut self) {
        (self.backoff, self.crashes, self.suspicious) = (BACKOFF_MIN, 0, 0);
    }

    fn crashed(&mut self, deployment: &Deployment, error: &PluginError) -> Next {
        self.shared.metrics.count_error(error.kind());
        if matches!(error, PluginError::NodeMemory { .. }) {
            return Next::Later { reason: error.to_string() };
        }
        let reason = error.to_string();
        let suspicion = self.session.as_mut().expect("no instance has it").crashed(&reason);
        let may_blame = self.shared.spec.on_error != OnError::Stop;
        let again = match suspicion {
            // What crashes is out of the way.
            Suspicion::Found(_) if may_blame => {
                self.forget_crashes();
                false
            }
            Suspicion::From(..) if may_blame => {
                self.suspicious += 1;
                self.suspicious >= SUSPICIOUS_CRASHES_MAX
            }
            _ => {
                self.crashes += 1;
                self.crashes >= CRASHES_MAX
            }
        };
        let generation = deployment.generation;
        let crash = Crash { generation, canary: false, index: 0, reason: &reason, again };
        match self.shared.crashed(crash) {
            AfterCrash::Again => Next::Later { reason },
            AfterCrash::RolledBack(_) => Next::Now,
            AfterCrash::GiveUp => {
                let plugin = &deployment.plugins[0].name;
                let mut failure = StageFailure::of_plugin(error.kind(), &reason, plugin);
                if let PluginError::Trap { backtrace, .. } = error {
                    failure.backtrace.clone_from(backtrace);
                }
                let first = match suspicion {
                    Suspicion::None => None,
                    Suspicion::From(partition, offset) => Some((partition, offset)),
                    Suspicion::Found(batches) => batches.first().and_then(|batch| {
                        Some((poison::of(batch), batch.records.first().map(|record| batch.offset(record))?))
                    }),
                };
                if let Some((partition, offset)) = first {
                    failure = failure.at(&partition, offset);
                }
                Next::End(StageState::Failed(failure))
            }
        }
    }
}

/// Tells the plugin when it is to stop, and ends when it has had its time for that.
async fn overdue(
    stop: CancellationToken,
    shared: Arc<StageShared>,
    generation: u64,
    token: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = shared.deployments.replaced(generation) => {}
    }
    token.cancel();
    tokio::time::sleep(DRAIN_TIME).await;
}
