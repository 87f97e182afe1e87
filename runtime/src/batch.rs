//! A record batch opened for plugins: its records uncompressed, and where each of them lies.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millstream_record::{
    BatchError, CrcMismatch, DecompressError, HeaderError, RecordBatch, RecordBody, RecordError, RecordIter,
    TimestampType, UnknownCompression,
};

/// What the records of one batch may take when they are uncompressed. Larger batches are not made by any client
/// with default settings; smaller ones that grow beyond it are bombs.
pub const UNCOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a batch cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Crc(#[from] CrcMismatch),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Compression(#[from] UnknownCompression),
    #[error("decompress the records: {0}")]
    Decompress(String),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the batch has {found} records instead of {declared}")]
    RecordsCount { declared: i32, found: usize },
    /// In the form that the plugin asks for.
    #[error("the record takes at least {bytes} bytes of memory as a typed record; the plugin has {max}")]
    TooLarge { bytes: usize, max: usize },
}

impl From<DecompressError> for InputError {
    fn from(error: DecompressError) -> Self {
        Self::Decompress(error.to_string())
    }
}

/// Where bytes lie in a buffer that is known from the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The buffers that spans point into are bounded far below 4 GiB.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let narrow = |at| u32::try_from(at).expect("buffers of records are bounded below 4 GiB");
        Self { start: narrow(start), end: narrow(end) }
    }

    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

/// One record of an [`InputBatch`].
#[derive(Debug, Clone, Copy)]
pub struct InputRecord {
    pub timestamp: i64,
    pub offset_delta: i32,
    pub(crate) body: Span,
}

/// What an earlier plugin of the chain decided about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The record of the stage's input that it was made from.
    pub(crate) origin: u32,
    pub(crate) topic: Option<u16>,
    pub(crate) partition: Option<i32>,
}

/// Where a transform stands in the way of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Behind a topic, in front of others.
    Stream,
    /// In front of a topic: of what producers send, before it is stored.
    Ingest,
    /// Behind a topic, for its readers.
    View,
}

/// Records of one partition on their way through a plugin.
#[derive(Debug, Clone)]
pub struct InputBatch {
    pub position: Position,
    pub topic: Arc<str>,
    pub partition: i32,
    pub base_offset: i64,
    pub base_timestamp: i64,
    /// The timestamp of all records, if the topic stamps them itself.
    pub append_time: Option<i64>,
    /// The records section: what `transform-batch` gets.
    pub(crate) section: Bytes,
    pub(crate) records: Vec<InputRecord>,
    /// Empty for a batch that comes from a topic.
    pub(crate) lineage: Vec<Lineage>,
}

impl InputBatch {
    /// Opens `batch`, a slice of `owner`, and leaves out the records below `from`, which were processed before:
    /// a fetch returns whole batches. None if no record is left, as in a control batch.
    pub fn open(
        position: Position,
        topic: &Arc<str>,
        partition: i32,
        batch: &RecordBatch<'_>,
        owner: &Bytes,
        from: i64,
    ) -> Result<Option<Self>, InputError> {
        batch.verify_crc()?;
        batch.validate_header()?;
        if batch.is_control() || batch.last_offset() < from {
            return Ok(None);
        }
        let section = uncompressed_section(batch, owner)?;
        let mut opened = Self {
            position,
            topic: Arc::clone(topic),
            partition,
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            append_time: (batch.timestamp_type() == TimestampType::LogAppendTime)
                .then(|| batch.max_timestamp()),
            section: Bytes::new(),
            records: Vec::new(),
            lineage: Vec::new(),
        };
        opened.index(batch, section, from)?;
        Ok(if opened.records.is_empty() { None } else { Some(opened) })
    }

    fn index(&mut self, batch: &RecordBatch<'_>, section: Bytes, from: i64) -> Result<(), InputError> {
        let declared = batch.records_count();
        // The header's count is a claim: a record takes at least 7 bytes, so the section bounds it.
        let claimed = usize::try_from(declared).unwrap_or(0);
        self.records.reserve_exact(claimed.min(section.len() / 7));
        let mut found = 0;
        let mut kept_from = section.len();
        let mut records = RecordIter::new(&section);
        let mut start = 0;
        while let Some(record) = records.next().transpose()? {
            found += 1;
            let end = start + record.raw.len();
            if batch.offset_of(&record) >= from {
                kept_from = kept_from.min(start);
                let body = Span::new(end - record.body.as_bytes().len() - kept_from, end - kept_from);
                let timestamp = batch.timestamp_of(&record);
                self.records.push(InputRecord { timestamp, offset_delta: record.offset_delta, body });
            }
            start = end;
        }
        if found != claimed {
            return Err(InputError::RecordsCount { declared, found });
        }
        self.section = section.slice(kept_from..);
        Ok(())
    }

    /// Some of its records, as a batch of their own. It must come from a topic.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        assert!(self.lineage.is_empty(), "what a plugin made is not cut");
        let end_of = |index: usize| self.records[index].body.end;
        let start = if range.start == 0 { 0 } else { end_of(range.start - 1) };
        let end = if range.is_empty() { start } else { end_of(range.end - 1) };
        let moved = |record: &InputRecord| {
            let Span { start: from, end: to } = record.body;
            InputRecord { body: Span { start: from - start, end: to - start }, ..*record }
        };
        Self {
            section: self.section.slice(start as usize..end as usize),
            records: self.records[range].iter().map(moved).collect(),
            topic: Arc::clone(&self.topic),
            lineage: Vec::new(),
            ..*self
        }
    }

    /// Key, value and headers of a record, encoded.
    pub(crate) fn body(&self, record: &InputRecord) -> &[u8] {
        record.body.of(&self.section)
    }

    pub(crate) fn fields(&self, record: &InputRecord) -> RecordBody<'_> {
        RecordBody::parse(self.body(record)).expect("records are checked when the batch is opened")
    }

    pub fn offset(&self, record: &InputRecord) -> i64 {
        self.base_offset.saturating_add(i64::from(record.offset_delta))
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// As the contract counts records.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.len()).expect("a batch's records are counted by an i32")
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

fn uncompressed_section(batch: &RecordBatch<'_>, owner: &Bytes) -> Result<Bytes, InputError> {
    match batch.compression()? {
        millstream_record::Compression::None => Ok(owner.slice_ref(batch.records_section())),
        compression => {
            let mut section = Vec::new();
            let compressed = batch.records_section();
            millstream_record::decompress(compression, compressed, UNCOMPRESSED_BYTES_MAX, &mut section)?;
            Ok(section.into())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
