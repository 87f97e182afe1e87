//! Gathers outputs into record batches, one open batch for each partition.

use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{AppendError, BatchBuilder, Compression, RecordBody};

use super::chain::{ChainOutput, ChainRecord};
use super::partitioner::partition_of_key;
use super::port::OutputBatch;
use super::rejections::Rejection;
use super::topic::{OutputTopic, Refusal};
use crate::batch::{InputBatch, UNCOMPRESSED_BYTES_MAX};

/// A batch is closed at this size, whatever its topic would take.
const BATCH_BYTES_MAX: usize = 1024 * 1024 - 4096;
/// Room for a batch's header and a record's own numbers, and for what a codec adds to a short batch.
const OVERHEAD_BYTES_MAX: usize = 128;
/// Of a topic's limit this part is left to a codec that makes incompressible bytes longer: 1 in so many.
const CODEC_SLACK_SHARE: usize = 256;

/// A plugin chose a partition that the topic does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition} of topic {topic:?}, which has {partitions}")]
pub(super) struct NoSuchPartition {
    topic: Arc<str>,
    partition: i32,
    partitions: i32,
}

/// See the module. Topics are known by their index.
pub(crate) struct Assembler {
    topics: Vec<Open>,
    compression: Compression,
    finished: Vec<OutputBatch>,
    /// What was appended takes so much before compression, open batches included.
    pub(crate) bytes: usize,
    pub(crate) records: u64,
}

struct Open {
    topic: OutputTopic,
    /// A batch of several records is closed at this size, uncompressed.
    bytes_max: usize,
    batches: Vec<Option<BatchBuilder>>,
}

impl Assembler {
    pub(crate) fn new(topics: &[OutputTopic], compression: Compression) -> Self {
        let open = |topic: &OutputTopic| {
            let partitions = usize::try_from(topic.partitions).expect("a topic has partitions");
            let bytes_max = BATCH_BYTES_MAX.min(bytes_max_of(topic));
            Open { topic: topic.clone(), bytes_max, batches: (0..partitions).map(|_| None).collect() }
        };
        let topics = topics.iter().map(open).collect();
        Self { topics, compression, finished: Vec::new(), bytes: 0, records: 0 }
    }

    /// Every partition that a plugin has chosen exists, and these records are not taken by their topics. Asked before
    /// the first record of a batch is appended, so that a batch is in the unit as a whole or not at all.
    pub(super) fn check(
        &self,
        output: &ChainOutput<'_>,
        now_ms: i64,
    ) -> Result<Vec<Rejection>, NoSuchPartition> {
        let mut refused = Vec::new();
        output.for_each(|record| {
            let topic = usize::from(record.topic);
            let OutputTopic { name, partitions, .. } = &self.topics[topic].topic;
            if let Some(partition) = record.partition
                && partition >= *partitions
            {
                let (topic, partitions) = (Arc::clone(name), *partitions);
                return Err(NoSuchPartition { topic, partition, partitions });
            }
            if let Err(refusal) = self.takes(topic, record.timestamp, record.body, now_ms) {
                let reason = refusal.to_string().into();
                refused.push(Rejection { origin: record.origin, plugin: None, reason });
            }
            Ok(())
        })?;
        Ok(refused)
    }

    /// Whether a topic takes a record of this body.
    pub(crate) fn takes(
        &self,
        topic: usize,
        timestamp: i64,
        body: &[u8],
        now_ms: i64,
    ) -> Result<(), Refusal> {
        let OutputTopic { name, rules, .. } = &self.topics[topic].topic;
        if !rules.takes_timestamp(timestamp, now_ms) {
            return Err(Refusal::Timestamp { topic: Arc::clone(name), timestamp });
        }
        let body = parsed(body);
        if rules.needs_keys && body.fields().0.is_none() {
            return Err(Refusal::NoKey(Arc::clone(name)));
        }
        if self.shares(topic, body) || self.alone(topic, timestamp, body).is_some() {
            return Ok(());
        }
        let (bytes, max) = (body.as_bytes().len(), rules.batch_bytes_max);
        Err(Refusal::TooLarge { topic: Arc::clone(name), bytes, max })
    }

    /// The longest body that a topic takes whatever its bytes are.
    pub(super) fn body_bytes_max(&self, topic: usize) -> usize {
        self.topics[topic].bytes_max.saturating_sub(OVERHEAD_BYTES_MAX)
    }

    /// Whether the record can be in one batch with others.
    fn shares(&self, topic: usize, body: RecordBody<'_>) -> bool {
        body.as_bytes().len() <= self.body_bytes_max(topic)
    }

    /// A large record in a batch of its own. It may have been compressed when it was read, so if need be it is
    /// compressed although the stage does not: readers see no difference, and nothing is lost.
    fn alone(&self, topic: usize, timestamp: i64, body: RecordBody<'_>) -> Option<Bytes> {
        // More than that no stage reads.
        if body.as_bytes().len() > UNCOMPRESSED_BYTES_MAX - OVERHEAD_BYTES_MAX {
            return None;
        }
        let max = self.topics[topic].topic.rules.batch_bytes_max;
        let mut batches = [self.compression, Compression::Zstd].into_iter().map(|compression| {
            let mut batch = BatchBuilder::new(usize::MAX).compression(compression);
            batch.append_body(timestamp, body).expect("a batch is made to fit the record");
            finished(batch)
        });
        batches.find(|batch| batch.len() <= max)
    }

    /// Takes one record of a checked batch. `input` is the stage's input, with `source_partitions` partitions.
    pub(super) fn push(&mut self, input: &InputBatch, source_partitions: i32, record: &ChainRecord<'_>) {
        let (_, partition) = self.place(input, source_partitions, record);
        self.append(usize::from(record.topic), partition, record.timestamp, record.body);
    }

    /// Topic and partition of one record of a checked batch.
    pub(super) fn place(
        &self,
        input: &InputBatch,
        source_partitions: i32,
        record: &ChainRecord<'_>,
    ) -> (&Arc<str>, i32) {
        let body = parsed(record.body);
        let OutputTopic { name, partitions, .. } = &self.topics[usize::from(record.topic)].topic;
        let partition = match record.partition {
            Some(partition) => partition,
            None if *partitions == source_partitions && !key_changed(input, record, body) => input.partition,
            None => match body.fields().0 {
                Some(key) => partition_of_key(key, *partitions),
                None => input.partition % partitions,
            },
        };
        (name, partition)
    }

    /// Takes a body that the topic takes.
    pub(crate) fn append(&mut self, topic: usize, partition: i32, timestamp: i64, body: &[u8]) {
        let body = parsed(body);
        self.records += 1;
        if !self.shares(topic, body) {
            let batch = self.alone(topic, timestamp, body).expect("refused records are left out before");
            self.close(topic, partition);
            self.bytes += batch.len();
            return self.put_finished(topic, partition, 1, batch);
        }
        for _ in 0..2 {
            let at = usize::try_from(partition).expect("partitions are checked before");
            let open = &mut self.topics[topic];
            let empty = || BatchBuilder::new(open.bytes_max).compression(self.compression);
            let batch = open.batches[at].get_or_insert_with(empty);
            let before = batch.size_in_bytes();
            match batch.append_body(timestamp, body) {
                Ok(()) => {
                    self.bytes += batch.size_in_bytes() - before;
                    return;
                }
                Err(AppendError::Full { .. }) => self.close(topic, partition),
                Err(AppendError::OffsetDelta(delta)) => {
                    unreachable!("a batch of {delta} records is full before")
                }
            }
        }
        unreachable!("a record that shares a batch fits an empty one");
    }

    /// Closes all batches and hands over what was gathered, per partition in the order of appending.
    pub(crate) fn take(&mut self) -> Vec<OutputBatch> {
        for topic in 0..self.topics.len() {
            for at in 0..self.topics[topic].batches.len() {
                self.close(topic, i32::try_from(at).expect("partitions are counted by an i32"));
            }
        }
        std::mem::take(&mut self.finished)
    }

    fn close(&mut self, topic: usize, partition: i32) {
        let at = usize::try_from(partition).expect("partitions are checked before");
        if let Some(batch) = self.topics[topic].batches[at].take().filter(|batch| !batch.is_empty()) {
            let records = batch.records_count().unsigned_abs();
            self.put_finished(topic, partition, records, finished(batch));
        }
    }

    fn put_finished(&mut self, topic: usize, partition: i32, records: u32, bytes: Bytes) {
        let topic = Arc::clone(&self.topics[topic].topic.name);
        self.finished.push(OutputBatch { topic, partition, records, bytes });
    }
}

fn finished(batch: BatchBuilder) -> Bytes {
    // Compressing memory into memory fails only if the codec is broken.
    batch.finish().expect("a batch with records can be finished").into()
}

fn parsed(body: &[u8]) -> RecordBody<'_> {
    RecordBody::parse(body).expect("bodies are checked when they enter")
}

/// Uncompressed bytes that surely fit the topic's limit, in whatever codec.
fn bytes_max_of(topic: &OutputTopic) -> usize {
    let max = topic.rules.batch_bytes_max;
    max - max / CODEC_SLACK_SHARE
}

fn key_changed(input: &InputBatch, record: &ChainRecord<'_>, body: RecordBody<'_>) -> bool {
    record.changed && body.fields().0 != input.fields(&input.records[record.origin as usize]).fields().0
}
