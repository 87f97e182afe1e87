//! A thread of an ingest or a view, which owns its instances.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use millstream_record::RecordBatch;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::InlineBatch;
use super::answer::{InlineAnswer, InlineError, LettersFault, answer};
use super::isolate::Found;
use super::letters::LetterBox;
use super::spec::InlineSpec;
use crate::batch::{InputBatch, InputError};
use crate::plugin::PluginError;
use crate::stage::{
    AfterCrash, Chain, Chains, Crash, Halt, Rejection, Rejections, StageShared, StageState, TapFate,
    TappedBatch, UnitCounts, start_chains,
};

pub(super) struct Job {
    pub(super) batch: InlineBatch,
    pub(super) reply: oneshot::Sender<Result<InlineAnswer, InlineError>>,
}

pub(super) type Jobs = Arc<Mutex<mpsc::Receiver<Job>>>;

/// What became of a batch; and which of its records are left out of it, if letters are written about them.
pub(super) struct Mapped {
    pub(super) answer: InlineAnswer,
    pub(super) rejections: Vec<Rejection>,
}

/// What the workers of a binding have in common.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) spec: Arc<InlineSpec>,
    pub(super) shared: Arc<StageShared>,
    pub(super) jobs: Jobs,
    pub(super) found: Arc<Found>,
    /// Where the binding writes what it rejects.
    pub(super) letters: Option<Arc<LetterBox>>,
    /// They answer what they are at.
    pub(super) stop: CancellationToken,
}

pub(super) fn start(task: u32, bench: Bench) -> std::io::Result<JoinHandle<()>> {
    // Timers only: the plugins' time limits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let name = format!("inline-{}-{task}", bench.spec.stage.name);
    let worker = Worker { task, bench, chains: None, failed: None };
    thread::Builder::new().name(name).spawn(move || runtime.block_on(worker.run()))
}

pub(super) struct Worker {
    task: u32,
    pub(super) bench: Bench,
    /// None, until they could be started.
    pub(super) chains: Option<Chains>,
    /// Which deployment could not be started last, and why.
    failed: Option<(u64, String)>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            // What can't be started now is tried again with the next batch.
            let started = self.follow().await;
            if started.is_ok() {
                self.bench.shared.set_state(StageState::Running);
            }
            let Some(Job { batch, mut reply }) = self.next_job().await else { return };
            // Whoever asked may have given up.
            if reply.is_closed() {
                continue;
            }
            let mut ready = started.or(self.follow().await);
            while ready.is_ok() && self.is_in_debt(batch.partition) {
                if !self.pay(batch.partition, &mut reply).await {
                    break;
                }
                ready = self.follow().await;
            }
            let answer = match ready {
                // It was late while the plugin had to wait.
                Ok(()) if reply.is_closed() => continue,
                Ok(()) => self.map(&batch, &mut reply).await,
                Err(error) => Err(error),
            };
            // It fails if nobody waits any more.
            let _ = reply.send(answer);
        }
    }

    fn is_in_debt(&self, partition: i32) -> bool {
        self.chains.as_ref().is_some_and(|chains| chains.of(partition).is_in_debt())
    }

    /// Waits until the plugins' shares of the processor allow another call, or another version comes. False if nobody
    /// waits for the answer any more, or nobody may wait any longer.
    async fn pay(
        &self,
        partition: i32,
        reply: &mut oneshot::Sender<Result<InlineAnswer, InlineError>>,
    ) -> bool {
        let chains = self.chains.as_ref().expect("they were started before");
        tokio::select! {
            biased;
            () = reply.closed() => false,
            () = self.bench.stop.cancelled() => false,
            () = self.bench.shared.deployments.replaced(chains.generation()) => true,
            () = chains.of(partition).pay() => true,
        }
    }

    /// The next batch. Meanwhile other versions may come, and are started before they are needed.
    async fn next_job(&mut self) -> Option<Job> {
        let jobs = Arc::clone(&self.bench.jobs);
        loop {
            let shared = Arc::clone(&self.bench.shared);
            let generation = self.chains.as_ref().map_or(0, Chains::generation);
            tokio::select! {
                biased;
                () = self.bench.stop.cancelled() => return None,
                job = async { jobs.lock().await.recv().await } => return job,
                () = shared.deployments.replaced(generation), if generation > 0 => {
                    // It shows with the next batch.
                    let _ = self.follow().await;
                }
            }
        }
    }

    /// Takes over the instances of the current deployment.
    async fn follow(&mut self) -> Result<(), InlineError> {
        let deployments = &self.bench.shared.deployments;
        if self.chains.as_ref().is_some_and(|chains| deployments.is_current(chains.generation())) {
            return Ok(());
        }
        // To start it again and again would be no cheaper than to call it.
        if let Some((generation, reason)) = &self.failed
            && deployments.is_current(*generation)
            && self.owes()
        {
            return Err(InlineError::NotStarted(reason.clone()));
        }
        let before = self.bench.shared.clock().monotonic();
        let swapped = self.chains.take().is_some();
        match start_chains(&self.bench.shared, self.task).await {
            Ok(chains) => self.chains = Some(chains),
            Err(Halt::Failed(failure)) => return Err(self.not_started(failure.reason)),
            Err(Halt::NoRoom(reason)) => return Err(self.not_started(reason)),
            Err(Halt::Asked) => unreachable!("starting asks nobody"),
        }
        if swapped {
            self.bench
                .shared
                .metrics
                .observe_swap(self.bench.shared.clock().monotonic().saturating_sub(before));
        }
        Ok(())
    }

    fn not_started(&mut self, reason: String) -> InlineError {
        self.failed = Some((self.bench.shared.deployments.current().generation, reason.clone()));
        InlineError::NotStarted(reason)
    }

    /// Whether one of the current versions has used up its share of the processor.
    fn owes(&self) -> bool {
        let deployment = self.bench.shared.deployments.current();
        let canary = deployment.canary.as_ref().map(|canary| &canary.plugin);
        let now = self.bench.shared.clock().monotonic();
        deployment
            .plugins
            .iter()
            .chain(canary)
            .any(|plugin| self.bench.shared.cpu_account(plugin).owed_until(now).is_some())
    }

    async fn map(
        &mut self,
        batch: &InlineBatch,
        reply: &mut oneshot::Sender<Result<InlineAnswer, InlineError>>,
    ) -> Result<InlineAnswer, InlineError> {
        let InlineBatch { topic, partition, batch: bytes } = batch;
        let opened = RecordBatch::new(bytes).map_err(InputError::from)?;
        let from = opened.base_offset();
        let input =
            InputBatch::open(self.bench.spec.stage.position, topic, *partition, &opened, bytes, from)?;
        // A control batch, or one without records.
        let Some(input) = input else { return Ok(InlineAnswer::Unchanged) };
        let found = self.found(&input);
        let Mapped { answer, rejections } = match found.is_empty() {
            true => self.map_whole(&input).await?,
            false => self.isolate(&input, found).await?,
        };
        self.post(&input, rejections, reply).await?;
        let (records_out, rejected) = match &answer {
            InlineAnswer::Unchanged => (input.len(), 0),
            InlineAnswer::Records(records) => (records.records.len(), records.rejected),
            InlineAnswer::Rejected(rejected) => (0, rejected.len()),
        };
        self.bench.shared.count_inline(&UnitCounts {
            records_in: input.len() as u64,
            records_out: records_out as u64,
            records_rejected: rejected as u64,
            bytes_in: bytes.len() as u64,
            batches_in: 1,
            bytes_out: 0,
        });
        Ok(answer)
    }

    /// What is left out is written where the binding's policy says that, and while somebody waits: who does not may have been
    /// told something else, and sends the batch again.
    async fn post(
        &self,
        input: &InputBatch,
        rejections: Vec<Rejection>,
        reply: &mut oneshot::Sender<Result<InlineAnswer, InlineError>>,
    ) -> Result<(), InlineError> {
        let Some(letters) = self.bench.letters.as_ref().filter(|_| !rejections.is_empty()) else {
            return Ok(());
        };
        let rejections = Rejections::new(rejections).into_inner();
        let chains = self.chains.as_ref().expect("they were started before");
        let plugins = chains.plugins(input.partition);
        let posted = tokio::select! {
            biased;
            () = reply.closed() => Err(InlineError::Letters(LettersFault::Later("nobody waited for it".to_owned()))),
            () = self.bench.stop.cancelled() => Err(InlineError::Stopped),
            posted = letters.post(input, rejections, plugins) => posted,
        };
        if let Err(error @ InlineError::Letters(_)) = &posted {
            self.bench.shared.metrics.count_error(error.kind());
            self.bench.shared.set_last_failure(&error.to_string());
        }
        posted
    }

    async fn map_whole(&mut self, input: &InputBatch) -> Result<Mapped, InlineError> {
        let mut crashed = false;
        loop {
            let chains = self.chains.as_mut().expect("they were started before");
            let transformed = chains.of_mut(input.partition).transform(input).await;
            let (index, error) = match transformed {
                Ok(()) => break,
                Err(failed) => failed,
            };
            self.bench.shared.metrics.count_error(error.kind());
            let plugin = chains.of(input.partition).plugin_name(index).to_owned();
            if !error.is_the_plugins_crash() {
                return Err(self.not_mapped(plugin, error));
            }
            if !self.after_crash(input.partition, index, &error, crashed).await? {
                return match self.may_isolate() {
                    true => self.isolate(input, Vec::new()).await,
                    false => Err(self.not_mapped(plugin, error)),
                };
            }
            crashed = true;
        }
        let chains = self.chains.as_ref().expect("they were started before");
        let chain = chains.of(input.partition);
        let answer = answer(chain, input, &self.bench.spec.stage.on_error)?;
        self.show(chain, input, &answer);
        // A producer may not be told: few clients show what a broker says of a record.
        let rejected = chain.output(input).rejected;
        if let Some(last) = rejected.last() {
            self.bench.shared.set_last_rejection(&last.reason);
        }
        let rejections = if self.bench.letters.is_some() { rejected.to_vec() } else { Vec::new() };
        Ok(Mapped { answer, rejections })
    }

    pub(super) fn not_mapped(&mut self, plugin: String, error: PluginError) -> InlineError {
        match error {
            // Neither the plugin nor the batch is to blame.
            PluginError::NodeMemory { .. } => self.without_instances(error.to_string()),
            error => InlineError::Plugin { plugin, error },
        }
    }

    /// They are started again for the next batch.
    pub(super) fn without_instances(&mut self, reason: String) -> InlineError {
        self.chains = None;
        self.not_started(reason)
    }

    /// For those who look at what passes.
    pub(super) fn show(&self, chain: &Chain, input: &InputBatch, answer: &InlineAnswer) {
        if !self.bench.shared.taps.is_open() {
            return;
        }
        let output = chain.output(input);
        let rejections = Rejections::new(output.rejected.to_vec());
        // What is refused is refused as a whole.
        let refused = matches!(answer, InlineAnswer::Rejected(_));
        let batch = TappedBatch {
            input,
            output: (!refused).then_some(&output),
            rejections: rejections.as_slice(),
            rejected: if refused { TapFate::Refused } else { self.bench.spec.stage.on_error.fate() },
            without_output: if refused { TapFate::Refused } else { TapFate::Dropped },
        };
        let to: Arc<str> = self.bench.spec.name.as_str().into();
        let name = |index: usize| chain.plugin_name(index).to_owned();
        self.bench.shared.taps.show(&batch, name, |_| (Arc::clone(&to), input.partition));
    }

    /// Another instance in the place of one that has crashed.
    pub(super) async fn restart(&mut self, partition: i32, index: usize) -> Result<(), InlineError> {
        let chains = self.chains.as_mut().expect("they were started before");
        let restarted = chains.of_mut(partition).restart(index).await;
        restarted.map_err(|error| self.without_instances(error.to_string()))
    }

    /// The plugin at that place crashes at these records, which are left out.
    pub(super) fn show_crashed(&self, chain: &Chain, input: &InputBatch, plugin: usize, reason: &str) {
        if !self.bench.shared.taps.is_open() {
            return;
        }
        let reason: Arc<str> = reason.into();
        let rejection = |origin| Rejection { origin, plugin: Some(plugin), reason: Arc::clone(&reason) };
        let rejections: Vec<_> = (0..input.count()).map(rejection).collect();
        let batch = TappedBatch {
            input,
            output: None,
            rejections: &rejections,
            rejected: self.bench.spec.stage.on_error.fate(),
            without_output: TapFate::Skipped,
        };
        let name = |index: usize| chain.plugin_name(index).to_owned();
        self.bench.shared.taps.show(&batch, name, |_| unreachable!("nothing comes of what is left out"));
    }

    /// True if the batch may be tried again, by another instance or another version.
    async fn after_crash(
        &mut self,
        partition: i32,
        index: usize,
        error: &PluginError,
        again: bool,
    ) -> Result<bool, InlineError> {
        let chains = self.chains.as_mut().expect("they were started before");
        let reason = error.to_string();
        let crash = Crash::of(chains, partition, index, &reason, again);
        let may_try = self.bench.shared.crashed(crash) != AfterCrash::GiveUp;
        if self.bench.shared.deployments.is_current(chains.generation()) {
            self.restart(partition, index).await?;
        } else {
            self.follow().await?;
        }
        Ok(may_try)
    }
}
