//! Gathers outputs into record batches, one open batch for each partition.

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{AppendError, BatchBuilder, Compression, RecordBody};

use super::chain::{ChainOutput, ChainRecord};
use super::partitioner::partition_of_key;
use super::port::OutputBatch;
use crate::batch::InputBatch;

/// A batch is closed at this size: Kafka's default `max.message.bytes`, less some for what compression may add.
const BATCH_BYTES_MAX: usize = 1024 * 1024 - 4096;
/// Room for a batch's header and a record's own numbers, for a record that needs a batch of its own.
const OVERHEAD_BYTES_MAX: usize = 1024;

/// Partitions of a topic that exist now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutputTopic {
    pub(super) name: Arc<str>,
    pub(super) partitions: i32,
}

/// A plugin chose a partition that the topic does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition} of topic {topic:?}, which has {partitions}")]
pub(super) struct NoSuchPartition {
    topic: Arc<str>,
    partition: i32,
    partitions: i32,
}

/// See the module. Topics are known by their index.
pub(super) struct Assembler {
    topics: Vec<Open>,
    compression: Compression,
    finished: Vec<OutputBatch>,
    /// What was appended takes so much before compression, open batches included.
    pub(super) bytes: usize,
    pub(super) records: u64,
}

struct Open {
    topic: OutputTopic,
    batches: Vec<Option<BatchBuilder>>,
}

impl Assembler {
    pub(super) fn new(topics: &[OutputTopic], compression: Compression) -> Self {
        let open = |topic: &OutputTopic| {
            let partitions = usize::try_from(topic.partitions).expect("a topic has partitions");
            Open { topic: topic.clone(), batches: (0..partitions).map(|_| None).collect() }
        };
        let topics = topics.iter().map(open).collect();
        Self { topics, compression, finished: Vec::new(), bytes: 0, records: 0 }
    }

    /// Every partition that a plugin has chosen exists. Asked before the first record of a batch is appended, so
    /// that a batch is in the unit as a whole or not at all.
    pub(super) fn check(&self, output: &ChainOutput<'_>) -> Result<(), NoSuchPartition> {
        output.for_each(|record| {
            let OutputTopic { name, partitions } = &self.topics[usize::from(record.topic)].topic;
            match record.partition {
                Some(partition) if partition >= *partitions => {
                    Err(NoSuchPartition { topic: Arc::clone(name), partition, partitions: *partitions })
                }
                _ => Ok(()),
            }
        })
    }

    /// Takes one record of a checked batch. `input` is the stage's input, with `source_partitions` partitions.
    pub(super) fn push(&mut self, input: &InputBatch, source_partitions: i32, record: &ChainRecord<'_>) {
        let body = RecordBody::parse(record.body).expect("bodies are checked when they enter");
        let partitions = self.topics[usize::from(record.topic)].topic.partitions;
        let partition = match record.partition {
            Some(partition) => partition,
            None if partitions == source_partitions && !key_changed(input, record, body) => input.partition,
            None => match body.fields().0 {
                Some(key) => partition_of_key(key, partitions),
                None => input.partition % partitions,
            },
        };
        self.append(usize::from(record.topic), partition, record.timestamp, body);
    }

    fn append(&mut self, topic: usize, partition: i32, timestamp: i64, body: RecordBody<'_>) {
        let at = usize::try_from(partition).expect("partitions are checked before");
        let open = &mut self.topics[topic];
        self.records += 1;
        let compression = self.compression;
        let builder = |bytes_max| BatchBuilder::new(bytes_max).compression(compression);
        let batch = open.batches[at].get_or_insert_with(|| builder(BATCH_BYTES_MAX));
        let before = batch.size_in_bytes();
        match batch.append_body(timestamp, body) {
            Ok(()) => {
                self.bytes += batch.size_in_bytes() - before;
                return;
            }
            Err(AppendError::Full { .. }) => {}
            Err(AppendError::OffsetDelta(delta)) => unreachable!("a batch of {delta} records is full before"),
        }
        let full = open.batches[at].take().filter(|batch| !batch.is_empty());
        let mut next = builder(BATCH_BYTES_MAX.max(body.as_bytes().len() + OVERHEAD_BYTES_MAX));
        next.append_body(timestamp, body).expect("an empty batch is made to fit the record");
        self.bytes += next.size_in_bytes();
        open.batches[at] = Some(next);
        if let Some(full) = full {
            self.finish(topic, partition, full);
        }
    }

    /// Closes all batches and hands over what was gathered, per partition in the order of appending.
    pub(super) fn take(&mut self) -> Vec<OutputBatch> {
        for topic in 0..self.topics.len() {
            for at in 0..self.topics[topic].batches.len() {
                if let Some(batch) = self.topics[topic].batches[at].take() {
                    self.finish(topic, i32::try_from(at).expect("partitions are counted by an i32"), batch);
                }
            }
        }
        std::mem::take(&mut self.finished)
    }

    fn finish(&mut self, topic: usize, partition: i32, batch: BatchBuilder) {
        let records = batch.records_count().unsigned_abs();
        // Compressing memory into memory fails only if the codec is broken.
        let bytes: Bytes = batch.finish().expect("a batch with records can be finished").into();
        let topic = Arc::clone(&self.topics[topic].topic.name);
        self.finished.push(OutputBatch { topic, partition, records, bytes });
    }
}

fn key_changed(input: &InputBatch, record: &ChainRecord<'_>, body: RecordBody<'_>) -> bool {
    record.changed && body.fields().0 != input.fields(&input.records[record.origin as usize]).fields().0
}
