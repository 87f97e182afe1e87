//! Sending, and where a source was.

use std::sync::Arc;

use millstream_record::{BatchBuilder, Header};

use super::{Result, Session, SessionError};
use crate::runner::desk::Request;
use crate::runner::outgoing::{MESSAGES_MAX, Outgoing};
use crate::runner::spec::POSITIONS_TOPIC;
use crate::runner::writing::NotQueued;
use crate::stage::{OutputBatch, TopicPartition, partition_of_key};

/// Longest position that is kept.
const POSITION_BYTES_MAX: usize = 64 * 1024;

impl Session {
    pub(crate) async fn send(&mut self, messages: &[Outgoing<'_>]) -> Result<()> {
        self.may_go_on()?;
        if messages.is_empty() {
            return Ok(());
        }
        if messages.len() > MESSAGES_MAX {
            return Err(SessionError::Invalid(format!(
                "{MESSAGES_MAX}: a call takes so many messages at most"
            )));
        }
        self.know_topics().await?;
        if self.writing.is_full() {
            self.flush().await?;
        }
        let queued = self.writing.send(messages, self.shared.clock().wall_ms());
        queued.map_err(|not_queued| match not_queued {
            NotQueued::NotGranted(reason) => SessionError::NotGranted(reason),
            NotQueued::Invalid(reason) => SessionError::Invalid(reason),
        })
    }

    /// What is written to is known, as of now.
    pub(super) async fn know_topics(&mut self) -> Result<()> {
        let now = self.shared.clock().monotonic();
        let Some(unknown) = self.writing.unknown(now).filter(|names| !names.is_empty()) else {
            return Ok(());
        };
        let topics = unknown.to_vec();
        let described =
            self.unless_stopped(self.ask_once(|reply| Request::Describe { topics, reply })).await?;
        let infos = described.map_err(|error| self.refused(error))?;
        self.writing.describe(infos, now).map_err(SessionError::Unavailable)
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.may_finish()?;
        if self.writing.is_empty() {
            return Ok(());
        }
        self.write(None, Vec::new()).await
    }

    pub(crate) async fn load_position(&mut self) -> Result<Option<Vec<u8>>> {
        self.may_go_on()?;
        let (key, partition) = self.position_place().await?;
        let found = self.unless_stopped(self.ask_once(|reply| Request::LastValue { partition, key, reply }));
        let found = found.await?.map_err(|error| self.refused(error))?;
        Ok(found.map(Vec::from))
    }

    pub(crate) async fn save_position(&mut self, position: &[u8]) -> Result<()> {
        self.may_finish()?;
        if position.len() > POSITION_BYTES_MAX {
            let message = format!("a position of {} bytes: {POSITION_BYTES_MAX} are kept", position.len());
            return Err(SessionError::Invalid(message));
        }
        let (key, TopicPartition { topic, partition }) = self.position_place().await?;
        let mut batch = BatchBuilder::new(usize::MAX);
        let header = Header { key: b"millstream.plugin", value: Some(self.label.as_bytes()) };
        let now_ms = self.shared.clock().wall_ms();
        batch
            .append(now_ms, Some(key.as_bytes()), Some(position), [header])
            .expect("a batch has room for one");
        let bytes = batch.finish().expect("it has a record").into();
        self.write(Some(OutputBatch { topic, partition, records: 1, bytes }), Vec::new()).await
    }

    /// The key of this source's position, and where it is kept.
    async fn position_place(&mut self) -> Result<(Arc<str>, TopicPartition)> {
        let topic: Arc<str> = POSITIONS_TOPIC.into();
        let topics = vec![Arc::clone(&topic)];
        let infos = self.ask(|reply| Request::Describe { topics, reply }).await?;
        let Some(info) = infos.into_iter().next().flatten().filter(|info| info.partitions > 0) else {
            return Err(SessionError::Unavailable(format!("topic {topic:?} does not exist")));
        };
        let spec = &self.shared.spec;
        let key: Arc<str> = format!("{}/{}/{}", spec.pipeline, spec.name, self.task).into();
        let partition = partition_of_key(key.as_bytes(), info.partitions);
        Ok((key, TopicPartition { topic, partition }))
    }
}
