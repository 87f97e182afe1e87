//! What DescribeConfigs answers: every key with its value, where it comes from, and what would apply instead.

use super::broker::{BROKER_CONFIGS, BrokerConfig, broker_config};
use super::definition::{ConfigDef, ConfigType, Synonym};
use super::topic::{TOPIC_CONFIGS, TopicConfigs, own_value};

/// Kafka's `DescribeConfigsResponse.ConfigSource`, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    DynamicTopic = 1,
    StaticBroker = 4,
    Default = 5,
}

/// A value that a key could have, and where from; the first of the list is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: ConfigSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConfig {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: ConfigSource,
    pub synonyms: Vec<ConfigSynonym>,
    pub config_type: ConfigType,
    pub documentation: &'static str,
    /// Fixed while the broker runs.
    pub is_read_only: bool,
    /// A value that must not be shown; no key has one.
    pub is_sensitive: bool,
}

/// Every configuration of a topic that sets `own` itself.
pub fn describe_topic(own: &TopicConfigs, broker: &BrokerConfig) -> Vec<DescribedConfig> {
    let describe = |def: &ConfigDef| {
        let mut synonyms = Vec::new();
        if let Some(value) = own_value(def, own) {
            synonyms.push(ConfigSynonym {
                name: def.name,
                value: Some(value.to_owned()),
                source: ConfigSource::DynamicTopic,
            });
        }
        let mut value = synonyms.first().and_then(|own| own.value.clone());
        let mut source = synonyms.first().map(|own| own.source);
        for synonym in def.synonyms {
            if let Some(set) = broker.explicit_value(synonym.name) {
                value.get_or_insert_with(|| synonym.unit.convert(set));
                source.get_or_insert(ConfigSource::StaticBroker);
                synonyms.push(ConfigSynonym {
                    name: synonym.name,
                    value: Some(set.to_owned()),
                    source: ConfigSource::StaticBroker,
                });
            }
        }
        synonyms.extend(default_of(def));
        DescribedConfig {
            name: def.name,
            value: value.or_else(|| def.default.map(str::to_owned)),
            source: source.unwrap_or(ConfigSource::Default),
            synonyms,
            config_type: def.config_type,
            documentation: def.doc,
            is_read_only: false,
            is_sensitive: false,
        }
    };
    TOPIC_CONFIGS.iter().map(describe).collect()
}

/// The default under the name of the broker key that carries it, as Kafka reports it.
fn default_of(def: &ConfigDef) -> Option<ConfigSynonym> {
    let carries = |synonym: &Synonym| {
        let default = broker_config(synonym.name).ok()?.default?;
        Some((synonym.name, default))
    };
    let (name, value) =
        def.synonyms.iter().find_map(carries).or(def.default.map(|value| (def.name, value)))?;
    Some(ConfigSynonym { name, value: Some(value.to_owned()), source: ConfigSource::Default })
}

/// Every configuration of this broker.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<DescribedConfig> {
    let describe = |def: &ConfigDef| {
        let set = std::iter::once(def.name)
            .chain(def.synonyms.iter().map(|synonym| synonym.name))
            .filter_map(|name| Some((name, broker.explicit_value(name)?)))
            .map(|(name, value)| (name, value, ConfigSource::StaticBroker));
        let default = def.default.map(|value| (def.name, value, ConfigSource::Default));
        let synonyms: Vec<_> = set
            .chain(default)
            .map(|(name, value, source)| ConfigSynonym { name, value: Some(value.to_owned()), source })
            .collect();
        DescribedConfig {
            name: def.name,
            value: synonyms.first().and_then(|first| first.value.clone()),
            source: synonyms.first().map_or(ConfigSource::Default, |first| first.source),
            synonyms,
            config_type: def.config_type,
            documentation: def.doc,
            is_read_only: true,
            is_sensitive: false,
        }
    };
    BROKER_CONFIGS.iter().map(describe).collect()
}
