//! What comes of a batch on its way.

use std::time::Duration;

use crate::batch::{InputBatch, InputError, Span};
use crate::plugin::PluginError;
use crate::stage::{Chain, OnError};

/// What becomes of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InlineAnswer {
    /// Every record as it is.
    Unchanged,
    Records(InlineRecords),
    /// The binding's policy takes the batch for bad: for each record that is, its place in the batch, and why.
    Rejected(Vec<(u32, String)>),
}

/// What stays of a batch: in the order of its records, and at most one for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InlineRecords {
    pub records: Vec<InlineRecord>,
    bodies: Vec<u8>,
    /// How many were rejected, and left out for it.
    pub rejected: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlineRecord {
    /// Difference to the batch's base offset: that of the record it was made from.
    pub offset_delta: i32,
    pub timestamp: i64,
    body: Span,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InlineError {
    #[error("the plugin is stopped")]
    Stopped,
    #[error("the plugin did not answer within {} ms", .budget.as_millis())]
    Late { budget: Duration },
    #[error("the batch cannot be opened: {0}")]
    Input(#[from] InputError),
    #[error("{plugin}: {error}")]
    Plugin { plugin: String, error: PluginError },
    /// It answered what the position does not allow.
    #[error("{plugin}: {message}")]
    Answer { plugin: String, message: String },
    #[error("{0}")]
    NotStarted(String),
    #[error("its dead letters could not be written: {0}")]
    Letters(LettersFault),
}

/// Why dead letters are not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LettersFault {
    /// They may be later.
    #[error("{0}")]
    Later(String),
    /// Their topic does not take them.
    #[error("{0}")]
    Never(String),
}

impl InlineError {
    /// The short name under which errors are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Late { .. } => "timeout",
            Self::Input(_) => "input",
            Self::Plugin { error, .. } => error.kind(),
            Self::Answer { .. } => "invalid_output",
            Self::NotStarted(_) => "start",
            Self::Letters(_) => "dead_letter",
        }
    }
}

impl InlineRecords {
    /// Key, value and headers, encoded as in a record.
    pub fn body(&self, record: &InlineRecord) -> &[u8] {
        record.body.of(&self.bodies)
    }

    fn push(&mut self, offset_delta: i32, timestamp: i64, body: &[u8]) {
        let start = self.bodies.len();
        self.bodies.extend_from_slice(body);
        let body = Span::new(start, self.bodies.len());
        self.records.push(InlineRecord { offset_delta, timestamp, body });
    }

    /// What became of a part of the batch that lies behind those before.
    pub(super) fn append(&mut self, part: &InputBatch, answer: InlineAnswer) {
        match answer {
            InlineAnswer::Unchanged => {
                for record in &part.records {
                    self.push(record.offset_delta, record.timestamp, part.body(record));
                }
            }
            InlineAnswer::Records(records) => {
                for record in &records.records {
                    self.push(record.offset_delta, record.timestamp, records.body(record));
                }
                self.rejected += records.rejected;
            }
            InlineAnswer::Rejected(_) => unreachable!("a part's bad records are left out"),
        }
    }
}

/// What the chain made of a batch.
pub(super) fn answer(
    chain: &Chain,
    input: &InputBatch,
    on_error: &OnError,
) -> Result<InlineAnswer, InlineError> {
    let output = chain.output(input);
    let mut rejected: Vec<_> = output.rejected.iter().map(|r| (r.origin, &r.reason)).collect();
    rejected.sort_by_key(|(origin, _)| *origin);
    rejected.dedup_by_key(|(origin, _)| *origin);
    if !rejected.is_empty() && *on_error == OnError::Stop {
        let rejected = rejected.into_iter().map(|(origin, reason)| (origin, reason.to_string()));
        return Ok(InlineAnswer::Rejected(rejected.collect()));
    }
    let is_rejected = |origin: u32| rejected.binary_search_by_key(&origin, |(origin, _)| *origin).is_ok();
    let mut records = InlineRecords { rejected: rejected.len(), ..InlineRecords::default() };
    let (mut unchanged, mut last) = (rejected.is_empty(), None);
    output.for_each(|record| {
        if is_rejected(record.origin) {
            return Ok(());
        }
        let fail = |message: &str| InlineError::Answer {
            plugin: chain.last_name().unwrap_or_default(),
            message: message.to_owned(),
        };
        if last.is_some_and(|last| record.origin <= last) {
            return Err(fail("more than one output for a record, or not in the order of the records"));
        }
        if record.partition.is_some_and(|partition| partition != input.partition) {
            return Err(fail("an output for another partition"));
        }
        last = Some(record.origin);
        let origin = &input.records[record.origin as usize];
        unchanged &= !record.changed && record.timestamp == origin.timestamp;
        records.push(origin.offset_delta, record.timestamp, record.body);
        Ok(())
    })?;
    if unchanged && records.records.len() == input.len() {
        return Ok(InlineAnswer::Unchanged);
    }
    Ok(InlineAnswer::Records(records))
}
