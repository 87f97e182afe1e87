//! The plugin host: engine, sandbox, stages and pipelines. Knows no redb, no openraft, no Kafka messages.
//!
//! ```text
//! pipeline   YAML -> a checked pipeline           runtime    the stages that run on this node
//! stage      port -> plugins -> port, one task of a consumer group
//! runner     sources and sinks: plugins that produce and consume by themselves
//! inline     plugins in the way of the records: before they are stored, and for their readers
//! plugin     a plugin, its live instances, one call for a batch
//! trial      a plugin on its own, for whoever writes one
//! outputs    what a plugin returns, decoded and checked
//! grants     what a plugin may use beyond computing; environment   where that is on this node
//! http       requests of plugins to hosts that they are granted
//! batch      a record batch, opened for a plugin
//! engine     WebAssembly bytes -> a checked, compiled plugin
//! ```

pub mod batch;
pub mod clock;
pub mod engine;
pub mod environment;
pub mod grants;
pub mod http;
pub mod inline;
pub mod limits;
pub mod outputs;
pub mod pipeline;
pub mod plugin;
pub mod printable;
pub mod runner;
pub mod runtime;
pub mod stage;
pub mod trial;

#[cfg(any(test, feature = "testing"))]
pub mod guests;
