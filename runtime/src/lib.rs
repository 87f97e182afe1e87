//! The plugin host: engine, sandbox, stages and pipelines. Knows no redb, no openraft, no Kafka messages.
//!
//! ```text
//! engine     WebAssembly bytes -> a checked, compiled plugin
//! plugin     a plugin, its live instances, one call for a batch
//! outputs    what a plugin returns, decoded and checked
//! batch      a record batch, opened for a plugin
//! ```

pub mod batch;
pub mod clock;
pub mod engine;
pub mod limits;
pub mod outputs;
pub mod plugin;

#[cfg(test)]
mod guests;
