//! What the worker does with a batch: open it, map it through the plugins, and put what comes of it into the unit.

use std::sync::Arc;
use std::time::Duration;

use millstream_record::{BatchError, RecordBatch};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::chain::{Chain, ChainRecord, Rejection};
use super::dead_letter;
use super::port::{FetchedPartition, TopicPartition};
use super::spec::OnError;
use super::status::{StageFailure, StageShared, StageState};
use super::unit::{BatchCounts, Ending, Gathering, Unit};
use super::worker::{Job, Topology};
use crate::batch::InputBatch;
use crate::plugin::{PluginError, StartError};

const RETRIES_MAX: u32 = 10;
const RETRY_BACKOFF_MIN: Duration = Duration::from_millis(100);
const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The plugins and what they need.
pub(super) struct Mill {
    shared: Arc<StageShared>,
    chain: Chain,
    metadata: Arc<str>,
    unit: Gathering,
    units: mpsc::Sender<Unit>,
    finish: CancellationToken,
}

/// Why a job is left where it is.
enum Halt {
    /// The stage is to stop: what was done is committed.
    Asked,
    Failed(Box<StageFailure>),
}

impl From<StageFailure> for Halt {
    fn from(failure: StageFailure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl Mill {
    pub(super) async fn start(
        shared: Arc<StageShared>,
        units: mpsc::Sender<Unit>,
        finish: CancellationToken,
    ) -> Result<Self, Ending> {
        let chain = match Chain::start(&shared.spec, shared.clock()).await {
            Ok(chain) => chain,
            Err((plugin, StartError::NoRoom { message })) => {
                return Err(Ending::NoRoom(format!(
                    "plugin {plugin}: no room for another instance: {message}"
                )));
            }
            Err((plugin, error)) => {
                let failure = StageFailure { plugin: Some(plugin), ..failure("start", &error) };
                return Err(Ending::Failed(Box::new(failure)));
            }
        };
        let unit = Gathering::new(Arc::default(), shared.spec.compression);
        Ok(Self { metadata: shared.spec.commit_metadata(), shared, chain, unit, units, finish })
    }

    /// Works until there are no jobs any more, one fails, or the worker is told to finish.
    pub(super) async fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = self.next_job(&mut jobs).await {
            match self.work(&job).await {
                Ok(()) => {}
                Err(Halt::Asked) => break,
                Err(Halt::Failed(failure)) => return self.hand_over(Some(Ending::Failed(failure))).await,
            }
        }
        self.hand_over(None).await;
    }

    /// What is done goes out before the worker waits; while more is queued it becomes part of the same unit.
    async fn next_job(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        if self.finish.is_cancelled() {
            return None;
        }
        if let Ok(job) = jobs.try_recv() {
            return Some(job);
        }
        self.hand_over(None).await;
        self.finish.run_until_cancelled(jobs.recv()).await.flatten()
    }

    async fn hand_over(&mut self, ending: Option<Ending>) {
        if self.unit.is_empty() && ending.is_none() {
            return;
        }
        let unit = self.unit.take(&self.metadata, ending);
        if self.units.send(unit).await.is_err() {
            // Nobody will commit what follows.
            self.finish.cancel();
        }
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
                self.unit.begin_batch(self.shared.clock().monotonic());
                self.work_batch(job, fetched, &batch, position).await?;
                position = position.max(batch.next_offset());
                self.unit.move_to(partition.clone(), position);
                if self.unit.is_full(self.shared.clock().monotonic()) {
                    self.hand_over(None).await;
                }
            }
            self.shared.metrics.set_lag(partition, fetched.high_watermark.saturating_sub(position));
        }
        self.unit.end_job();
        Ok(())
    }

    async fn work_batch(
        &mut self,
        job: &Job,
        fetched: &FetchedPartition,
        batch: &RecordBatch<'_>,
        position: i64,
    ) -> Result<(), Halt> {
        let FetchedPartition { topic, partition, batches, .. } = fetched;
        let opened = InputBatch::open(topic, *partition, batch, batches, position);
        let Some(input) = opened.map_err(|error| self.failure("input", &error, fetched, position))? else {
            return Ok(());
        };
        let placed = |halt| match halt {
            Halt::Asked => Halt::Asked,
            Halt::Failed(mut failed) => {
                failed.topic = Some(topic.to_string());
                failed.partition = Some(*partition);
                failed.offset = Some(position.max(input.base_offset));
                Halt::Failed(failed)
            }
        };
        self.transform(&input).await.map_err(placed)?;
        let rejected = self.append(&job.topology, &input).map_err(|failure| placed(failure.into()))?;
        self.unit.end_batch(BatchCounts {
            records: input.len(),
            rejected,
            bytes: batch.size_in_bytes(),
            bytes_uncompressed: input.section.len(),
        });
        Ok(())
    }

    /// Maps one batch, again and again if the plugin asks for it.
    async fn transform(&mut self, input: &InputBatch) -> Result<(), Halt> {
        let mut retries = 0;
        loop {
            let (plugin, error) = match self.chain.transform(input, &self.shared.metrics).await {
                Ok(()) => break,
                Err(failed) => failed,
            };
            self.shared.metrics.count_error(error.kind());
            let reason = match error {
                PluginError::Retry(reason) if retries < RETRIES_MAX => reason,
                error => return Err(plugin_failure(&self.chain, plugin, error).into()),
            };
            // What is done need not wait for it.
            self.hand_over(None).await;
            self.shared.set_state(StageState::Waiting { reason });
            let backoff = (RETRY_BACKOFF_MIN * 2_u32.pow(retries)).min(RETRY_BACKOFF_MAX);
            let waited = self.finish.run_until_cancelled(tokio::time::sleep(backoff)).await;
            waited.ok_or(Halt::Asked)?;
            retries += 1;
        }
        if retries > 0 {
            self.shared.set_state(StageState::Running);
        }
        Ok(())
    }

    /// Puts what came of the batch into the unit, as a whole or not at all. Returns how many records were rejected.
    fn append(&mut self, topology: &Topology, input: &InputBatch) -> Result<usize, StageFailure> {
        let Self { shared, chain, unit, .. } = self;
        let output = chain.output(input);
        let plugin = |index| Some(chain.plugin_name(index).to_owned());
        if let Err(error) = unit.assembler.check(&output) {
            let reason =
                PluginError::InvalidOutput(crate::outputs::OutputError::NoSuchPartition(error.to_string()));
            let last = shared.spec.plugins.last().map(|plugin| plugin.name.clone());
            return Err(StageFailure { plugin: last, ..failure(reason.kind(), &reason) });
        }
        if let (Some(first), OnError::Stop) = (output.rejected.first(), &shared.spec.on_error) {
            let offset = input.offset(&input.records[first.origin as usize]);
            let reason = format!("the plugin rejected the record at offset {offset}: {}", first.reason);
            return Err(StageFailure { plugin: plugin(first.plugin), ..failure("rejected", &reason) });
        }
        let sources = topology.sources_of(&input.topic);
        let Ok(()) = output.for_each(|record| {
            unit.assembler.push(input, sources, &record);
            Ok::<(), std::convert::Infallible>(())
        });
        if let Some(last) = output.rejected.last() {
            shared.set_last_rejection(&last.reason);
        }
        if let OnError::DeadLetter(_) = shared.spec.on_error {
            for rejection in output.rejected {
                append_dead_letter(shared, topology, input, rejection, unit);
            }
        }
        Ok(output.rejected.len())
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
    topology: &Topology,
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
        partition: Some(input.partition % topology.outputs[topic].partitions),
        timestamp: origin.timestamp,
        body: &body,
        changed: true,
    };
    unit.assembler.push(input, topology.sources_of(&input.topic), &record);
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
