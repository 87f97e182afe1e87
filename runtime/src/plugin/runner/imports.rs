//! The host's interfaces for sources and sinks: from the contract's types to the session's, and back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Resource;

use super::{OpenFile, RunnerState};
use crate::batch::InputBatch;
use crate::plugin::bindings::imports::{
    config, consumer, files, metrics, positions, producer, secrets, timers,
};
use crate::plugin::lent::SecretHandle;
use crate::plugin::typed::put_body;
use crate::runner::{Outgoing, SeekPlace, SessionError};
use crate::stage::TopicPartition;

/// Files that an instance may have open.
const FILES_MAX: usize = 16;
/// Bytes of one read.
const READ_BYTES_MAX: u32 = 1024 * 1024;

/// Each interface has its own type for errors, of which those of the others are a part.
macro_rules! session_error {
    ($error:path: $($variant:ident),+) => {
        impl From<SessionError> for $error {
            fn from(error: SessionError) -> Self {
                use $error as Wit;
                match error {
                    SessionError::Stopping => Wit::Stopping,
                    $(SessionError::$variant(text) => Wit::$variant(text),)+
                    #[allow(unreachable_patterns, reason = "an interface may have them all")]
                    SessionError::NotGranted(text)
                    | SessionError::Invalid(text)
                    | SessionError::Unavailable(text)
                    | SessionError::NotOwned(text) => Wit::Unavailable(text),
                }
            }
        }
    };
}

session_error!(consumer::Error: NotGranted, Invalid, Unavailable, NotOwned);
session_error!(producer::Error: NotGranted, Invalid, Unavailable);
session_error!(positions::Error: Invalid, Unavailable);
session_error!(timers::Error: Unavailable);

impl config::Host for RunnerState {
    async fn get(&mut self) -> String {
        self.called_for_little().await;
        config::Host::get(&mut self.host).await
    }
}

impl timers::Host for RunnerState {
    async fn sleep(&mut self, milliseconds: u64) -> Result<(), timers::Error> {
        self.host.begin_time();
        self.end_turn(false);
        self.settle().await;
        let slept = self.session.sleep(Duration::from_millis(milliseconds)).await;
        self.turn.begin(0);
        Ok(slept?)
    }

    async fn stopping(&mut self) -> bool {
        self.called_for_little().await;
        self.session.stop().is_cancelled()
    }
}

impl metrics::Host for RunnerState {
    async fn counter(&mut self, name: String, by: u64) -> Result<(), metrics::Error> {
        self.called_for_little().await;
        metrics::Host::counter(&mut self.host, name, by).await
    }

    async fn gauge(&mut self, name: String, value: f64) -> Result<(), metrics::Error> {
        self.called_for_little().await;
        metrics::Host::gauge(&mut self.host, name, value).await
    }

    async fn histogram(&mut self, name: String, value: f64) -> Result<(), metrics::Error> {
        self.called_for_little().await;
        metrics::Host::histogram(&mut self.host, name, value).await
    }
}

impl producer::Host for RunnerState {
    async fn send(&mut self, messages: Vec<producer::Message>) -> Result<(), producer::Error> {
        self.called().await;
        let mut bodies = Vec::with_capacity(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let mut body = Vec::new();
            let headers = message.headers.iter().map(|header| (header.key.as_str(), header.value.as_deref()));
            let put = put_body(&mut body, message.key.as_deref(), message.value.as_deref(), headers);
            put.map_err(|fault| producer::Error::Invalid(format!("{at}: {fault}")))?;
            bodies.push(body);
        }
        let outgoing = messages.iter().zip(&bodies).map(|(message, body)| Outgoing {
            topic: message.topic.as_deref(),
            partition: message.partition,
            timestamp: message.timestamp,
            body,
        });
        let outgoing: Vec<_> = outgoing.collect();
        self.session.send(&outgoing).await?;
        self.turn.records_out += outgoing.len();
        Ok(())
    }

    async fn send_packed(&mut self, messages: Vec<u8>) -> Result<(), producer::Error> {
        self.called().await;
        let outgoing = Outgoing::unpack(&messages).map_err(producer::Error::Invalid)?;
        self.session.send(&outgoing).await?;
        self.turn.records_out += outgoing.len();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), producer::Error> {
        self.called_and_settles();
        let done = self.session.flush().await;
        self.settle().await;
        Ok(done?)
    }
}

impl positions::Host for RunnerState {
    async fn load(&mut self) -> Result<Option<Vec<u8>>, positions::Error> {
        self.called().await;
        Ok(self.session.load_position().await?)
    }

    async fn save(&mut self, position: Vec<u8>) -> Result<(), positions::Error> {
        self.called_and_settles();
        let done = self.session.save_position(&position).await;
        self.settle().await;
        Ok(done?)
    }
}

impl RunnerState {
    async fn polled(
        &mut self,
        max_records: u32,
        timeout_ms: u32,
        typed_bytes_max: Option<usize>,
    ) -> Result<Vec<InputBatch>, SessionError> {
        self.host.begin_time();
        self.end_turn(false);
        self.settle().await;
        let timeout = Duration::from_millis(timeout_ms.into());
        let polled = self.session.poll(max_records, timeout, typed_bytes_max).await;
        self.turn.begin(polled.iter().flatten().map(InputBatch::len).sum());
        polled
    }
}

impl consumer::Host for RunnerState {
    async fn subscribe(&mut self, topics: Vec<String>) -> Result<(), consumer::Error> {
        self.called().await;
        Ok(self.session.subscribe(topics).await?)
    }

    async fn poll(
        &mut self,
        max_records: u32,
        timeout_ms: u32,
    ) -> Result<Vec<consumer::Message>, consumer::Error> {
        let room = usize::try_from(self.host.limiter.memory_bytes_max()).unwrap_or(usize::MAX);
        Ok(self.polled(max_records, timeout_ms, Some(room)).await?.iter().flat_map(messages).collect())
    }

    async fn poll_batch(
        &mut self,
        max_records: u32,
        timeout_ms: u32,
    ) -> Result<Vec<consumer::Batch>, consumer::Error> {
        Ok(self.polled(max_records, timeout_ms, None).await?.iter().map(batch).collect())
    }

    async fn commit(&mut self) -> Result<(), consumer::Error> {
        self.called_and_settles();
        let done = self.session.commit().await;
        self.settle().await;
        Ok(done?)
    }

    async fn commit_offsets(
        &mut self,
        offsets: Vec<consumer::PartitionOffset>,
    ) -> Result<(), consumer::Error> {
        self.called_and_settles();
        let of = |offset: consumer::PartitionOffset| {
            Ok((partition(&offset.topic, offset.partition)?, offset.offset))
        };
        let offsets: Result<Vec<_>, SessionError> = offsets.into_iter().map(of).collect();
        let done = match offsets {
            Ok(offsets) => self.session.commit_offsets(offsets).await,
            Err(error) => Err(error),
        };
        self.settle().await;
        Ok(done?)
    }

    async fn reject(
        &mut self,
        of: consumer::TopicPartition,
        offset: i64,
        reason: String,
    ) -> Result<(), consumer::Error> {
        self.called().await;
        let reason = self.host.mask(&reason);
        Ok(self.session.reject(partition(&of.topic, of.partition)?, offset, &reason).await?)
    }

    async fn committed(
        &mut self,
        partitions: Vec<consumer::TopicPartition>,
    ) -> Result<Vec<Option<i64>>, consumer::Error> {
        self.called().await;
        Ok(self.session.committed(all(&partitions)?).await?)
    }

    async fn seek(
        &mut self,
        of: consumer::TopicPartition,
        to: consumer::SeekTo,
    ) -> Result<(), consumer::Error> {
        self.called().await;
        let place = match to {
            consumer::SeekTo::Offset(offset) => SeekPlace::Offset(offset),
            consumer::SeekTo::Timestamp(timestamp) => SeekPlace::Timestamp(timestamp),
            consumer::SeekTo::Beginning => SeekPlace::Beginning,
            consumer::SeekTo::End => SeekPlace::End,
            consumer::SeekTo::Committed => SeekPlace::Committed,
        };
        Ok(self.session.seek(partition(&of.topic, of.partition)?, place).await?)
    }

    async fn position(&mut self, of: consumer::TopicPartition) -> Result<Option<i64>, consumer::Error> {
        self.called_for_little().await;
        Ok(self.session.position(&partition(&of.topic, of.partition)?)?)
    }

    async fn pause(&mut self, partitions: Vec<consumer::TopicPartition>) -> Result<(), consumer::Error> {
        self.called().await;
        Ok(self.session.pause(all(&partitions)?).await?)
    }

    async fn resume(&mut self, partitions: Vec<consumer::TopicPartition>) -> Result<(), consumer::Error> {
        self.called().await;
        Ok(self.session.resume(all(&partitions)?).await?)
    }

    async fn assignment(&mut self) -> Vec<consumer::TopicPartition> {
        self.called_for_little().await;
        let owned = self.session.assignment().into_iter();
        owned
            .map(|TopicPartition { topic, partition }| consumer::TopicPartition {
                topic: topic.to_string(),
                partition: partition.unsigned_abs(),
            })
            .collect()
    }
}

fn partition(topic: &str, partition: u32) -> Result<TopicPartition, SessionError> {
    let number = i32::try_from(partition);
    let number = number.map_err(|_| SessionError::Invalid(format!("there is no partition {partition}")))?;
    Ok(TopicPartition { topic: topic.into(), partition: number })
}

fn all(partitions: &[consumer::TopicPartition]) -> Result<Vec<TopicPartition>, SessionError> {
    partitions.iter().map(|of| partition(&of.topic, of.partition)).collect()
}

fn messages(batch: &InputBatch) -> impl Iterator<Item = consumer::Message> {
    batch.records.iter().map(|record| {
        let (key, value, headers) = batch.fields(record).fields();
        let header = |header: millstream_record::Header<'_>| consumer::Header {
            key: String::from_utf8_lossy(header.key).into_owned(),
            value: header.value.map(<[u8]>::to_vec),
        };
        consumer::Message {
            topic: batch.topic.to_string(),
            partition: batch.partition.unsigned_abs(),
            offset: batch.offset(record),
            timestamp: record.timestamp,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: headers.map(header).collect(),
        }
    })
}

fn batch(batch: &InputBatch) -> consumer::Batch {
    consumer::Batch {
        topic: batch.topic.to_string(),
        partition: batch.partition.unsigned_abs(),
        base_offset: batch.base_offset,
        base_timestamp: batch.base_timestamp,
        append_time: batch.append_time,
        record_count: batch.count(),
        records: batch.section.to_vec(),
    }
}

impl files::Host for RunnerState {
    async fn open(&mut self, name: String) -> Result<Resource<OpenFile>, files::Error> {
        self.called().await;
        let Some(path) = self.host.lent.grants.files.get(&name) else {
            return Err(files::Error::NotGranted(format!("the pipeline grants no file {name:?}")));
        };
        if self.files_open >= FILES_MAX {
            return Err(files::Error::Invalid(format!("{FILES_MAX} files are open already")));
        }
        let (files, path) = (self.host.lent.environment.files.clone(), path.clone());
        let opened = blocking(move || files.open(&path)).await?;
        let file = opened.map_err(|error| files::Error::Unavailable(error.without_path()))?;
        let handle = self.host.table().push(OpenFile(Arc::new(file)));
        let handle = handle.map_err(|error| files::Error::Unavailable(error.to_string()))?;
        self.files_open += 1;
        Ok(handle)
    }
}

impl files::HostFile for RunnerState {
    async fn size(&mut self, file: Resource<OpenFile>) -> Result<u64, files::Error> {
        self.called().await;
        let OpenFile(file) = self.file(&file)?;
        let file = Arc::clone(file);
        let metadata = blocking(move || file.metadata()).await?;
        Ok(metadata.map_err(unavailable)?.len())
    }

    async fn read(
        &mut self,
        file: Resource<OpenFile>,
        offset: u64,
        max_bytes: u32,
    ) -> Result<Vec<u8>, files::Error> {
        self.called().await;
        let OpenFile(file) = self.file(&file)?;
        let file = Arc::clone(file);
        blocking(move || read_at(&file, offset, max_bytes.min(READ_BYTES_MAX))).await?.map_err(unavailable)
    }

    async fn drop(&mut self, file: Resource<OpenFile>) -> wasmtime::Result<()> {
        self.host.table().delete(file)?;
        self.files_open -= 1;
        Ok(())
    }
}

impl RunnerState {
    fn file(&mut self, file: &Resource<OpenFile>) -> Result<&OpenFile, files::Error> {
        self.host.table().get(file).map_err(|error| files::Error::Unavailable(error.to_string()))
    }
}

/// Storage may be slow: others compute meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, files::Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| files::Error::Unavailable(error.to_string()))
}

fn read_at(file: &File, offset: u64, bytes_max: u32) -> io::Result<Vec<u8>> {
    // What is not there takes no memory.
    let size = file.metadata()?.len();
    let wanted = u64::from(bytes_max).min(size.saturating_sub(offset));
    let mut bytes = vec![0; usize::try_from(wanted).expect("at most 1 MiB")];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn unavailable(error: io::Error) -> files::Error {
    files::Error::Unavailable(error.to_string())
}

impl secrets::Host for RunnerState {
    async fn get(&mut self, name: String) -> Result<Resource<SecretHandle>, secrets::Error> {
        self.called_for_little().await;
        secrets::Host::get(&mut self.host, name).await
    }
}

impl secrets::HostSecret for RunnerState {
    async fn reference(&mut self, secret: Resource<SecretHandle>) -> Result<String, secrets::Error> {
        self.called_for_little().await;
        let SecretHandle(name) = self.host.secret_of(&secret)?;
        Ok(self.http.requests.references.of(name))
    }

    async fn reveal(&mut self, secret: Resource<SecretHandle>) -> Result<Vec<u8>, secrets::Error> {
        self.called_for_little().await;
        secrets::HostSecret::reveal(&mut self.host, secret).await
    }

    async fn drop(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<()> {
        secrets::HostSecret::drop(&mut self.host, secret).await
    }
}
