//! What goes into one commit, and when it has to go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_record::Compression;

use super::assemble::Assembler;
use super::port::{Commit, CommittedOffset, OutputBatch, TopicPartition};
use super::status::StageFailure;
use super::worker::Topology;

/// Bytes, read or written, after which a unit is committed even if more is queued. What a single batch adds may
/// exceed it by the limit on a call's outputs, so that this and that limit bound the memory of a stage.
const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a unit may be in the making: of a slow plugin's work, a crash repeats this much.
const UNIT_TIME_MAX: Duration = Duration::from_secs(1);

/// What one commit is made of.
pub(super) struct Unit {
    pub(super) commit: Commit,
    pub(super) counts: UnitCounts,
    /// How many jobs are done with it. None, where a unit was full before the job was done.
    pub(super) jobs: usize,
    /// The worker has ended: `commit` holds what was done before.
    pub(super) ending: Option<Ending>,
}

impl Unit {
    /// The worker ended before it began.
    pub(super) fn ending(ending: Ending) -> Self {
        Self { commit: Commit::default(), counts: UnitCounts::default(), jobs: 0, ending: Some(ending) }
    }
}

/// Why a worker ends by itself.
#[derive(Debug)]
pub(super) enum Ending {
    Failed(Box<StageFailure>),
    /// The node has no room for another instance now.
    NoRoom(String),
}

/// What a unit adds to the stage's counters, once it is committed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UnitCounts {
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) records_rejected: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) batches_in: u64,
}

/// A unit in the making.
pub(super) struct Gathering {
    topology: Arc<Topology>,
    compression: Compression,
    pub(super) assembler: Assembler,
    outputs: Vec<OutputBatch>,
    next_offsets: BTreeMap<TopicPartition, (i64, Arc<str>)>,
    jobs: usize,
    counts: UnitCounts,
    /// Uncompressed where a batch was compressed.
    bytes_read: usize,
    /// When its first batch was begun.
    begun: Option<Duration>,
}

impl Gathering {
    pub(super) fn new(topology: Arc<Topology>, compression: Compression) -> Self {
        Self {
            assembler: Assembler::new(&topology.outputs, compression),
            topology,
            compression,
            outputs: Vec::new(),
            next_offsets: BTreeMap::new(),
            jobs: 0,
            counts: UnitCounts::default(),
            bytes_read: 0,
            begun: None,
        }
    }

    /// Goes on with what is known of the topics now.
    pub(super) fn use_topology(&mut self, topology: &Arc<Topology>) {
        if self.topology != *topology {
            self.close_assembler(Assembler::new(&topology.outputs, self.compression));
            self.topology = Arc::clone(topology);
        }
    }

    pub(super) fn begin_batch(&mut self, now: Duration) {
        self.begun.get_or_insert(now);
    }

    /// A batch is done: all of it is in here, or dropped for good.
    pub(super) fn end_batch(&mut self, counts: BatchCounts) {
        let BatchCounts { records, rejected, bytes, bytes_uncompressed } = counts;
        self.counts.batches_in += 1;
        self.counts.records_in += records as u64;
        self.counts.records_rejected += rejected as u64;
        self.counts.bytes_in += bytes as u64;
        self.bytes_read += bytes.max(bytes_uncompressed);
    }

    /// `metadata` is what the commit says about who did it.
    pub(super) fn move_to(&mut self, partition: TopicPartition, next_offset: i64, metadata: &Arc<str>) {
        self.next_offsets.insert(partition, (next_offset, Arc::clone(metadata)));
    }

    pub(super) fn end_job(&mut self) {
        self.jobs += 1;
    }

    /// Whether it should be committed before anything is added.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        let written = self.counts.bytes_out as usize + self.assembler.bytes;
        let age = self.begun.map_or(Duration::ZERO, |begun| now.saturating_sub(begun));
        self.bytes_read.max(written) >= UNIT_BYTES_MAX || age >= UNIT_TIME_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs == 0 && self.next_offsets.is_empty()
    }

    /// What was gathered; from here on it is empty again.
    pub(super) fn take(&mut self, ending: Option<Ending>) -> Unit {
        let next = Self::new(Arc::clone(&self.topology), self.compression);
        let mut done = std::mem::replace(self, next);
        done.close_assembler(Assembler::new(&[], Compression::None));
        let offset = |(TopicPartition { topic, partition }, (next_offset, metadata))| CommittedOffset {
            topic,
            partition,
            next_offset,
            metadata,
        };
        let offsets = done.next_offsets.into_iter().map(offset).collect();
        let commit = Commit { outputs: done.outputs, offsets, position: None };
        Unit { commit, counts: done.counts, jobs: done.jobs, ending }
    }

    fn close_assembler(&mut self, next: Assembler) {
        let mut assembler = std::mem::replace(&mut self.assembler, next);
        self.counts.records_out += assembler.records;
        let mut finished = assembler.take();
        self.counts.bytes_out += finished.iter().map(|batch| batch.bytes.len() as u64).sum::<u64>();
        self.outputs.append(&mut finished);
    }
}

/// What one batch of the input came to.
pub(super) struct BatchCounts {
    pub(super) records: usize,
    pub(super) rejected: usize,
    pub(super) bytes: usize,
    pub(super) bytes_uncompressed: usize,
}
