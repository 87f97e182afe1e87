//! Write Millstream plugins in Rust.
//!
//! A transform looks at one record after the other, in place, and says what becomes of each:
//!
//! ```
//! use millstream_sdk::prelude::*;
//!
//! #[transform]
//! fn hello(record: Record, out: &mut Output) -> Result<()> {
//!     out.record(&record).value(format!("hello, {}", record.text()?)).emit()
//! }
//! ```
//!
//! - Not to emit drops the record; [`Output::keep`] passes it on as it is, at next to no cost;
//!   [`Output::record`] makes a new one out of it.
//! - An `Err` rejects this record, with its reason, and takes back what was emitted for it. `?` makes one out of
//!   any error and of any text. [`Error::retry`] and [`Error::stop`] speak about the whole batch.
//! - With configuration or state, write `#[transform] impl Transform for …`: see [`Transform`].
//! - [`log`], [`metrics`] and, where it is granted, [`secret`] reach the host.
//! - Plugins that produce or consume by themselves are functions under `#[source]` and `#[sink]`: see [`run`].
//! - [`testing`] runs a transform under plain `cargo test`, without WebAssembly.
//!
//! `cargo build --release --target wasm32-wasip2` of a crate with `crate-type = ["cdylib"]` makes the plugin.
//! It exports the contract's form `transform-batch`; `#[transform(typed)]` makes it `transform` instead, which
//! copies every record on its own and is there to be measured and tested.

#![warn(missing_docs)]

// `#[transform]` names this crate as a plugin does.
#[cfg(test)]
extern crate self as millstream_sdk;

pub mod log;
pub mod metrics;
pub mod prelude;
pub mod run;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

mod error;
mod instance;
mod output;
mod payload;
mod record;
mod transform;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;

pub use error::{Error, Result};
pub use millstream_sdk_macros::{sink, source, transform};
pub use output::{Output, RecordBuilder};
pub use payload::Payload;
pub use record::{Header, Headers, Position, Record};
pub use run::{Message, Outgoing, Sink, Source, secret};
pub use transform::{NoConfig, Transform};

// What `#[transform]` expands to. A plugin has exports only where there is a host to call them.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use guest::{export_batch as __export_batch, export_typed as __export_typed};

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_batch {
    ($transform:ident) => {
        const _: () = $crate::__is_transform::<$transform>();
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_typed {
    ($transform:ident) => {
        const _: () = $crate::__is_transform::<$transform>();
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_run {
    ($config:ty, $run:expr) => {
        const _: fn(&$config) -> $crate::Result<()> = $run;
    };
}

/// Uses a transform natively as its export does, so that it is no dead code there.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub const fn __is_transform<T: Transform>() {}
