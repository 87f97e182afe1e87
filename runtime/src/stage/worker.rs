//! The thread of one task that opens batches, calls the plugins and gathers the outputs. It owns the instances, so
//! that a plugin that computes for a second delays its own stage and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millstream_record::RecordBatch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::assemble::{Assembler, OutputTopic};
use super::chain::{Chain, ChainRecord, Rejection};
use super::dead_letter;
use super::port::{Commit, CommittedOffset, FetchedPartition, TopicPartition};
use super::spec::OnError;
use super::status::{StageFailure, StageShared};
use crate::batch::InputBatch;
use crate::plugin::{PluginError, StartError};

/// Bytes of input after which a unit is committed, even if more is queued.
const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Jobs and units that wait between the task and its worker.
const QUEUED_MAX: usize = 2;
const RETRIES_MAX: u32 = 10;
const RETRY_BACKOFF_MIN: Duration = Duration::from_millis(100);
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Batches to be mapped.
pub(super) struct Job {
    pub(super) fetched: Vec<FetchedPartition>,
    pub(super) topology: Arc<Topology>,
}

/// How many partitions the stage's topics have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// Each input topic's partitions.
    pub(super) sources: BTreeMap<Arc<str>, i32>,
    /// The output topics, in the stage's order, and behind them the dead letter topic.
    pub(super) outputs: Vec<OutputTopic>,
}

impl Topology {
    /// Partitions of an input topic. One that the stage did not ask for compares with none.
    fn sources_of(&self, topic: &str) -> i32 {
        self.sources.get(topic).copied().unwrap_or(0)
    }
}

/// What goes into one commit.
pub(super) struct Unit {
    pub(super) commit: Commit,
    /// How many jobs are done with it.
    pub(super) jobs: usize,
    pub(super) records_out: u64,
    /// The worker has ended: `commit` holds what was done before.
    pub(super) failure: Option<Box<StageFailure>>,
}

/// The task's side.
pub(super) struct Worker {
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) units: mpsc::Receiver<Unit>,
    cancel: CancellationToken,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(shared: Arc<StageShared>, task: u32) -> std::io::Result<Self> {
        let (jobs, job_receiver) = mpsc::channel(QUEUED_MAX);
        let (unit_sender, units) = mpsc::channel(QUEUED_MAX);
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let name = format!("stage-{}-{task}", shared.spec.name);
        // Timers only: the plugins' time limits and the waiting between retries.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            let work = run(shared, job_receiver, unit_sender);
            runtime.block_on(async {
                tokio::select! { biased; () = cancelled.cancelled() => (), () = work => () }
            });
        })?;
        Ok(Self { jobs, units, cancel, thread })
    }

    /// Ends the thread: at the latest when the plugin's time for the current call is over. False if it had
    /// panicked.
    pub(super) async fn stop(self) -> bool {
        let Self { jobs, mut units, cancel, thread } = self;
        cancel.cancel();
        drop(jobs);
        // The channel closes when the thread lets go of it, so that joining does not block.
        while units.recv().await.is_some() {}
        thread.join().is_ok()
    }
}

async fn run(shared: Arc<StageShared>, mut jobs: mpsc::Receiver<Job>, units: mpsc::Sender<Unit>) {
    let mut mill = match Chain::start(&shared.spec, shared.clock()).await {
        Ok(chain) => Mill { metadata: shared.spec.commit_metadata(), chain, shared },
        Err((plugin, error)) => {
            let failure = Some(Box::new(start_failure(plugin, &error)));
            let _ = units.send(Unit { commit: Commit::default(), jobs: 0, records_out: 0, failure }).await;
            return;
        }
    };
    while let Some(job) = jobs.recv().await {
        let topology = Arc::clone(&job.topology);
        let mut unit = Gathering::new(&topology, mill.shared.spec.compression);
        let mut failure = mill.work(&job, &mut unit).await.err();
        while failure.is_none() && unit.bytes_in < UNIT_BYTES_MAX {
            let Ok(next) = jobs.try_recv() else { break };
            unit.jobs += 1;
            if next.topology != topology {
                unit.rebuild(&next.topology, mill.shared.spec.compression);
            }
            failure = mill.work(&next, &mut unit).await.err();
        }
        let failed = failure.is_some();
        let unit = unit.finish(&mill.metadata, failure);
        if units.send(unit).await.is_err() || failed {
            return;
        }
    }
}

/// The plugins and what they need.
struct Mill {
    shared: Arc<StageShared>,
    chain: Chain,
    metadata: Arc<str>,
}

/// A unit in the making.
struct Gathering {
    assembler: Assembler,
    outputs: Vec<super::port::OutputBatch>,
    next_offsets: BTreeMap<TopicPartition, i64>,
    jobs: usize,
    bytes_in: usize,
    records_out: u64,
}

impl Gathering {
    fn new(topology: &Topology, compression: millstream_record::Compression) -> Self {
        Self {
            assembler: Assembler::new(&topology.outputs, compression),
            outputs: Vec::new(),
            next_offsets: BTreeMap::new(),
            jobs: 1,
            bytes_in: 0,
            records_out: 0,
        }
    }

    /// Goes on with other numbers of partitions.
    fn rebuild(&mut self, topology: &Topology, compression: millstream_record::Compression) {
        let assembler = Assembler::new(&topology.outputs, compression);
        self.close(assembler);
    }

    fn close(&mut self, next: Assembler) {
        let mut assembler = std::mem::replace(&mut self.assembler, next);
        self.records_out += assembler.records;
        self.outputs.append(&mut assembler.take());
    }

    fn finish(mut self, metadata: &Arc<str>, failure: Option<Box<StageFailure>>) -> Unit {
        self.close(Assembler::new(&[], millstream_record::Compression::None));
        let offset = |(TopicPartition { topic, partition }, next_offset)| CommittedOffset {
            topic,
            partition,
            next_offset,
            metadata: Arc::clone(metadata),
        };
        let offsets = self.next_offsets.into_iter().map(offset).collect();
        let commit = Commit { outputs: self.outputs, offsets };
        Unit { commit, jobs: self.jobs, records_out: self.records_out, failure }
    }
}

impl Mill {
    async fn work(&mut self, job: &Job, unit: &mut Gathering) -> Result<(), Box<StageFailure>> {
        for fetched in &job.fetched {
            let mut position = fetched.position;
            for batch in RecordBatch::batches(&fetched.batches) {
                let batch = match batch {
                    Ok(batch) => batch,
                    // A fetch may end inside a batch; the next one begins with it.
                    Err(millstream_record::BatchError::Incomplete { .. }) => break,
                    Err(error) => return Err(self.failure("input", &error, fetched, position).into()),
                };
                self.work_batch(job, fetched, &batch, position, unit).await?;
                position = position.max(batch.next_offset());
                let partition =
                    TopicPartition { topic: Arc::clone(&fetched.topic), partition: fetched.partition };
                unit.next_offsets.insert(partition, position);
            }
            let partition =
                TopicPartition { topic: Arc::clone(&fetched.topic), partition: fetched.partition };
            self.shared.metrics.set_lag(partition, fetched.high_watermark.saturating_sub(position));
        }
        Ok(())
    }

    async fn work_batch(
        &mut self,
        job: &Job,
        fetched: &FetchedPartition,
        batch: &RecordBatch<'_>,
        position: i64,
        unit: &mut Gathering,
    ) -> Result<(), Box<StageFailure>> {
        let FetchedPartition { topic, partition, batches, .. } = fetched;
        let opened = InputBatch::open(topic, *partition, batch, batches, position);
        let Some(input) = opened.map_err(|error| self.failure("input", &error, fetched, position))? else {
            return Ok(());
        };
        self.transform(job, &input, unit).await.map_err(|mut failed| {
            failed.topic = Some(topic.to_string());
            failed.partition = Some(*partition);
            failed.offset = Some(position.max(input.base_offset));
            failed
        })?;
        unit.bytes_in += batch.size_in_bytes().max(input.section.len());
        let metrics = &self.shared.metrics;
        metrics.batches_in.inc();
        metrics.records_in.inc_by(input.len() as u64);
        metrics.bytes_in.inc_by(batch.size_in_bytes() as u64);
        Ok(())
    }

    /// Maps one batch, again and again if the plugin asks for it, and appends its outputs.
    async fn transform(
        &mut self,
        job: &Job,
        input: &InputBatch,
        unit: &mut Gathering,
    ) -> Result<(), Box<StageFailure>> {
        let mut retries = 0;
        let Self { shared, chain, .. } = self;
        loop {
            let (plugin, error) = match chain.transform(input, &shared.metrics).await {
                Ok(_) => break,
                Err(failed) => failed,
            };
            shared.metrics.count_error(error.kind());
            let PluginError::Retry(reason) = &error else {
                return Err(plugin_failure(chain, plugin, error).into());
            };
            if retries == RETRIES_MAX {
                return Err(plugin_failure(chain, plugin, error).into());
            }
            let backoff = (RETRY_BACKOFF_MIN * 2_u32.pow(retries)).min(RETRY_BACKOFF_MAX);
            shared.set_state(super::StageState::Waiting { reason: reason.clone() });
            tokio::time::sleep(backoff).await;
            retries += 1;
        }
        if retries > 0 {
            shared.set_state(super::StageState::Running);
        }
        self.append(job, input, unit)
    }

    fn append(
        &mut self,
        job: &Job,
        input: &InputBatch,
        unit: &mut Gathering,
    ) -> Result<(), Box<StageFailure>> {
        let Self { shared, chain, .. } = self;
        let output = chain.output(input);
        let plugin = |index| Some(chain.plugin_name(index).to_owned());
        if let Err(error) = unit.assembler.check(&output) {
            let reason =
                PluginError::InvalidOutput(crate::outputs::OutputError::NoSuchPartition(error.to_string()));
            let last = shared.spec.plugins.last().map(|plugin| plugin.name.clone());
            return Err(StageFailure { plugin: last, ..failure(reason.kind(), &reason) }.into());
        }
        if let (Some(first), OnError::Stop) = (output.rejected.first(), &shared.spec.on_error) {
            let offset = input.offset(&input.records[first.origin as usize]);
            let reason = format!("the plugin rejected the record at offset {offset}: {}", first.reason);
            return Err(StageFailure { plugin: plugin(first.plugin), ..failure("rejected", &reason) }.into());
        }
        let sources = job.topology.sources_of(&input.topic);
        let Ok(()) = output.for_each(|record| {
            unit.assembler.push(input, sources, &record);
            Ok::<(), std::convert::Infallible>(())
        });
        shared.metrics.records_rejected.inc_by(output.rejected.len() as u64);
        if let Some(last) = output.rejected.last() {
            shared.set_last_rejection(&last.reason);
        }
        if let OnError::DeadLetter(_) = shared.spec.on_error {
            for rejection in output.rejected {
                append_dead_letter(shared, job, input, rejection, unit);
            }
        }
        Ok(())
    }

    fn failure(
        &self,
        kind: &'static str,
        error: &dyn std::fmt::Display,
        fetched: &FetchedPartition,
        offset: i64,
    ) -> StageFailure {
        self.shared.metrics.count_error(kind);
        StageFailure {
            topic: Some(fetched.topic.to_string()),
            partition: Some(fetched.partition),
            offset: Some(offset),
            ..failure(kind, error)
        }
    }
}

fn append_dead_letter(
    shared: &StageShared,
    job: &Job,
    input: &InputBatch,
    rejection: &Rejection,
    unit: &mut Gathering,
) {
    let spec = &shared.spec;
    let plugin = &spec.plugins[rejection.plugin];
    let cause = dead_letter::Cause {
        reason: &rejection.reason,
        plugin: format!("{}@{}", plugin.name, plugin.plugin.version()),
        stage: format!("{}.{}", spec.pipeline, spec.name),
    };
    let origin = &input.records[rejection.origin as usize];
    let mut body = Vec::new();
    dead_letter::put_body(&mut body, input, origin, &cause);
    let topic = spec.to.len();
    let record = ChainRecord {
        origin: rejection.origin,
        topic: u16::try_from(topic).expect("output topics are limited"),
        partition: Some(input.partition % job.topology.outputs[topic].partitions),
        timestamp: origin.timestamp,
        body: &body,
        changed: true,
    };
    unit.assembler.push(input, job.topology.sources_of(&input.topic), &record);
}

pub(super) fn failure(kind: &'static str, reason: &dyn std::fmt::Display) -> StageFailure {
    StageFailure {
        kind,
        reason: reason.to_string(),
        plugin: None,
        topic: None,
        partition: None,
        offset: None,
        backtrace: Vec::new(),
    }
}

fn plugin_failure(chain: &Chain, plugin: usize, error: PluginError) -> StageFailure {
    let base = failure(error.kind(), &error);
    let plugin = Some(chain.plugin_name(plugin).to_owned());
    match error {
        PluginError::Trap { backtrace, .. } => StageFailure { plugin, backtrace, ..base },
        _ => StageFailure { plugin, ..base },
    }
}

fn start_failure(plugin: String, error: &StartError) -> StageFailure {
    StageFailure { plugin: Some(plugin), ..failure("start", error) }
}
