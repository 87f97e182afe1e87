//! What a source or a sink has sent and is not written yet. State alone; the session does the waiting.

use std::sync::Arc;
use std::time::Duration;

use millstream_record::{Compression, RecordBody};

use super::outgoing::Outgoing;
use crate::stage::{
    Assembler, Cause, Letter, Original, OutputBatch, OutputTopic, StageSpec, TopicInfo, partition_of_key,
};

/// With so many bytes queued they are written before more is taken.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Topics may grow and change what they take.
const TOPICS_AGE_MAX: Duration = Duration::from_secs(10);

/// Why messages were not queued.
pub(super) enum NotQueued {
    NotGranted(String),
    Invalid(String),
}

/// See the module.
pub(crate) struct Writing {
    /// In the order of the pipeline's `to:`; behind them the dead letter topic, which the plugin can't write to.
    names: Vec<Arc<str>>,
    to_count: usize,
    compression: Compression,
    topics: Vec<OutputTopic>,
    described: Option<Duration>,
    assembler: Assembler,
    /// Closed batches.
    closed: Vec<OutputBatch>,
    records: u64,
    /// Where records without a key go, until they are written: batches are better than spreading each record.
    turn: i32,
}

impl Writing {
    pub(crate) fn new(spec: &StageSpec) -> Self {
        let compression = spec.compression;
        Self {
            names: spec.to.iter().chain(spec.on_error.dead_letter()).cloned().collect(),
            to_count: spec.to.len(),
            compression,
            topics: Vec::new(),
            described: None,
            assembler: Assembler::new(&[], compression),
            closed: Vec::new(),
            records: 0,
            turn: 0,
        }
    }

    /// The topics that are to be described before something is sent; none if they are known.
    pub(crate) fn unknown(&self, now: Duration) -> Option<&[Arc<str>]> {
        let known = self.described.is_some_and(|at| now.saturating_sub(at) <= TOPICS_AGE_MAX);
        (!known).then_some(&self.names)
    }

    /// Takes what is known of the topics. The error names one that is not there.
    pub(crate) fn describe(&mut self, infos: Vec<Option<TopicInfo>>, now: Duration) -> Result<(), String> {
        let mut topics = Vec::with_capacity(self.names.len());
        for (name, info) in self.names.iter().zip(infos) {
            let Some(TopicInfo { partitions, rules }) = info.filter(|info| info.partitions > 0) else {
                return Err(format!("topic {name:?} does not exist"));
            };
            topics.push(OutputTopic { name: Arc::clone(name), partitions, rules });
        }
        self.described = Some(now);
        if topics != self.topics {
            self.close();
            self.assembler = Assembler::new(&topics, self.compression);
            self.topics = topics;
        }
        Ok(())
    }

    /// Whether what is queued is to be written before more is taken.
    pub(crate) fn is_full(&self) -> bool {
        let closed: usize = self.closed.iter().map(|batch| batch.bytes.len()).sum();
        self.assembler.bytes + closed >= QUEUE_BYTES_MAX
    }

    /// Queues all messages, or none.
    pub(super) fn send(&mut self, messages: &[Outgoing<'_>], now_ms: i64) -> Result<(), NotQueued> {
        let mut places = Vec::with_capacity(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let topic = match message.topic {
                None if self.to_count == 0 => {
                    return Err(NotQueued::NotGranted("there is no \"to\" to write to".to_owned()));
                }
                None => 0,
                Some(name) => match self.names[..self.to_count].iter().position(|known| **known == *name) {
                    Some(topic) => topic,
                    None => {
                        return Err(NotQueued::NotGranted(format!(
                            "{at}: topic {name:?} is none of the \"to\""
                        )));
                    }
                },
            };
            let invalid = |reason: String| NotQueued::Invalid(format!("{at}: {reason}"));
            message.check().map_err(invalid)?;
            let OutputTopic { name, partitions, .. } = &self.topics[topic];
            let partition = match message.partition.map(i32::try_from) {
                None => None,
                Some(Ok(partition)) if partition < *partitions => Some(partition),
                Some(_) => {
                    return Err(invalid(format!("topic {name:?} has {partitions} partitions")));
                }
            };
            let timestamp = message.timestamp.unwrap_or(now_ms);
            let taken = self.assembler.takes(topic, timestamp, message.body, now_ms);
            taken.map_err(|refusal| invalid(refusal.to_string()))?;
            places.push((topic, partition, timestamp));
        }
        for (message, (topic, partition, timestamp)) in messages.iter().zip(places) {
            let partition = partition.unwrap_or_else(|| self.partition(topic, message.body));
            self.assembler.append(topic, partition, timestamp, message.body);
        }
        Ok(())
    }

    fn partition(&self, topic: usize, body: &[u8]) -> i32 {
        let partitions = self.topics[topic].partitions;
        let body = RecordBody::parse(body).expect("it was checked before");
        match body.fields().0 {
            Some(key) => partition_of_key(key, partitions),
            None => self.turn % partitions,
        }
    }

    /// Queues a dead letter. The topics are known. The error says why the topic takes none.
    pub(super) fn put_letter(
        &mut self,
        original: &Original<'_>,
        cause: &Cause<'_>,
        now_ms: i64,
    ) -> Result<(), String> {
        let letter = self.letter(original, cause, now_ms)?;
        self.put(letter);
        Ok(())
    }

    /// A letter that its topic takes; it is not queued yet.
    pub(crate) fn letter(
        &self,
        original: &Original<'_>,
        cause: &Cause<'_>,
        now_ms: i64,
    ) -> Result<Letter, String> {
        let topic = (self.to_count, &self.topics[self.to_count]);
        Letter::new(&self.assembler, topic, original, cause, now_ms)
    }

    pub(crate) fn put(&mut self, letter: Letter) {
        letter.put(&mut self.assembler);
    }

    /// What is to be written; it stays queued until `written`. With it, the number of its records.
    pub(crate) fn batches(&mut self) -> (Vec<OutputBatch>, u64) {
        self.close();
        (self.closed.clone(), self.records)
    }

    pub(crate) fn written(&mut self) {
        self.closed.clear();
        self.records = 0;
        self.turn = self.turn.wrapping_add(1) & i32::MAX;
    }

    /// What was sent counts as never sent.
    pub(crate) fn forget(&mut self) {
        self.close();
        self.written();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.assembler.records == 0 && self.closed.is_empty()
    }

    fn close(&mut self) {
        let next = Assembler::new(&self.topics, self.compression);
        let mut assembler = std::mem::replace(&mut self.assembler, next);
        self.records += assembler.records;
        self.closed.append(&mut assembler.take());
    }
}
