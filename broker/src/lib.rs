//! The broker: Kafka protocol, storage, replication, groups and metadata. Knows no Wasm.

pub mod clock;
pub mod codec;
pub mod config;
pub mod group;
pub mod ids;
pub mod log;
pub mod metadata;
