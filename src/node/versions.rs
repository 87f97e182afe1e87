//! The versions of one plugin of a pipeline: what was deployed, what of it runs, and what it goes back to. Kept in the
//! pipeline's document; pure, so that whoever changes it stamps the time.
//!
//! ```text
//! apply, deploy ──> a new version, or one that was there before ──> active      the one before becomes `previous`
//! deploy --partitions ──> canary ── promote ──> active
//! rollback, crashes ──> previous ──> active
//! ```

use std::collections::{BTreeMap, BTreeSet};

use millstream_runtime::limits::PluginLimits;
use millstream_runtime::pipeline::{self, PluginSpec, PluginVersion};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Versions that are remembered, besides those that run.
const VERSIONS_MAX: usize = 32;
/// A version that has run for so long is not to blame for crashes that come after.
const PROBATION_MS: i64 = 60 * 60 * 1000;

/// A plugin's versions, by the names of a pipeline's plugins.
pub(crate) type PluginVersions = BTreeMap<String, Versions>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// In the order of their numbers.
    pub(crate) versions: Vec<Version>,
    /// The number of that which runs.
    pub(crate) active: u32,
    /// When that began, in milliseconds since the Unix epoch.
    pub(crate) active_since_ms: i64,
    /// What a rollback returns to.
    pub(crate) previous: Option<u32>,
    pub(crate) canary: Option<CanaryVersion>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) sha256: String,
    pub(crate) config: Value,
    pub(crate) limits: PluginLimits,
    pub(crate) deployed_ms: i64,
    /// Set if it crashed, and was taken back for it.
    pub(crate) taken_back: Option<TakenBack>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TakenBack {
    pub(crate) at_ms: i64,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CanaryVersion {
    pub(crate) version: u32,
    /// Of the stage's input topics.
    pub(crate) partitions: BTreeSet<i32>,
}

/// What a version is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) sha256: String,
    pub(crate) config: Value,
    pub(crate) limits: PluginLimits,
}

/// Why versions can't be changed that way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VersionError {
    #[error("there is no version {0}: `millstream plugin versions` lists them")]
    Unknown(u32),
    #[error("version {0} runs already")]
    Active(u32),
    #[error("there is no version before: `millstream plugin versions` lists what can be named")]
    NoPrevious,
    #[error("no canary is being tried: deploy one with --partitions")]
    NoCanary,
}

impl Content {
    /// As the pipeline's file has it.
    pub(crate) fn of(plugin: &PluginSpec, sha256: &str) -> Self {
        Self { sha256: sha256.to_owned(), config: plugin.config.clone(), limits: plugin.limits.clone() }
    }
}

impl Versions {
    /// Of a plugin that was not there before.
    pub(crate) fn first(content: Content, now_ms: i64) -> Self {
        let versions = vec![Version::new(1, content, now_ms)];
        Self { versions, active: 1, active_since_ms: now_ms, previous: None, canary: None }
    }

    /// Makes the version of that content the active one; a canary of it has proven itself.
    pub(crate) fn deploy(&mut self, content: Content, now_ms: i64) -> u32 {
        let number = self.number_of(content, now_ms);
        self.activate(number, now_ms);
        number
    }

    /// Tries the version of that content on some partitions. A canary that was there before ends.
    pub(crate) fn try_out(
        &mut self,
        content: Content,
        partitions: BTreeSet<i32>,
        now_ms: i64,
    ) -> Result<u32, VersionError> {
        let number = self.number_of(content, now_ms);
        if number == self.active {
            return Err(VersionError::Active(number));
        }
        self.canary = Some(CanaryVersion { version: number, partitions });
        Ok(number)
    }

    /// Makes the canary the active version.
    pub(crate) fn promote(&mut self, now_ms: i64) -> Result<u32, VersionError> {
        let canary = self.canary.take().ok_or(VersionError::NoCanary)?;
        self.activate(canary.version, now_ms);
        Ok(canary.version)
    }

    /// Goes back to a version, by default the one before. A canary that is being tried is what is taken back first.
    pub(crate) fn roll_back(&mut self, to: Option<u32>, now_ms: i64) -> Result<u32, VersionError> {
        if to.is_none() && self.canary.take().is_some() {
            return Ok(self.active);
        }
        let number = to.or(self.previous).ok_or(VersionError::NoPrevious)?;
        self.version(number).ok_or(VersionError::Unknown(number))?;
        if number == self.active {
            return Err(VersionError::Active(number));
        }
        self.activate(number, now_ms);
        Ok(number)
    }

    /// A stage has taken a version back by itself. False if that is known, or another version has come meanwhile.
    pub(crate) fn taken_back(&mut self, from: u32, to: u32, reason: &str, now_ms: i64) -> bool {
        let of_canary = self.canary.as_ref().is_some_and(|canary| canary.version == from);
        if !of_canary && (self.active != from || self.version(to).is_none()) {
            return false;
        }
        if of_canary {
            self.canary = None;
        } else {
            self.active = to;
            self.active_since_ms = now_ms;
            self.previous = None;
        }
        if let Some(version) = self.versions.iter_mut().find(|version| version.number == from) {
            version.taken_back = Some(TakenBack { at_ms: now_ms, reason: reason.to_owned() });
        }
        true
    }

    pub(crate) fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    pub(crate) fn active(&self) -> &Version {
        self.version(self.active).expect("the active version is never forgotten")
    }

    /// As the runtime takes them.
    pub(crate) fn to_runtime(&self) -> pipeline::Versions {
        let version = |number: u32| self.version(number).map(Version::to_runtime);
        let canary = self.canary.as_ref();
        pipeline::Versions {
            active: self.active().to_runtime(),
            previous: self
                .previous
                .and_then(version)
                .map(|previous| (previous, self.active_since_ms.saturating_add(PROBATION_MS))),
            canary: canary.and_then(|canary| Some((version(canary.version)?, canary.partitions.clone()))),
        }
    }

    /// The number of the version with that content, which may be a new one.
    fn number_of(&mut self, content: Content, now_ms: i64) -> u32 {
        if let Some(known) = self.versions.iter_mut().find(|version| version.is(&content)) {
            // Somebody wants it all the same.
            known.taken_back = None;
            return known.number;
        }
        let number = self.versions.last().map_or(1, |last| last.number + 1);
        self.versions.push(Version::new(number, content, now_ms));
        number
    }

    fn activate(&mut self, number: u32, now_ms: i64) {
        if number != self.active {
            self.previous = Some(self.active);
            self.active = number;
            self.active_since_ms = now_ms;
        }
        self.canary = None;
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let runs = [Some(self.active), self.previous, self.canary.as_ref().map(|canary| canary.version)];
        while self.versions.len() > VERSIONS_MAX {
            let oldest = self.versions.iter().position(|version| !runs.contains(&Some(version.number)));
            match oldest {
                Some(oldest) => self.versions.remove(oldest),
                None => return,
            };
        }
    }
}

impl Version {
    fn new(number: u32, content: Content, now_ms: i64) -> Self {
        let Content { sha256, config, limits } = content;
        Self { number, sha256, config, limits, deployed_ms: now_ms, taken_back: None }
    }

    pub(super) fn is(&self, content: &Content) -> bool {
        let Content { sha256, config, limits } = content;
        self.sha256 == *sha256 && self.config == *config && self.limits == *limits
    }

    fn to_runtime(&self) -> PluginVersion {
        PluginVersion {
            number: self.number,
            sha256: self.sha256.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(hash: &str) -> Content {
        Content { sha256: hash.to_owned(), config: Value::Null, limits: PluginLimits::default() }
    }

    fn numbers(versions: &Versions) -> (u32, Option<u32>, Option<u32>) {
        (versions.active, versions.previous, versions.canary.as_ref().map(|canary| canary.version))
    }

    #[test]
    fn deploying_and_going_back() {
        let mut versions = Versions::first(content("a"), 1);
        assert_eq!(versions.deploy(content("a"), 2), 1);
        assert_eq!((numbers(&versions), versions.active_since_ms), ((1, None, None), 1));
        assert_eq!(versions.deploy(content("b"), 3), 2);
        assert_eq!(numbers(&versions), (2, Some(1), None));
        // Another configuration is another version.
        let configured = Content { config: Value::from(1), ..content("b") };
        assert_eq!(versions.deploy(configured, 4), 3);
        assert_eq!(versions.roll_back(None, 5), Ok(2));
        assert_eq!(numbers(&versions), (2, Some(3), None));
        assert_eq!(versions.roll_back(Some(1), 6), Ok(1));
        assert_eq!(versions.roll_back(Some(1), 7), Err(VersionError::Active(1)));
        assert_eq!(versions.roll_back(Some(9), 7), Err(VersionError::Unknown(9)));
        assert_eq!(Versions::first(content("a"), 1).roll_back(None, 2), Err(VersionError::NoPrevious));
    }

    #[test]
    fn a_canary_is_promoted_or_taken_back() {
        let mut versions = Versions::first(content("a"), 1);
        let partitions = BTreeSet::from([0, 2]);
        assert_eq!(versions.promote(2), Err(VersionError::NoCanary));
        assert_eq!(versions.try_out(content("a"), partitions.clone(), 2), Err(VersionError::Active(1)));
        assert_eq!(versions.try_out(content("b"), partitions.clone(), 2), Ok(2));
        assert_eq!(numbers(&versions), (1, None, Some(2)));
        assert_eq!(versions.to_runtime().canary.unwrap().1, partitions);
        assert_eq!(versions.roll_back(None, 3), Ok(1));
        assert_eq!(numbers(&versions), (1, None, None));
        versions.try_out(content("b"), partitions, 4).unwrap();
        assert_eq!(versions.promote(5), Ok(2));
        assert_eq!(numbers(&versions), (2, Some(1), None));
    }

    #[test]
    fn a_version_that_crashed_says_so_and_is_not_returned_to() {
        let mut versions = Versions::first(content("a"), 1);
        versions.deploy(content("b"), 2);
        let (previous, until_ms) = versions.to_runtime().previous.unwrap();
        assert_eq!((previous.number, until_ms), (1, 2 + PROBATION_MS));
        assert!(versions.taken_back(2, 1, "trap", 3));
        assert!(!versions.taken_back(2, 1, "trap", 4), "the other stages say it, too");
        assert_eq!(numbers(&versions), (1, None, None));
        let taken_back = Some(TakenBack { at_ms: 3, reason: "trap".to_owned() });
        assert_eq!(versions.version(2).unwrap().taken_back, taken_back);
        versions.deploy(content("b"), 5);
        assert_eq!(versions.version(2).unwrap().taken_back, None);
    }

    #[test]
    fn old_versions_are_forgotten_and_what_runs_is_not() {
        let mut versions = Versions::first(content("0"), 0);
        for number in 1..100 {
            versions.deploy(content(&number.to_string()), number);
        }
        assert_eq!(versions.versions.len(), VERSIONS_MAX);
        assert_eq!(numbers(&versions), (100, Some(99), None));
        assert_eq!(versions.deploy(content("new"), 100), 101);
    }
}
