//! Reading a value's text as its Rust type.

use std::collections::HashSet;
use std::path::PathBuf;

use super::definition::{ConfigType, InvalidValue};

/// A type that a configuration value can have.
pub trait ConfigValue: Sized {
    const TYPE: ConfigType;
    fn parse(text: &str) -> Result<Self, InvalidValue>;
    /// The value of a key whose default is null; only an `Option` has one.
    fn null() -> Option<Self> {
        None
    }
}

impl ConfigValue for bool {
    const TYPE: ConfigType = ConfigType::Boolean;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        match text.trim() {
            t if t.eq_ignore_ascii_case("true") => Ok(true),
            t if t.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(InvalidValue::NotABoolean),
        }
    }
}

macro_rules! number {
    ($rust:ty, $kafka:ident) => {
        impl ConfigValue for $rust {
            const TYPE: ConfigType = ConfigType::$kafka;
            fn parse(text: &str) -> Result<Self, InvalidValue> {
                text.trim().parse().map_err(|_| InvalidValue::NotANumber(ConfigType::$kafka))
            }
        }
    };
}
number!(i16, Short);
number!(i32, Int);
number!(i64, Long);
number!(f64, Double);

impl ConfigValue for String {
    const TYPE: ConfigType = ConfigType::String;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        Ok(text.trim().to_owned())
    }
}

impl ConfigValue for PathBuf {
    const TYPE: ConfigType = ConfigType::String;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        Ok(text.trim().into())
    }
}

/// Comma-separated. Kafka refuses an empty or a repeated entry, so do we.
impl<T: ConfigValue> ConfigValue for Vec<T> {
    const TYPE: ConfigType = ConfigType::List;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let entries: Vec<&str> = text.split(',').map(str::trim).collect();
        let mut seen = HashSet::with_capacity(entries.len());
        for entry in &entries {
            if entry.is_empty() {
                return Err(InvalidValue::EmptyEntry);
            }
            if !seen.insert(*entry) {
                return Err(InvalidValue::Duplicate((*entry).to_owned()));
            }
        }
        entries.into_iter().map(T::parse).collect()
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    const TYPE: ConfigType = T::TYPE;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        T::parse(text).map(Some)
    }
    fn null() -> Option<Self> {
        Some(None)
    }
}

/// What removes old records: both, either, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

impl CleanupPolicy {
    pub(super) const NAMES: &'static [&'static str] = &["compact", "delete"];
}

impl ConfigValue for CleanupPolicy {
    const TYPE: ConfigType = ConfigType::List;
    fn parse(text: &str) -> Result<Self, InvalidValue> {
        let mut policy = Self { delete: false, compact: false };
        for name in Vec::<String>::parse(text)? {
            match name.as_str() {
                "delete" => policy.delete = true,
                "compact" => policy.compact = true,
                _ => return Err(InvalidValue::NotOneOf(Self::NAMES)),
            }
        }
        Ok(policy)
    }
}

macro_rules! named {
    ($(#[$meta:meta])* $rust:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $rust { $($variant),* }

        impl $rust {
            pub(super) const NAMES: &'static [&'static str] = &[$($name),*];
        }

        impl ConfigValue for $rust {
            const TYPE: ConfigType = ConfigType::String;
            fn parse(text: &str) -> Result<Self, InvalidValue> {
                match text.trim() {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(InvalidValue::NotOneOf(Self::NAMES)),
                }
            }
        }
    };
}

named! {
    /// How batches lie in the log; `producer` keeps the client's codec.
    CompressionType {
        Uncompressed = "uncompressed",
        Zstd = "zstd",
        Lz4 = "lz4",
        Snappy = "snappy",
        Gzip = "gzip",
        Producer = "producer",
    }
}

named! {
    /// Whose clock stamps a record.
    TimestampType { CreateTime = "CreateTime", LogAppendTime = "LogAppendTime" }
}

named! {
    /// Whether plugins must be signed.
    SignaturePolicy { None = "none", Required = "required" }
}
