//! The broker: Kafka protocol, storage, replication, groups and metadata. Knows no Wasm.

mod api;
pub mod broker;
pub mod clock;
pub mod codec;
pub mod config;
mod connection;
mod durable_dir;
pub mod group;
pub mod hooks;
pub mod ids;
pub mod log;
pub mod metadata;
mod metrics;
pub mod partition;
pub mod peer;
mod server;
