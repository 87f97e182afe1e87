//! What the worker does with a batch: open it, map it through the plugins, and see what follows if they fail.

use std::sync::Arc;
use std::time::Duration;

use millstream_record::{BatchError, RecordBatch};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::chains::{Chains, not_started, start_chains};
use super::deployment::{AfterCrash, Crash};
use super::port::{FetchedPartition, TopicPartition};
use super::spec::OnError;
use super::status::{StageFailure, StageShared, StageState};
use super::unit::{BatchCounts, Ending, Gathering, Unit};
use super::worker::Job;
use crate::batch::{InputBatch, Position};
use crate::plugin::PluginError;

/// After that a stage lets go of all that it has, of its other plugins' memory too, and begins anew.
const MEMORY_WAITS_MAX: u32 = 30;
const MEMORY_WAIT: Duration = Duration::from_secs(1);
/// Before a batch is tried once more that a plugin has crashed at.
const CRASH_BACKOFF: Duration = Duration::from_millis(100);

/// The plugins and what they need.
pub(super) struct Mill {
    pub(super) shared: Arc<StageShared>,
    task: u32,
    pub(super) chains: Chains,
    pub(super) unit: Gathering,
    units: mpsc::Sender<Unit>,
    finish: CancellationToken,
}

/// Why a job is left where it is.
pub(crate) enum Halt {
    /// The stage is to stop: what was done is committed.
    Asked,
    Failed(Box<StageFailure>),
    /// The node has no room for an instance.
    NoRoom(String),
}

impl From<Box<StageFailure>> for Halt {
    fn from(failure: Box<StageFailure>) -> Self {
        Self::Failed(failure)
    }
}

/// Why a batch did not get through its chain.
enum Unmapped {
    Halt(Halt),
    /// The plugin at that place can't live with it, and no other version is to blame.
    Bad(usize, PluginError),
}

impl Mill {
    pub(super) async fn start(
        shared: Arc<StageShared>,
        task: u32,
        units: mpsc::Sender<Unit>,
        finish: CancellationToken,
    ) -> Result<Self, Ending> {
        let chains = start_chains(&shared, task).await.map_err(|halt| match halt {
            Halt::Failed(failure) => Ending::Failed(failure),
            Halt::NoRoom(reason) => Ending::NoRoom(reason),
            Halt::Asked => unreachable!("starting asks nobody"),
        })?;
        let unit = Gathering::new(Arc::default(), shared.spec.compression);
        Ok(Self { shared, task, chains, unit, units, finish })
    }

    /// Works until there are no jobs any more, one fails, or the worker is told to finish.
    pub(super) async fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let ending = loop {
            let worked = match self.next_job(&mut jobs).await {
                Ok(None) => break None,
                Ok(Some(job)) => self.work(&job).await,
                Err(halt) => Err(halt),
            };
            match worked {
                Ok(()) => {}
                Err(Halt::Asked) => break None,
                Err(Halt::Failed(failure)) => break Some(Ending::Failed(failure)),
                Err(Halt::NoRoom(reason)) => break Some(Ending::NoRoom(reason)),
            }
        };
        self.hand_over(ending).await;
    }

    /// What is done goes out before the worker waits; while more is queued it becomes part of the same unit.
    async fn next_job(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Result<Option<Job>, Halt> {
        if self.finish.is_cancelled() {
            return Ok(None);
        }
        if let Ok(job) = jobs.try_recv() {
            return Ok(Some(job));
        }
        self.hand_over(None).await;
        let finish = self.finish.clone();
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                () = finish.cancelled() => return Ok(None),
                job = jobs.recv() => return Ok(job),
                () = shared.deployments.replaced(self.chains.generation()) => self.follow().await?,
            }
        }
    }

    pub(super) async fn hand_over(&mut self, ending: Option<Ending>) {
        if self.unit.is_empty() && ending.is_none() {
            return;
        }
        let unit = self.unit.take(ending);
        if self.units.send(unit).await.is_err() {
            // Nobody will commit what follows.
            self.finish.cancel();
        }
    }

    /// Takes over the instances of the current deployment. Between two batches: what the old ones did goes out as
    /// theirs.
    async fn follow(&mut self) -> Result<(), Halt> {
        self.hand_over(None).await;
        let before = self.shared.clock().monotonic();
        while !self.shared.deployments.is_current(self.chains.generation()) {
            self.chains = start_chains(&self.shared, self.task).await?;
        }
        self.shared.metrics.observe_swap(self.shared.clock().monotonic().saturating_sub(before));
        Ok(())
    }

    async fn work(&mut self, job: &Job) -> Result<(), Halt> {
        self.unit.use_topology(&job.topology);
        for fetched in &job.fetched {
            let FetchedPartition { topic, partition, .. } = fetched;
            let partition = TopicPartition { topic: Arc::clone(topic), partition: *partition };
            let mut position = fetched.position;
            for batch in RecordBatch::batches(&fetched.batches) {
                // The worker shares its thread with whoever cancels it.
                tokio::task::yield_now().await;
                if self.finish.is_cancelled() {
                    return Err(Halt::Asked);
                }
                let batch = match batch {
                    Ok(batch) => batch,
                    // A fetch may end inside a batch; the next one begins with it.
                    Err(BatchError::Incomplete { .. }) => break,
                    Err(error) => return Err(self.failure("input", &error, fetched, position).into()),
                };
                self.pay(partition.partition).await?;
                if !self.shared.deployments.is_current(self.chains.generation()) {
                    self.follow().await?;
                }
                self.unit.begin_batch(self.shared.clock().monotonic());
                self.work_batch(job, fetched, &batch, position).await?;
                position = position.max(batch.next_offset());
                self.move_to(&partition, position);
                if self.unit.is_full(self.shared.clock().monotonic()) {
                    self.hand_over(None).await;
                }
            }
            self.shared.metrics.set_lag(partition, fetched.high_watermark.saturating_sub(position));
        }
        self.unit.end_job();
        Ok(())
    }

    pub(super) fn move_to(&mut self, partition: &TopicPartition, position: i64) {
        let metadata = self.chains.metadata(partition.partition);
        self.unit.move_to(partition.clone(), position, metadata);
    }

    async fn work_batch(
        &mut self,
        job: &Job,
        fetched: &FetchedPartition,
        batch: &RecordBatch<'_>,
        position: i64,
    ) -> Result<(), Halt> {
        let FetchedPartition { topic, partition, batches, .. } = fetched;
        let input = match InputBatch::open(Position::Stream, topic, *partition, batch, batches, position) {
            Ok(Some(input)) => input,
            Ok(None) => return Ok(()),
            Err(error) => return Ok(self.reject_batch(job, fetched, batch, position, &error)?),
        };
        let mapped = self.transform(&input).await;
        let first = position.max(input.base_offset);
        match mapped {
            Ok(()) => {}
            Err(Unmapped::Halt(halt)) => return Err(placed(halt, fetched, first)),
            Err(Unmapped::Bad(plugin, error)) if self.shared.spec.on_error == OnError::Stop => {
                return Err(placed(self.stopped(*partition, plugin, error), fetched, first));
            }
            Err(Unmapped::Bad(plugin, error)) => {
                self.renew(*partition, plugin, &error).await?;
                self.shared.set_state(StageState::Running);
                return self
                    .isolate(&job.topology, &input)
                    .await
                    .map_err(|halt| placed(halt, fetched, first));
            }
        }
        let rejected =
            self.append(&job.topology, &input).map_err(|failure| placed(failure.into(), fetched, first))?;
        self.unit.end_batch(BatchCounts {
            records: input.len(),
            rejected,
            bytes: batch.size_in_bytes(),
            bytes_uncompressed: input.section.len(),
        });
        Ok(())
    }

    /// Maps one batch: again, if the plugin asks for it, or crashed and may not do so another time.
    async fn transform(&mut self, input: &InputBatch) -> Result<(), Unmapped> {
        let (mut retries, mut crashes, mut memory_waits) = (0, 0, 0);
        loop {
            self.pay(input.partition).await.map_err(Unmapped::Halt)?;
            let chain = self.chains.of_mut(input.partition);
            let (plugin, error) = match chain.transform(input).await {
                Ok(()) => break,
                Err(failed) => failed,
            };
            self.shared.metrics.count_error(error.kind());
            let waited = match &error {
                PluginError::Retry(reason) if retries < self.shared.spec.retry.retries => {
                    let backoff = self.shared.spec.retry.backoff(retries);
                    retries += 1;
                    self.wait(reason.clone(), backoff).await
                }
                PluginError::Stop(_) => Err(self.stopped(input.partition, plugin, error)),
                PluginError::Retry(_) => return Err(Unmapped::Bad(plugin, error)),
                PluginError::NodeMemory { .. } => {
                    memory_waits += 1;
                    self.wait_for_memory(input.partition, plugin, &error, memory_waits).await
                }
                _ => {
                    let again = self.after_crash(input.partition, plugin, &error, crashes > 0).await;
                    match again {
                        Ok(true) => {}
                        Ok(false) => return Err(Unmapped::Bad(plugin, error)),
                        Err(halt) => return Err(Unmapped::Halt(halt)),
                    }
                    crashes += 1;
                    self.wait(error.to_string(), CRASH_BACKOFF).await
                }
            };
            waited.map_err(Unmapped::Halt)?;
        }
        if retries + crashes + memory_waits > 0 {
            self.shared.set_state(StageState::Running);
        }
        Ok(())
    }

    /// A plugin that has used up its share of the processor waits before its next call; another version of it does not
    /// wait for that.
    pub(super) async fn pay(&mut self, partition: i32) -> Result<(), Halt> {
        while self.chains.of(partition).is_in_debt() {
            self.hand_over(None).await;
            tokio::select! {
                biased;
                () = self.finish.cancelled() => return Err(Halt::Asked),
                () = self.shared.deployments.replaced(self.chains.generation()) => {}
                () = self.chains.of(partition).pay() => continue,
            }
            self.follow().await?;
        }
        Ok(())
    }

    /// What is done need not wait for what is tried again.
    async fn wait(&mut self, reason: String, time: Duration) -> Result<(), Halt> {
        self.hand_over(None).await;
        self.shared.set_state(StageState::Waiting { reason });
        self.finish.run_until_cancelled(tokio::time::sleep(time)).await.ok_or(Halt::Asked)
    }

    /// Other plugins have the memory: neither this one nor the record is to blame.
    pub(super) async fn wait_for_memory(
        &mut self,
        partition: i32,
        index: usize,
        error: &PluginError,
        waits: u32,
    ) -> Result<(), Halt> {
        let reason = format!("plugin {}: {error}", self.chains.of(partition).plugin_name(index));
        if waits > MEMORY_WAITS_MAX {
            return Err(Halt::NoRoom(reason));
        }
        // First: what the instance has may be what others wait for.
        self.renew(partition, index, error).await?;
        self.wait(reason, MEMORY_WAIT).await?;
        if !self.shared.deployments.is_current(self.chains.generation()) {
            self.follow().await?;
        }
        Ok(())
    }

    /// A plugin's instance is gone. True if the batch may be tried again: by another one, or by another version.
    async fn after_crash(
        &mut self,
        partition: i32,
        index: usize,
        error: &PluginError,
        again: bool,
    ) -> Result<bool, Halt> {
        let reason = error.to_string();
        match self.shared.crashed(Crash::of(&self.chains, partition, index, &reason, again)) {
            AfterCrash::GiveUp => return Ok(false),
            AfterCrash::Again | AfterCrash::RolledBack(_) => {}
        }
        if self.shared.deployments.is_current(self.chains.generation()) {
            self.renew(partition, index, error).await?;
        } else {
            self.follow().await?;
        }
        Ok(true)
    }

    /// Puts a new instance in the place of one that has crashed.
    pub(super) async fn renew(
        &mut self,
        partition: i32,
        index: usize,
        error: &PluginError,
    ) -> Result<(), Halt> {
        if !error.is_crash() {
            return Ok(());
        }
        let chain = self.chains.of_mut(partition);
        let restarted = chain.restart(index).await;
        restarted.map_err(|error| not_started(chain.plugin_name(index), &error))
    }

    /// The stage stops for that plugin.
    pub(super) fn stopped(&self, partition: i32, index: usize, error: PluginError) -> Halt {
        let plugin = self.chains.of(partition).plugin_name(index).to_owned();
        plugin_failure(plugin, error).into()
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finish.is_cancelled()
    }
}

fn plugin_failure(plugin: String, error: PluginError) -> Box<StageFailure> {
    let base = StageFailure { plugin: Some(plugin), ..StageFailure::without_batch(error.kind(), &error) };
    Box::new(match error {
        PluginError::Trap { backtrace, .. } => StageFailure { backtrace, ..base },
        _ => base,
    })
}

/// Says where it happened.
fn placed(halt: Halt, fetched: &FetchedPartition, offset: i64) -> Halt {
    match halt {
        Halt::Failed(mut failed) => {
            failed.topic = Some(fetched.topic.to_string());
            failed.partition = Some(fetched.partition);
            // Where a part of the batch was at fault, that is known better.
            failed.offset.get_or_insert(offset);
            Halt::Failed(failed)
        }
        halt => halt,
    }
}
