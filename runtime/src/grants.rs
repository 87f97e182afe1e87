//! What a plugin may do beyond computing: which of the host's interfaces are linked for it, and how far each reaches. A
//! pipeline says so; what a part of it is (a source, a sink) grants the topics that it names.

mod http;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::http::{HostGrant, HostGrantError};

pub(crate) use self::http::{Origin, OriginHost, Scheme};

use crate::runner::RunnerKind;

/// What one plugin may be granted, all kinds together.
const GRANTS_MAX: usize = 100;
const GRANT_BYTES_MAX: usize = 4096;

/// What a pipeline lends to a plugin. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Names of secrets.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// Files, by the names that the plugin knows them by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Hosts that it may call.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub http: BTreeSet<HostGrant>,
}

/// Grants that nobody needs so many or so long ones of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    #[error("{0} grants are more than the {GRANTS_MAX} that a plugin may have")]
    Count(usize),
    #[error("a grant is empty, has more than {GRANT_BYTES_MAX} bytes, or control characters in it")]
    Text,
}

impl Grants {
    /// Each on its own: its kind, and what of that kind.
    fn each(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { secrets, files, http } = self;
        let secrets = secrets.iter().map(|name| ("secret", name.clone()));
        let files = files.iter().map(|(name, path)| ("file", format!("{name}={path}")));
        let http = http.iter().map(|host| ("host", host.to_string()));
        secrets.chain(files).chain(http)
    }

    /// For people, such as "secret token".
    pub fn texts(&self) -> Vec<String> {
        self.each().map(|(kind, what)| format!("{kind} {what}")).collect()
    }

    /// Those of them that `other` does not have.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        let others = other.texts();
        self.texts().into_iter().filter(|text| !others.contains(text)).collect()
    }

    /// Adds those of `other`. Where both have something of the same name, the other's counts.
    pub fn add(&mut self, other: Self) {
        let Self { secrets, files, http } = other;
        self.secrets.extend(secrets);
        self.files.extend(files);
        self.http.extend(http);
    }

    /// Whether what somebody sent may be kept. What they name is looked for when a plugin is checked.
    pub fn validate(&self) -> Result<(), GrantsError> {
        let count = self.each().count();
        if count > GRANTS_MAX {
            return Err(GrantsError::Count(count));
        }
        let is_legal =
            |text: &str| (1..=GRANT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
        match self.each().all(|(_, what)| is_legal(&what)) {
            true => Ok(()),
            false => Err(GrantsError::Text),
        }
    }
}

/// An interface that not every plugin may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    Consumer,
    Producer,
    Positions,
    Secrets,
    Files,
    Http,
}

impl Capability {
    /// What an import asks for; none if that needs no grant, or can't be had at all.
    pub(crate) fn of_import(import: &str) -> Option<Self> {
        const NAMES: [(&str, Capability); 8] = [
            ("millstream:plugin/consumer@", Capability::Consumer),
            ("millstream:plugin/producer@", Capability::Producer),
            ("millstream:plugin/positions@", Capability::Positions),
            ("millstream:plugin/secrets@", Capability::Secrets),
            ("millstream:plugin/files@", Capability::Files),
            ("millstream:plugin/http@", Capability::Http),
            ("wasi:http/types@", Capability::Http),
            ("wasi:http/outgoing-handler@", Capability::Http),
        ];
        NAMES.into_iter().find(|(name, _)| import.starts_with(name)).map(|(_, capability)| capability)
    }

    /// The interface that it stands for.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
            Self::Positions => "positions",
            Self::Secrets => "secrets",
            Self::Files => "files",
            Self::Http => "http",
        }
    }

    /// How `millstream plugin approve` grants it; none if that depends on where the plugin stands.
    pub fn option(self) -> Option<&'static str> {
        match self {
            Self::Consumer | Self::Producer | Self::Positions => None,
            Self::Secrets => Some("--secret NAME"),
            Self::Files => Some("--file NAME=PATH"),
            Self::Http => Some("--http https://HOST"),
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
            Self::Http => "if it may, add \"grants: {http: [\"https://HOST\"]}\" to the plugin",
        }
    }

    /// Whether a plugin that stands there may have it: in a source or a sink, or else as a transform.
    pub(crate) fn is_granted(self, kind: Option<RunnerKind>, writes: bool, grants: &Grants) -> bool {
        match self {
            Self::Consumer => kind == Some(RunnerKind::Sink),
            Self::Producer => kind.is_some() && writes,
            Self::Positions => kind == Some(RunnerKind::Source),
            // Who calls hosts may want to say who it is; each secret still has to be granted by its name.
            Self::Secrets => !grants.secrets.is_empty() || !grants.http.is_empty(),
            Self::Files => !grants.files.is_empty(),
            Self::Http => !grants.http.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(secrets: &[&str], files: &[(&str, &str)]) -> Grants {
        let secrets = secrets.iter().map(ToString::to_string).collect();
        Grants {
            secrets,
            files: files.iter().map(|(name, path)| (name.to_string(), path.to_string())).collect(),
            http: BTreeSet::new(),
        }
    }

    #[test]
    fn grants_are_added_and_compared_one_by_one() {
        let mut all = grants(&["a"], &[("f", "old")]);
        all.add(grants(&["b"], &[("f", "new"), ("g", "x")]));
        assert_eq!(all, grants(&["a", "b"], &[("f", "new"), ("g", "x")]));
        assert_eq!(all.beyond(&all), [""; 0]);
        assert_eq!(grants(&["a"], &[]).beyond(&all), [""; 0]);
        // Another file under the same name is another grant.
        assert_eq!(all.beyond(&grants(&["b"], &[("f", "old")])), ["secret a", "file f=new", "file g=x"]);
        assert_eq!(Grants::default().texts(), [""; 0]);
    }

    #[test]
    fn what_is_sent_has_limits() {
        assert_eq!(grants(&["a"], &[("f", "x")]).validate(), Ok(()));
        let many: Vec<String> = (0..=GRANTS_MAX).map(|number| number.to_string()).collect();
        let many = Grants { secrets: many.into_iter().collect(), ..Grants::default() };
        assert_eq!(many.validate(), Err(GrantsError::Count(GRANTS_MAX + 1)));
        for bad in ["", "a\nb", &"x".repeat(GRANT_BYTES_MAX + 1)] {
            assert_eq!(grants(&[bad], &[]).validate(), Err(GrantsError::Text));
        }
    }

    #[test]
    fn they_are_kept_as_short_json_and_unknown_kinds_are_refused() {
        let text = serde_json::to_string(&grants(&["a"], &[])).unwrap();
        assert_eq!(text, r#"{"secrets":["a"]}"#);
        assert_eq!(serde_json::from_str::<Grants>(&text).unwrap(), grants(&["a"], &[]));
        assert_eq!(serde_json::from_str::<Grants>("{}").unwrap(), Grants::default());
        assert!(serde_json::from_str::<Grants>(r#"{"network":[]}"#).is_err());
    }
}
