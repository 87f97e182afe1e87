//! Producer and consumer plugins: a function that goes on until the host tells it to stop.
//!
//! ```
//! use std::time::Duration;
//!
//! use millstream_sdk::prelude::*;
//!
//! #[sink]
//! fn count_errors(sink: &mut Sink) -> Result<()> {
//!     loop {
//!         for message in sink.poll(500, Duration::from_secs(1))? {
//!             if message.value().starts_with(b"ERROR") {
//!                 sink.send(Outgoing::new("seen").key(message.key().unwrap_or_default()))?;
//!             }
//!         }
//!         sink.commit()?;
//!     }
//! }
//! ```
//!
//! When the host wants the plugin to stop, calls that wait or take in more return [`Error::Stopping`](crate::Error::Stopping), and `?` ends the
//! function, which is no error. What was polled and not committed is delivered again. An [`Error::Retry`](crate::Error::Retry) runs the plugin
//! again later, in a new instance; any other error stops it until a person has looked.

pub mod http;
mod outgoing;
mod sink;
mod source;

#[cfg(not(target_family = "wasm"))]
pub(crate) mod memory;

#[cfg(target_family = "wasm")]
pub(crate) use crate::guest::run as host;
#[cfg(not(target_family = "wasm"))]
pub(crate) use memory as host;

pub use outgoing::Outgoing;
pub use sink::{Message, Partition, SeekTo, Sink};
pub use source::Source;

/// The configuration, as the host hands it over; what is wrong with it is for whoever wrote it.
#[doc(hidden)]
pub fn __config<C: serde::de::DeserializeOwned>(text: &str) -> Result<C, String> {
    crate::instance::config(text).map_err(|error| error.reason().to_owned())
}

/// A granted secret, also for a transform. From here on it is in the plugin's memory; lines of the log don't show it.
pub fn secret(name: &str) -> crate::Result<Vec<u8>> {
    host::secret(name)
}

/// A text that stands for a granted secret in the headers of [requests](http): the host sends the secret in its place, and
/// the plugin never has it. It ends with the instance.
pub fn secret_reference(name: &str) -> crate::Result<String> {
    host::secret_reference(name)
}

/// A piece of a granted file: at most `max` bytes from `offset` on. Empty at its end.
pub fn read_file(name: &str, offset: u64, max: u32) -> crate::Result<Vec<u8>> {
    host::read_file(name, offset, max)
}
