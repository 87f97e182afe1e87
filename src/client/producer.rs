//! Writes batches, each once: an idempotent producer with a sequence for each partition, `acks=all`, and another
//! attempt wherever that is safe.
//!
//! A request holds at most one batch of each partition, as Kafka wants it, so several batches of one partition go
//! out in several requests, at once and in order. A broker that has not appended one of them refuses those
//! after it (OUT_OF_ORDER_SEQUENCE_NUMBER), and one that has appended it knows it again: a batch keeps its sequence
//! number, however often it is sent.

mod outcome;
mod pending_batch;
mod plan;
mod sequence;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use millstream_record::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID};
use millstream_runtime::stage::{OutputBatch, TopicPartition};
use millstream_wire::init_producer_id_request::InitProducerIdRequest;
use millstream_wire::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_wire::produce_response::ProduceResponse;
use millstream_wire::{ApiKey, ErrorCode};

use self::outcome::{Outcome, Settled, settle};
use self::pending_batch::PendingBatch;
use self::plan::plan;
use self::sequence::assign_sequences;
use super::backoff::Backoff;
use super::by_topic::by_topic;
use super::config::{RETRY_TIMEOUT, millis};
use super::connection::{Connection, REQUEST_TIMEOUT};
use super::error::{ClientError, check};
use super::transport::Transport;

/// All in-sync replicas.
const ACKS_ALL: i16 = -1;

/// How long a leader may wait for its followers.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(30);

/// What the cluster knows a producer by.
struct Identity {
    producer_id: i64,
    producer_epoch: i16,
    /// The sequence number of the next record of each partition; 0 for those that are not in here.
    next_sequences: HashMap<TopicPartition, i32>,
}

/// What a partition's leader says about a batch.
type Answers = HashMap<TopicPartition, (ErrorCode, Option<String>)>;

/// What came of the batches that were pending, each in its place, and an error that sending again may mend.
struct Round {
    outcomes: Vec<Outcome>,
    error: Option<ClientError>,
}

pub(crate) struct Producer<T> {
    connection: Arc<Connection<T>>,
    /// None while a batch's fate is not known: then the next batch comes from a new producer.
    identity: Option<Identity>,
}

impl<T: Transport> Producer<T> {
    pub(crate) fn new(connection: Arc<Connection<T>>) -> Self {
        Self { connection, identity: None }
    }

    /// Writes all of it, or fails; then some of it may have been written.
    pub(crate) async fn produce(&mut self, outputs: Vec<OutputBatch>) -> Result<(), ClientError> {
        let pending: Result<Vec<_>, _> = outputs.into_iter().map(PendingBatch::new).collect();
        let mut pending = pending?;
        if pending.is_empty() {
            return Ok(());
        }
        // It comes back when everything is written: where this ends early, by an error or because it is dropped,
        // nobody knows which sequence number comes next.
        let identity = self.identity.take();
        let mut backoff = Backoff::new(RETRY_TIMEOUT);
        let mut identity = match identity {
            Some(identity) => identity,
            None => self.init_producer_id(&mut backoff).await?,
        };
        while !pending.is_empty() {
            assign_sequences(&mut pending, &mut identity.next_sequences);
            let Round { outcomes, error } = self.send(&identity, &pending).await?;
            let Settled { written, sequence_broken } = settle(&pending, &outcomes);
            let mut written = written.into_iter();
            pending.retain(|_| !written.next().unwrap_or(false));
            let Some(error) = error else { continue };
            tracing::debug!(error = &error as &dyn std::error::Error, "batches are sent again");
            if !backoff.wait().await {
                return Err(error);
            }
            if sequence_broken {
                tracing::warn!(%error, "the producer's sequence is broken: going on as a new producer");
                identity = self.init_producer_id(&mut backoff).await?;
                pending.iter_mut().for_each(|batch| batch.base_sequence = None);
            }
        }
        self.identity = Some(identity);
        Ok(())
    }

    async fn init_producer_id(&self, backoff: &mut Backoff) -> Result<Identity, ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
        };
        loop {
            let answer = self.connection.call(&request, |response, _| {
                check(ApiKey::InitProducerId, response.error_code)?;
                Ok(Identity {
                    producer_id: response.producer_id,
                    producer_epoch: response.producer_epoch,
                    next_sequences: HashMap::new(),
                })
            });
            match answer.await.map_err(ClientError::from).flatten() {
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                result => return result,
            }
        }
    }

    /// Sends as much as may be on the way at once. Fails if sending again would not help.
    async fn send(&self, identity: &Identity, pending: &[PendingBatch]) -> Result<Round, ClientError> {
        let requests = plan(pending);
        // Polled in order, so that they reach the leader in order.
        let answers = join_all(
            requests.iter().map(|places| self.send_one(identity, places.iter().map(|&at| &pending[at]))),
        );
        let mut outcomes = vec![Outcome::Unsent; pending.len()];
        let mut error = None;
        for (places, answer) in requests.iter().zip(answers.await) {
            match answer {
                Ok(mut answers) => {
                    for &at in places {
                        let partition = &pending[at].partition;
                        outcomes[at] = match partition_outcome(&mut answers, partition) {
                            Ok(()) => Outcome::Written,
                            Err(refused) => {
                                let outcome = Outcome::of(&refused);
                                error = first_mendable(error, refused)?;
                                outcome
                            }
                        };
                    }
                }
                Err(lost) => {
                    error = first_mendable(error, lost)?;
                    places.iter().for_each(|&at| outcomes[at] = Outcome::Again);
                }
            }
        }
        Ok(Round { outcomes, error })
    }

    async fn send_one<'b>(
        &self,
        identity: &Identity,
        batches: impl Iterator<Item = &'b PendingBatch>,
    ) -> Result<Answers, ClientError> {
        let data = batches.map(|batch| {
            let records = batch.records_from(identity.producer_id, identity.producer_epoch);
            let data = PartitionProduceData { index: batch.partition.partition, records: Some(records) };
            (Arc::clone(&batch.partition.topic), data)
        });
        let topic = |(name, partition_data): (Arc<str>, _)| TopicProduceData {
            name: Cow::Owned(name.as_ref().to_owned()),
            partition_data,
            ..Default::default()
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: ACKS_ALL,
            timeout_ms: millis(REPLICATION_TIMEOUT),
            topic_data: by_topic(data).into_iter().map(topic).collect(),
        };
        let timeout = REPLICATION_TIMEOUT + REQUEST_TIMEOUT;
        Ok(self.connection.call_within(timeout, &request, |response, _| read_answers(response)).await?)
    }
}

fn read_answers(response: ProduceResponse<'_>) -> Answers {
    let mut answers = Answers::new();
    for topic in response.responses {
        let name: Arc<str> = topic.name.as_ref().into();
        for found in topic.partition_responses {
            let partition = TopicPartition { topic: Arc::clone(&name), partition: found.index };
            answers.insert(partition, (found.error_code, found.error_message.map(Cow::into_owned)));
        }
    }
    answers
}

fn partition_outcome(answers: &mut Answers, partition: &TopicPartition) -> Result<(), ClientError> {
    let key = ApiKey::Produce;
    match answers.remove(partition) {
        // The batch is there already: an earlier attempt, whose answer was lost, wrote it.
        Some((ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER, _)) => Ok(()),
        Some((code, message)) => {
            let detail = message.map_or_else(String::new, |message| format!(": {message}"));
            Err(ClientError::PartitionRefused { key, partition: partition.clone(), code, detail })
        }
        None => {
            let missing = format!("{}-{}", partition.topic, partition.partition);
            Err(ClientError::Incomplete { key, missing })
        }
    }
}

/// Keeps the first error that sending again may mend; fails with one that it does not.
fn first_mendable(
    so_far: Option<ClientError>,
    error: ClientError,
) -> Result<Option<ClientError>, ClientError> {
    if Outcome::of(&error) == Outcome::Refused { Err(error) } else { Ok(Some(so_far.unwrap_or(error))) }
}
