//! Defaults < file < environment < flags, with the place of every mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::broker::{BrokerConfig, broker_config};
use super::definition::ConfigError;
use super::properties::{self, PropertiesError};

/// `log.retention.ms` is `MILLSTREAM_CONFIG_LOG_RETENTION_MS` in the environment. The prefix is one of its own,
/// so that an unknown key after it is surely a mistake.
pub const ENVIRONMENT_PREFIX: &str = "MILLSTREAM_CONFIG_";

/// Where settings come from, besides the defaults.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// A file's path, for messages, and its text.
    pub file: Option<(&'a Path, &'a str)>,
    /// Of the process; names without the prefix are skipped.
    pub environment: Vec<(String, String)>,
    /// Keys that the command line sets.
    pub flags: Vec<(&'a str, String)>,
}

/// An explicit value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub value: String,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    File { path: PathBuf, line: usize },
    Environment { variable: String },
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("{}:{}: {error}", .path.display(), .error.line())]
    Syntax { path: PathBuf, error: PropertiesError },
    #[error("{}:{line}: {name} is already set on line {earlier}", .path.display())]
    Repeated { path: PathBuf, line: usize, name: &'static str, earlier: usize },
    #[error("{origin}: {error}")]
    Setting { origin: Origin, error: ConfigError },
    #[error("{0}")]
    Whole(ConfigError),
}

impl BrokerConfig {
    pub fn load(sources: &Sources<'_>) -> Result<Self, LoadError> {
        let mut explicit = BTreeMap::new();
        if let Some((path, text)) = sources.file {
            read_file(path, text, &mut explicit)?;
        }
        for (variable, value) in &sources.environment {
            if let Some(suffix) = variable.strip_prefix(ENVIRONMENT_PREFIX) {
                let key = suffix.to_ascii_lowercase().replace('_', ".");
                set(&mut explicit, &key, value, Origin::Environment { variable: variable.clone() })?;
            }
        }
        for (key, value) in &sources.flags {
            set(&mut explicit, key, value, Origin::Flag)?;
        }
        Self::from_settings(explicit.clone()).map_err(|error| match &error {
            ConfigError::Conflict { name, .. } => match explicit.remove(name) {
                Some(setting) => LoadError::Setting { origin: setting.origin, error },
                None => LoadError::Whole(error),
            },
            _ => LoadError::Whole(error),
        })
    }
}

type Explicit = BTreeMap<&'static str, Setting>;

fn read_file(path: &Path, text: &str, explicit: &mut Explicit) -> Result<(), LoadError> {
    let properties =
        properties::parse(text).map_err(|error| LoadError::Syntax { path: path.to_owned(), error })?;
    for property in properties {
        let line = property.line;
        let origin = Origin::File { path: path.to_owned(), line };
        if let Some(earlier) = set(explicit, &property.key, &property.value, origin)?
            && let Origin::File { path, line: first } = earlier.setting.origin
        {
            return Err(LoadError::Repeated { path, line, name: earlier.name, earlier: first });
        }
    }
    Ok(())
}

/// Checks and sets one key; gives back what it replaced.
fn set(
    explicit: &mut Explicit,
    key: &str,
    value: &str,
    origin: Origin,
) -> Result<Option<Replaced>, LoadError> {
    match broker_config(key).and_then(|def| def.validate(value).map(|()| def.name)) {
        Ok(name) => {
            let replaced = explicit.insert(name, Setting { value: value.to_owned(), origin });
            Ok(replaced.map(|setting| Replaced { name, setting }))
        }
        Err(error) => Err(LoadError::Setting { origin, error }),
    }
}

struct Replaced {
    name: &'static str,
    setting: Setting,
}
