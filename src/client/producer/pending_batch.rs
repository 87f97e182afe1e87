//! A batch that a stage made, on its way to a partition.

use bytes::Bytes;
use millstream_record::{HEADER_BYTES, RecordBatch};
use millstream_runtime::stage::{OutputBatch, TopicPartition};
use millstream_wire::Records;

use crate::client::error::ClientError;

#[derive(Debug)]
pub(super) struct PendingBatch {
    pub(super) partition: TopicPartition,
    /// How many sequence numbers it takes.
    pub(super) records: i32,
    /// Of its first record; the same at each attempt, until another producer takes over.
    pub(super) base_sequence: Option<i32>,
    /// One whole batch, checked.
    bytes: Bytes,
}

impl PendingBatch {
    pub(super) fn new(output: OutputBatch) -> Result<Self, ClientError> {
        let OutputBatch { topic, partition, bytes, .. } = output;
        let partition = TopicPartition { topic, partition };
        let invalid = |reason: String| ClientError::OutputBatch { partition: partition.clone(), reason };
        let batch = RecordBatch::new(&bytes).map_err(|error| invalid(error.to_string()))?;
        batch.validate_client_header().map_err(|error| invalid(error.to_string()))?;
        let records = batch.records_count();
        Ok(Self { partition, records, base_sequence: None, bytes })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The batch as of the producer. Only the header is written anew.
    pub(super) fn records_from(&self, producer_id: i64, producer_epoch: i16) -> Records<'static> {
        let base_sequence = self.base_sequence.expect("a batch has a sequence number before it is sent");
        let batch = RecordBatch::new(&self.bytes).expect("the batch was checked when it came");
        let header = batch.producer_header(producer_id, producer_epoch, base_sequence);
        Records::from_chunks(vec![Bytes::copy_from_slice(&header), self.bytes.slice(HEADER_BYTES..)])
    }
}
