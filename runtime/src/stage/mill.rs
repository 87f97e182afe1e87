//! What the worker does with a batch: open it, map it through the plugins, and put what comes of it into the unit.

use std::sync::Arc;
use std::time::Duration;

use millstream_record::{BatchError, RecordBatch};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::chain::Chain;
use super::dead_letter::{self, Cause, Original};
use super::port::{FetchedPartition, TopicPartition};
use super::rejections::{Rejection, Rejections};
use super::spec::OnError;
use super::status::{StageFailure, StageShared, StageState};
use super::unit::{BatchCounts, Ending, Gathering, Unit};
use super::worker::{Job, Topology};
use crate::batch::{InputBatch, InputError};
use crate::outputs::OutputError;
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

impl From<Box<StageFailure>> for Halt {
    fn from(failure: Box<StageFailure>) -> Self {
        Self::Failed(failure)
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
        let input = match InputBatch::open(topic, *partition, batch, batches, position) {
            Ok(Some(input)) => input,
            Ok(None) => return Ok(()),
            Err(error) => return Ok(self.reject_batch(job, fetched, batch, position, &error)?),
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
                error => return Err(Halt::Failed(Box::new(plugin_failure(&self.chain, plugin, error)))),
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
    fn append(&mut self, topology: &Topology, input: &InputBatch) -> Result<usize, Box<StageFailure>> {
        let now_ms = self.shared.clock().wall_ms();
        let output = self.chain.output(input);
        let refused = self.unit.assembler.check(&output, now_ms).map_err(|error| {
            let reason = OutputError::NoSuchPartition(error.to_string());
            let reason = PluginError::InvalidOutput(reason);
            let last = self.shared.spec.plugins.last().map(|plugin| plugin.name.clone());
            Box::new(StageFailure { plugin: last, ..failure(reason.kind(), &reason) })
        })?;
        let rejections = Rejections::new([output.rejected, &refused].concat());
        let letters = self.settle(topology, input, rejections.as_slice(), now_ms)?;
        let sources = topology.sources_of(&input.topic);
        let assembler = &mut self.unit.assembler;
        let Ok(()) = output.for_each(|record| {
            if !rejections.contains(record.origin) {
                assembler.push(input, sources, &record);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        self.put_letters(letters);
        if let Some(last) = rejections.as_slice().last() {
            self.shared.set_last_rejection(&last.reason);
        }
        Ok(rejections.as_slice().len())
    }

    /// What the stage's policy makes of rejected records.
    fn settle(
        &self,
        topology: &Topology,
        input: &InputBatch,
        rejected: &[Rejection],
        now_ms: i64,
    ) -> Result<Vec<Letter>, Box<StageFailure>> {
        let Some(first) = rejected.first() else { return Ok(Vec::new()) };
        match &self.shared.spec.on_error {
            OnError::Skip => Ok(Vec::new()),
            OnError::Stop => {
                let offset = input.offset(&input.records[first.origin as usize]);
                let reason = &first.reason;
                Err(Box::new(match first.plugin {
                    Some(plugin) => StageFailure {
                        plugin: Some(self.chain.plugin_name(plugin).to_owned()),
                        ..failure(
                            "rejected",
                            &format!("the plugin rejected the record at offset {offset}: {reason}"),
                        )
                    },
                    None => {
                        failure("refused", &format!("what comes of the record at offset {offset}: {reason}"))
                    }
                }))
            }
            OnError::DeadLetter(_) => {
                let letter = |rejection: &Rejection| {
                    let original = Original::record(input, &input.records[rejection.origin as usize]);
                    self.letter(topology, &original, &rejection.reason, rejection.plugin, now_ms)
                };
                rejected.iter().map(letter).collect()
            }
        }
    }

    /// A batch that can't be opened is as bad as a record that a plugin rejects, and must not hold up its partition
    /// for longer.
    fn reject_batch(
        &mut self,
        job: &Job,
        fetched: &FetchedPartition,
        batch: &RecordBatch<'_>,
        position: i64,
        error: &InputError,
    ) -> Result<(), Box<StageFailure>> {
        let failed = self.failure("input", error, fetched, position);
        match self.shared.spec.on_error {
            OnError::Stop => return Err(failed),
            OnError::Skip => {}
            OnError::DeadLetter(_) => {
                let offset = position.max(batch.base_offset());
                let original = Original::batch(&fetched.topic, fetched.partition, offset, batch);
                let now_ms = self.shared.clock().wall_ms();
                let letter = self.letter(&job.topology, &original, &failed.reason, None, now_ms)?;
                self.put_letters(vec![letter]);
            }
        }
        let FetchedPartition { topic, partition, .. } = fetched;
        self.shared.set_last_rejection(&format!("{topic}-{partition} at {position}: {error}"));
        let records = usize::try_from(batch.records_count()).unwrap_or(0);
        let bytes = batch.size_in_bytes();
        self.unit.end_batch(BatchCounts { records, rejected: records, bytes, bytes_uncompressed: bytes });
        Ok(())
    }

    fn letter(
        &self,
        topology: &Topology,
        original: &Original<'_>,
        reason: &str,
        plugin: Option<usize>,
        now_ms: i64,
    ) -> Result<Letter, Box<StageFailure>> {
        let (spec, assembler) = (&self.shared.spec, &self.unit.assembler);
        let plugin = plugin.map(|index| &spec.plugins[index]);
        let cause = Cause {
            reason,
            plugin: plugin.map(|plugin| format!("{}@{}", plugin.name, plugin.plugin.version())),
            stage: format!("{}.{}", spec.pipeline, spec.name),
        };
        let at = spec.to.len();
        let topic = &topology.outputs[at];
        let accepted = topic.rules.takes_timestamp(original.timestamp, now_ms);
        let timestamp = if accepted { original.timestamp } else { now_ms };
        let fits = |body: &[u8]| assembler.takes(at, timestamp, body, now_ms).is_ok();
        let body = dead_letter::body(original, &cause, assembler.body_bytes_max(at), fits);
        // Left are what no cutting mends: a limit that no letter keeps, a key that is missing.
        let refused = |reason: &dyn std::fmt::Display| Box::new(failure("dead_letter", reason));
        let body = body.ok_or_else(|| refused(&format!("topic {:?} takes no letter", topic.name)))?;
        assembler.takes(at, timestamp, &body, now_ms).map_err(|refusal| refused(&refusal))?;
        Ok(Letter { topic: at, partition: original.partition % topic.partitions, timestamp, body })
    }

    fn put_letters(&mut self, letters: Vec<Letter>) {
        for Letter { topic, partition, timestamp, body } in letters {
            self.unit.assembler.append(topic, partition, timestamp, &body);
        }
    }

    fn failure(
        &self,
        kind: &'static str,
        error: &dyn std::fmt::Display,
        fetched: &FetchedPartition,
        offset: i64,
    ) -> Box<StageFailure> {
        self.shared.metrics.count_error(kind);
        Box::new(StageFailure {
            topic: Some(fetched.topic.to_string()),
            partition: Some(fetched.partition),
            offset: Some(offset),
            ..failure(kind, error)
        })
    }
}

/// A dead letter that its topic takes.
struct Letter {
    topic: usize,
    partition: i32,
    timestamp: i64,
    body: Vec<u8>,
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
