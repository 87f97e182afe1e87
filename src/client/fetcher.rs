//! Reads ahead: the positions of a member's partitions, one Fetch after the other, and what to make of the answers.
//!
//! Each answer's partitions go to the end of the line, so that a busy partition does not starve those behind it.

mod position;
mod whole_batches;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_runtime::stage::{FetchedPartition, SeekTo, TopicPartition};
use millstream_wire::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millstream_wire::fetch_response::FetchResponse;
use millstream_wire::{ApiKey, ErrorCode};
use tokio::time::Instant;

use self::position::Position;
use self::whole_batches::{FetchedBatches, whole_batches};
use super::by_topic::by_topic;
use super::config::{FETCH_BYTES_MAX, FETCH_PARTITION_BYTES_MAX, FETCH_WAIT_MAX, millis};
use super::connection::{Connection, REQUEST_TIMEOUT};
use super::error::{ClientError, check};
use super::offsets::{
    NO_OFFSET, Offsets, REPLICA_ID_CONSUMER, TIMESTAMP_EARLIEST, TIMESTAMP_LATEST, list_offsets, refused,
};
use super::transport::Transport;

/// A fetch that is not part of a fetch session (KIP-227).
const FINAL_SESSION_EPOCH: i32 = -1;

/// How long a partition that can't be read now is left alone.
const PARTITION_RETRY: Duration = Duration::from_millis(250);

/// What one partition's part of an answer says.
struct PartitionAnswer {
    partition: TopicPartition,
    code: ErrorCode,
    high_watermark: i64,
    records: Bytes,
}

/// Reads the partitions of one membership.
pub(crate) struct Fetcher<T> {
    connection: Arc<Connection<T>>,
    /// First in line is fetched first.
    positions: VecDeque<Position>,
}

impl<T: Transport> Fetcher<T> {
    /// A partition without a committed offset is read from its beginning (`auto.offset.reset=earliest`).
    pub(crate) fn new(
        connection: Arc<Connection<T>>,
        partitions: &[TopicPartition],
        committed: &Offsets,
    ) -> Self {
        let position =
            |partition: &TopicPartition| Position::new(partition.clone(), committed.get(partition).copied());
        let positions = partitions.iter().map(position).collect();
        Self { connection, positions }
    }

    /// Goes on reading a partition elsewhere.
    pub(crate) fn seek(&mut self, partition: &TopicPartition, to: SeekTo) {
        let mut positions = self.positions.iter_mut();
        if let Some(position) = positions.find(|position| position.partition == *partition) {
            position.seek(to);
        }
    }

    /// Waits until there is something to read, and moves the positions behind it: with the last step, so that nothing is
    /// skipped if this is dropped before.
    pub(crate) async fn next(&mut self) -> Result<Vec<FetchedPartition>, ClientError> {
        loop {
            self.reset_positions().await?;
            let now = Instant::now();
            let Some(request) = self.request(now) else {
                self.until_one_is_due(now).await;
                continue;
            };
            let timeout = FETCH_WAIT_MAX + REQUEST_TIMEOUT;
            let answer = self.connection.call_within(timeout, &request, read_answer);
            let fetched = self.accept(answer.await??)?;
            if !fetched.is_empty() {
                return Ok(fetched);
            }
        }
    }

    /// Asks where to begin, for partitions that have no position yet, or none any more.
    async fn reset_positions(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let unknown =
            self.positions.iter().filter(|position| position.offset.is_none() && position.is_due(now));
        let unknown: Vec<(TopicPartition, i64)> =
            unknown.map(|position| (position.partition.clone(), position.begin)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let questions = unknown.iter().map(|(partition, begin)| (partition, *begin));
        let found = list_offsets(&self.connection, questions).await?;
        let asked = |position: &&mut Position| unknown.iter().any(|(asked, _)| *asked == position.partition);
        for position in self.positions.iter_mut().filter(asked) {
            match found.get(&position.partition) {
                // No record is as late as that: it goes on with those that come from now on.
                Some(&NO_OFFSET) => (position.begin, position.retry_at) = (TIMESTAMP_LATEST, Some(now)),
                Some(&offset) => position.offset = Some(offset),
                None => position.retry_at = Some(now + PARTITION_RETRY),
            }
        }
        Ok(())
    }

    /// A Fetch of all partitions that can be read now; none if there are none.
    fn request(&self, now: Instant) -> Option<FetchRequest<'static>> {
        let due = self.positions.iter().filter(|position| position.is_due(now));
        let partitions = due.filter_map(|position| {
            let question = FetchPartition {
                partition: position.partition.partition,
                fetch_offset: position.offset?,
                partition_max_bytes: FETCH_PARTITION_BYTES_MAX,
                ..Default::default()
            };
            Some((Arc::clone(&position.partition.topic), question))
        });
        let topics = by_topic(partitions);
        if topics.is_empty() {
            return None;
        }
        let topic = |(name, partitions): (Arc<str>, _)| FetchTopic {
            topic: Cow::Owned(name.as_ref().to_owned()),
            partitions,
            ..Default::default()
        };
        Some(FetchRequest {
            replica_id: REPLICA_ID_CONSUMER,
            max_wait_ms: millis(self.wait_max(now)),
            min_bytes: 1,
            max_bytes: FETCH_BYTES_MAX,
            session_epoch: FINAL_SESSION_EPOCH,
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        })
    }

    /// The broker must not hold the fetch beyond the time when a partition that was left out is due again.
    fn wait_max(&self, now: Instant) -> Duration {
        self.earliest_retry()
            .map_or(FETCH_WAIT_MAX, |at| FETCH_WAIT_MAX.min(at.saturating_duration_since(now)))
    }

    async fn until_one_is_due(&self, now: Instant) {
        // A member without partitions has nothing to wait for but its end.
        match self.earliest_retry() {
            Some(at) => tokio::time::sleep_until(at.max(now)).await,
            None => std::future::pending().await,
        }
    }

    fn earliest_retry(&self) -> Option<Instant> {
        self.positions.iter().filter_map(|position| position.retry_at).min()
    }

    fn accept(&mut self, answers: Vec<PartitionAnswer>) -> Result<Vec<FetchedPartition>, ClientError> {
        let now = Instant::now();
        for position in &mut self.positions {
            position.forgive(now);
        }
        let places = self.positions.iter().enumerate();
        let places: HashMap<TopicPartition, usize> =
            places.map(|(place, position)| (position.partition.clone(), place)).collect();
        let mut fetched = Vec::new();
        let mut served = vec![false; self.positions.len()];
        for answer in answers {
            // An answer about a partition that was not asked for is the broker's mistake, and harmless.
            let Some(&place) = places.get(&answer.partition) else { continue };
            if let Some(found) = accept_partition(&mut self.positions[place], answer, now)? {
                fetched.push(found);
                served[place] = true;
            }
        }
        self.rotate(&served);
        Ok(fetched)
    }

    /// Puts the partitions that were served behind those that were not.
    fn rotate(&mut self, served: &[bool]) {
        let positions = std::mem::take(&mut self.positions);
        let (back, front): (Vec<_>, Vec<_>) =
            positions.into_iter().zip(served).partition(|(_, served)| **served);
        self.positions = front.into_iter().chain(back).map(|(position, _)| position).collect();
    }
}

fn read_answer(response: FetchResponse<'_>, frame: &Bytes) -> Result<Vec<PartitionAnswer>, ClientError> {
    check(ApiKey::Fetch, response.error_code)?;
    let mut answers = Vec::new();
    for topic in response.responses {
        let name: Arc<str> = topic.topic.as_ref().into();
        answers.extend(topic.partitions.into_iter().map(|found| PartitionAnswer {
            partition: TopicPartition { topic: Arc::clone(&name), partition: found.partition_index },
            code: found.error_code,
            high_watermark: found.high_watermark,
            records: found.records.map_or_else(Bytes::new, |records| records.share(frame)),
        }));
    }
    Ok(answers)
}

/// Moves the position behind what was fetched, or makes sense of the error.
fn accept_partition(
    position: &mut Position,
    answer: PartitionAnswer,
    now: Instant,
) -> Result<Option<FetchedPartition>, ClientError> {
    let PartitionAnswer { partition, code, high_watermark, records } = answer;
    let TopicPartition { topic, partition: index } = &partition;
    let Some(offset) = position.offset else { return Ok(None) };
    match code {
        ErrorCode::NONE => {}
        ErrorCode::OFFSET_OUT_OF_RANGE => {
            tracing::warn!(%topic, partition = index, offset, "the position is out of range: reading from the beginning");
            (position.offset, position.begin) = (None, TIMESTAMP_EARLIEST);
            return Ok(None);
        }
        code if code.is_retriable() => {
            tracing::debug!(%topic, partition = index, %code, "the partition can't be read now");
            position.retry_at = Some(now + PARTITION_RETRY);
            return Ok(None);
        }
        code => return Err(refused(ApiKey::Fetch, partition, code)),
    }
    let found = whole_batches(&records, offset);
    let found = found.map_err(|reason| ClientError::FetchedBatch {
        partition: partition.clone(),
        position: offset,
        reason: reason.to_string(),
    })?;
    let Some(FetchedBatches { batches, next_offset }) = found else { return Ok(None) };
    position.offset = Some(next_offset);
    let TopicPartition { topic, partition } = partition;
    Ok(Some(FetchedPartition { topic, partition, position: offset, high_watermark, batches }))
}
