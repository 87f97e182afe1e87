//! What the table says of one key, and the check of a value against it.

use std::fmt;

use super::value::ConfigValue;

/// A row of the table.
#[derive(Debug)]
pub struct ConfigDef {
    /// Kafka's name, or ours where Kafka has none.
    pub name: &'static str,
    pub config_type: ConfigType,
    /// The default as text; `None` is Kafka's null.
    pub default: Option<&'static str>,
    pub valid: Valid,
    pub effect: Effect,
    /// The broker keys that give a topic key its value where the topic has none, the strongest first.
    pub synonyms: &'static [Synonym],
    pub doc: &'static str,
    /// Reads the text as the key's Rust type.
    pub(super) parses: fn(&str) -> Result<(), InvalidValue>,
}

/// Kafka's `ConfigDef.Type`; the numbers are DescribeConfigs' (KIP-569).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
}

impl fmt::Display for ConfigType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
        })
    }
}

/// Whether a key changes what the broker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Served,
    /// Stored, checked and reported, so that Kafka's tools work, but nothing reads it.
    Accepted,
}

/// What a value may be, beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Valid {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    Ratio,
    OneOf(&'static [&'static str]),
    /// Each element of a list.
    EachOf(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
}

/// A broker key that stands in for a topic key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub unit: Unit,
}

/// What one unit of a synonym is in the topic key's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Same,
    /// The topic key counts milliseconds.
    Minutes,
    Hours,
}

impl Unit {
    /// The synonym's text in the topic key's unit; negative means no limit in either.
    pub(super) fn convert(self, text: &str) -> String {
        let factor = match self {
            Self::Same => return text.to_owned(),
            Self::Minutes => 60_000,
            Self::Hours => 3_600_000,
        };
        match text.trim().parse::<i64>() {
            Ok(n) if n >= 0 => n.saturating_mul(factor).to_string(),
            _ => text.to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown key {name:?}{}", did_you_mean(.nearest))]
    Unknown { name: String, nearest: Option<&'static str> },
    #[error("invalid value {value:?} for configuration {name}: {reason}")]
    Invalid { name: &'static str, value: String, reason: InvalidValue },
    /// Every broker key, so far.
    #[error("{name} can't be set while the broker runs")]
    ReadOnly { name: String },
    /// Each value is fine, the two together are not.
    #[error("{name} is {value:?}, which {conflict}")]
    Conflict { name: &'static str, value: String, conflict: &'static str },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    #[error("not a number of type {0}")]
    NotANumber(ConfigType),
    #[error("expected true or false")]
    NotABoolean,
    #[error("the value must be at least {0}")]
    TooSmall(i64),
    #[error("the value must be no more than {0}")]
    TooLarge(i64),
    #[error("the value must lie between 0 and 1")]
    NotARatio,
    #[error("expected one of {}", .0.join(", "))]
    NotOneOf(&'static [&'static str]),
    #[error("an entry of the list is empty")]
    EmptyEntry,
    #[error("{0:?} is listed twice")]
    Duplicate(String),
    #[error("expected * or partition:broker pairs")]
    NotThrottledReplicas,
    #[error("expected PLAINTEXT://host:port")]
    NotAListener,
    #[error("the security protocol {0:?} is not served, only PLAINTEXT is")]
    SecurityProtocol(String),
    #[error("expected host:port")]
    NotAnAddress,
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

impl ConfigDef {
    /// Type first, then range.
    pub fn validate(&self, text: &str) -> Result<(), ConfigError> {
        (self.parses)(text)
            .and_then(|()| self.valid.check(text.trim()))
            .map_err(|reason| ConfigError::Invalid { name: self.name, value: text.to_owned(), reason })
    }
}

impl Valid {
    fn check(self, text: &str) -> Result<(), InvalidValue> {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(min) => at_least(text, min),
            Self::Between(min, max) => {
                at_least(text, min)?;
                if i64::parse(text)? > max { Err(InvalidValue::TooLarge(max)) } else { Ok(()) }
            }
            Self::Ratio => {
                if (0.0..=1.0).contains(&f64::parse(text)?) {
                    Ok(())
                } else {
                    Err(InvalidValue::NotARatio)
                }
            }
            Self::OneOf(allowed) => one_of(text, allowed),
            Self::EachOf(allowed) => {
                Vec::<String>::parse(text)?.iter().try_for_each(|entry| one_of(entry, allowed))
            }
            Self::ThrottledReplicas => throttled_replicas(text),
        }
    }
}

fn at_least(text: &str, min: i64) -> Result<(), InvalidValue> {
    if i64::parse(text)? < min { Err(InvalidValue::TooSmall(min)) } else { Ok(()) }
}

fn one_of(text: &str, allowed: &'static [&'static str]) -> Result<(), InvalidValue> {
    if allowed.contains(&text) { Ok(()) } else { Err(InvalidValue::NotOneOf(allowed)) }
}

fn throttled_replicas(text: &str) -> Result<(), InvalidValue> {
    let pair = |entry: &String| {
        let (partition, broker) = entry.split_once(':')?;
        partition.parse::<u32>().ok()?;
        broker.parse::<u32>().ok()
    };
    if text == "*" || Vec::<String>::parse(text)?.iter().all(|entry| pair(entry).is_some()) {
        Ok(())
    } else {
        Err(InvalidValue::NotThrottledReplicas)
    }
}

/// A longer name is no slip of anything known, and comparing costs its length times theirs.
const SLIP_BYTES_MAX: usize = 64;

/// The known name closest to `name`, where one is close enough to be a slip of the keyboard.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = (name.len() / 4).clamp(1, 6);
    if name.len() > SLIP_BYTES_MAX {
        return None;
    }
    known
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
