//! Configuration: one table defines every key, and everything else is read off it.
//!
//! `broker.rs` and `topic.rs` hold the two halves of the table: Kafka's name, type, default, range,
//! documentation, and the broker keys that a topic key falls back to. A macro (`table.rs`) turns each half into
//! the typed view (`BrokerConfig`, `TopicConfig`) and the list of definitions, so a key can't exist in one and
//! not in the other. Defaults < file < environment < flags; an unknown key is an error that names the nearest
//! known one. `docs/CONFIG.md` is written from the same table by a test.

#[macro_use]
mod table;
mod broker;
mod definition;
mod describe;
mod listener;
mod load;
mod properties;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;
mod topic;
mod value;

pub use broker::{BROKER_CONFIGS, BrokerConfig};
pub use definition::{ConfigDef, ConfigError, ConfigType, Effect, InvalidValue, Synonym, Unit, Valid};
pub use describe::{ConfigSource, ConfigSynonym, DescribedConfig, describe_broker, describe_topic};
pub use listener::{HostPort, Listener};
pub use load::{ENVIRONMENT_PREFIX, LoadError, Origin, Sources};
pub use properties::{PropertiesError, Property};
pub use topic::{TOPIC_CONFIGS, TopicConfig, TopicConfigs, topic_config, validate_topic_config};
pub use value::{CleanupPolicy, CompressionType, ConfigValue, SignaturePolicy, TimestampType};
