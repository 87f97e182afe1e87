//! Sources and sinks in a component. Each function stands alone, so that a component imports what it uses and no more.

use std::time::Duration;

use bindings::millstream::plugin::{consumer, files, metrics, positions, producer, secrets, timers};

pub(crate) use super::http::http;
use crate::run::{Message, Outgoing, Partition, SeekTo};
use crate::{Error, Result};

#[expect(missing_docs, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.2",
        world: "runner",
        pub_export_macro: true,
        export_macro_name: "export_run_world",
        default_bindings_module: "millstream_sdk::guest::run::bindings",
    });
}

pub use bindings::export_run_world;
pub use bindings::exports::millstream::plugin::run::{Guest, RunError};

/// What `#[source]` and `#[sink]` expand to.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_run {
    ($config:ty, $run:expr) => {
        const _: () = {
            struct Plugin;

            std::thread_local! {
                static CONFIG: std::cell::RefCell<Option<$config>> = const { std::cell::RefCell::new(None) };
            }

            impl $crate::guest::run::Guest for Plugin {
                fn init(config: String) -> Result<(), String> {
                    CONFIG.set(Some($crate::run::__config(&config)?));
                    Ok(())
                }

                fn run() -> Result<(), $crate::guest::run::RunError> {
                    $crate::guest::run::ended(CONFIG.with_borrow(|config| match config {
                        Some(config) => $run(config),
                        None => Err($crate::Error::stop("run was called before init")),
                    }))
                }
            }

    $crate::guest::run::export_run_world!(Plugin with_types_in $crate::guest::run::bindings);
        };
    };
}

/// How a plugin's function ended, to the host.
#[doc(hidden)]
pub fn ended(result: Result<()>) -> Result<(), RunError> {
    match result {
        Ok(()) | Err(Error::Stopping) => Ok(()),
        Err(Error::Retry(reason)) => Err(RunError::Retry(reason)),
        Err(error) => Err(RunError::Stop(error.reason().to_owned())),
    }
}

fn of_consumer(error: consumer::Error) -> Error {
    match error {
        consumer::Error::Stopping => Error::Stopping,
        consumer::Error::Unavailable(text) | consumer::Error::NotOwned(text) => Error::Retry(text),
        consumer::Error::NotGranted(text) | consumer::Error::Invalid(text) => Error::Stop(text),
    }
}

/// False where the partition is another member's now.
fn if_owned(result: Result<(), consumer::Error>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(consumer::Error::NotOwned(_)) => Ok(false),
        Err(error) => Err(of_consumer(error)),
    }
}

fn of_producer(error: producer::Error) -> Error {
    match error {
        producer::Error::Stopping => Error::Stopping,
        producer::Error::Unavailable(text) => Error::Retry(text),
        producer::Error::NotGranted(text) | producer::Error::Invalid(text) => Error::Stop(text),
    }
}

fn of_positions(error: positions::Error) -> Error {
    match error {
        positions::Error::Stopping => Error::Stopping,
        positions::Error::Unavailable(text) => Error::Retry(text),
        positions::Error::Invalid(text) => Error::Stop(text),
    }
}

fn partition(of: &Partition) -> consumer::TopicPartition {
    consumer::TopicPartition { topic: of.topic.clone(), partition: of.partition }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn subscribe(topics: &[&str]) -> Result<()> {
    let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
    consumer::subscribe(&topics).map_err(of_consumer)
}

pub(crate) fn poll(max_records: u32, timeout: Duration) -> Result<Vec<Message>> {
    let timeout = u32::try_from(millis(timeout)).unwrap_or(u32::MAX);
    let polled = consumer::poll(max_records, timeout).map_err(of_consumer)?;
    let message = |found: consumer::Message| Message {
        topic: found.topic,
        partition: found.partition,
        offset: found.offset,
        timestamp: found.timestamp,
        key: found.key,
        value: found.value,
        headers: found.headers.into_iter().map(|header| (header.key, header.value)).collect(),
    };
    Ok(polled.into_iter().map(message).collect())
}

pub(crate) fn commit() -> Result<bool> {
    if_owned(consumer::commit())
}

pub(crate) fn commit_offsets(offsets: &[(Partition, i64)]) -> Result<bool> {
    let of = |(Partition { topic, partition }, offset): &(Partition, i64)| consumer::PartitionOffset {
        topic: topic.clone(),
        partition: *partition,
        offset: *offset,
    };
    let offsets: Vec<_> = offsets.iter().map(of).collect();
    if_owned(consumer::commit_offsets(&offsets))
}

pub(crate) fn reject(of: &Partition, offset: i64, reason: &str) -> Result<()> {
    // Of a partition that is another member's now the record is that one's, too.
    if_owned(consumer::reject(&partition(of), offset, reason)).map(drop)
}

pub(crate) fn send(message: Outgoing) -> Result<()> {
    let mut packed = Vec::new();
    message.pack(&mut packed);
    producer::send_packed(&packed).map_err(of_producer)
}

pub(crate) fn flush() -> Result<()> {
    producer::flush().map_err(of_producer)
}

pub(crate) fn seek(of: &Partition, to: SeekTo) -> Result<bool> {
    let to = match to {
        SeekTo::Offset(offset) => consumer::SeekTo::Offset(offset),
        SeekTo::Timestamp(timestamp) => consumer::SeekTo::Timestamp(timestamp),
        SeekTo::Beginning => consumer::SeekTo::Beginning,
        SeekTo::End => consumer::SeekTo::End,
        SeekTo::Committed => consumer::SeekTo::Committed,
    };
    if_owned(consumer::seek(&partition(of), to))
}

pub(crate) fn pause(of: &Partition) -> Result<bool> {
    if_owned(consumer::pause(&[partition(of)]))
}

pub(crate) fn resume(of: &Partition) -> Result<bool> {
    if_owned(consumer::resume(&[partition(of)]))
}

pub(crate) fn assignment() -> Vec<Partition> {
    let owned = consumer::assignment().into_iter();
    owned.map(|of| Partition { topic: of.topic, partition: of.partition }).collect()
}

pub(crate) fn sleep(time: Duration) -> Result<()> {
    timers::sleep(millis(time)).map_err(|error| match error {
        timers::Error::Stopping => Error::Stopping,
        timers::Error::Unavailable(text) => Error::Retry(text),
    })
}

pub(crate) fn load_position() -> Result<Option<Vec<u8>>> {
    positions::load().map_err(of_positions)
}

pub(crate) fn save_position(position: &[u8]) -> Result<()> {
    positions::save(position).map_err(of_positions)
}

fn of_secrets(error: secrets::Error) -> Error {
    match error {
        secrets::Error::NotGranted(text) => Error::Stop(text),
        secrets::Error::Unavailable(text) => Error::Retry(text),
    }
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>> {
    secrets::get(name).map_err(of_secrets)?.reveal().map_err(of_secrets)
}

pub(crate) fn secret_reference(name: &str) -> Result<String> {
    secrets::get(name).map_err(of_secrets)?.reference().map_err(of_secrets)
}

pub(crate) fn read_file(name: &str, offset: u64, max: u32) -> Result<Vec<u8>> {
    let refused = |error| match error {
        files::Error::NotGranted(text) | files::Error::Invalid(text) => Error::Stop(text),
        files::Error::Unavailable(text) => Error::Retry(text),
    };
    files::open(name).map_err(refused)?.read(offset, max).map_err(refused)
}

fn of_metrics(error: metrics::Error) -> Error {
    let metrics::Error::Invalid(text) = error;
    Error::Stop(text)
}

pub(crate) fn counter(name: &str, by: u64) -> Result<()> {
    metrics::counter(name, by).map_err(of_metrics)
}

pub(crate) fn gauge(name: &str, value: f64) -> Result<()> {
    metrics::gauge(name, value).map_err(of_metrics)
}

pub(crate) fn histogram(name: &str, value: f64) -> Result<()> {
    metrics::histogram(name, value).map_err(of_metrics)
}
