//! What a plugin may do beyond computing: which of the host's interfaces are linked for it, and how far each reaches. A
//! pipeline says so; what a part of it is (a source, a sink) grants the topics that it names.

use std::collections::{BTreeMap, BTreeSet};

use crate::runner::RunnerKind;

/// What a pipeline lends to a plugin. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Names of secrets.
    pub secrets: BTreeSet<String>,
    /// Files, by the names that the plugin knows them by.
    pub files: BTreeMap<String, String>,
}

/// An interface that not every plugin may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Capability {
    Consumer,
    Producer,
    Positions,
    Secrets,
    Files,
}

impl Capability {
    /// What an import asks for; none if that needs no grant, or can't be had at all.
    pub(crate) fn of_import(import: &str) -> Option<Self> {
        const NAMES: [(&str, Capability); 5] = [
            ("millstream:plugin/consumer@", Capability::Consumer),
            ("millstream:plugin/producer@", Capability::Producer),
            ("millstream:plugin/positions@", Capability::Positions),
            ("millstream:plugin/secrets@", Capability::Secrets),
            ("millstream:plugin/files@", Capability::Files),
        ];
        NAMES.into_iter().find(|(name, _)| import.starts_with(name)).map(|(_, capability)| capability)
    }

    /// The interface that it stands for.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
            Self::Positions => "positions",
            Self::Secrets => "secrets",
            Self::Files => "files",
        }
    }

    /// What to do so that it is granted.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Consumer => "use the plugin in \"sinks\", which read topics",
            Self::Producer => "add \"to: TOPIC\"",
            Self::Positions => {
                "use the plugin in \"sources\": what a sink has done, its committed offsets say"
            }
            Self::Secrets => "if it may, add \"grants: {secrets: [NAME]}\" to the plugin",
            Self::Files => "if it may, add \"grants: {files: {NAME: PATH}}\" to the plugin",
        }
    }

    /// Whether a plugin that stands there may have it.
    pub(crate) fn is_granted(self, kind: RunnerKind, writes: bool, grants: &Grants) -> bool {
        match self {
            Self::Consumer => kind == RunnerKind::Sink,
            Self::Producer => writes,
            Self::Positions => kind == RunnerKind::Source,
            Self::Secrets => !grants.secrets.is_empty(),
            Self::Files => !grants.files.is_empty(),
        }
    }
}
