//! The versions of one plugin of a pipeline: what was deployed, what of it runs, and what it goes back to. Kept in the
//! pipeline's document; pure, so that whoever changes it stamps the time.
//!
//! ```text
//! apply, deploy ──> a new version, or one that was there before ──> active      the one before becomes `previous`
//! deploy --partitions ──> canary ── promote ──> active
//! rollback, crashes ──> previous ──> active
//! deploy of what needs more than is granted ──> waiting ── approve ──> active, or the canary that it was to be;
//!                                                       reject ──> gone
//! ```
//!
//! No version runs with more than `granted`, which the pipeline's file sets whenever it is applied and approvals extend.
//! What a file has withdrawn comes back neither by itself nor by a rollback.
//!
//! Where only limits change, whatever is being tried goes on: a canary, and the return to `previous` after crashes.

mod waiting;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_runtime::grants::{Grants, GrantsError};
use millstream_runtime::limits::PluginLimits;
use millstream_runtime::pipeline::{self, PluginSpec, PluginVersion};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use self::waiting::WaitingVersion;
pub(crate) use self::watched::Found;

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
    /// When that began, in milliseconds since the Unix epoch. Limits that were changed meanwhile don't count as long as
    /// `previous` is gone back to by itself.
    pub(crate) active_since_ms: i64,
    /// What a rollback returns to.
    pub(crate) previous: Option<u32>,
    pub(crate) canary: Option<CanaryVersion>,
    /// All that people grant the plugin now. None in a document from before versions had grants, until it is read.
    #[serde(default)]
    pub(crate) granted: Option<Grants>,
    /// Needs more than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<WaitingVersion>,
    /// The sha-256 of those that were rejected last: a directory that still has one is no reason to ask again.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) rejections: VecDeque<String>,
    /// The sha-256 of what was taken from the watched directory last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watched: Option<String>,
    /// The highest number that was given: one that somebody has looked at never becomes another version's.
    #[serde(default)]
    pub(crate) numbered: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) sha256: String,
    pub(crate) config: Value,
    pub(crate) limits: PluginLimits,
    #[serde(default)]
    pub(crate) grants: Grants,
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
    pub(crate) grants: Grants,
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
    #[error("version {number} was granted {}, which the plugin is not granted any more: grant it in the pipeline's file", .grants.join(", "))]
    Withdrawn { number: u32, grants: Vec<String> },
    #[error(
        "no version waits for approval: to grant more to what runs, change the pipeline's file and apply it"
    )]
    NoneWaits,
    #[error("version {asked} does not wait for approval, version {waits} does: look at that one first")]
    AnotherWaits { asked: u32, waits: u32 },
    #[error("version {0} waits for approval: `millstream plugin approve` runs it")]
    Waits(u32),
    #[error(transparent)]
    Grants(#[from] GrantsError),
    #[error("limits: {0}")]
    Limits(String),
}

impl Content {
    /// As the pipeline's file has it.
    pub(crate) fn of(plugin: &PluginSpec, sha256: &str) -> Self {
        let PluginSpec { config, limits, grants, .. } = plugin.clone();
        Self { sha256: sha256.to_owned(), config, limits, grants }
    }

    /// With some limits changed, by their names.
    pub(crate) fn with_limits(self, changes: &Map<String, Value>) -> Result<Self, VersionError> {
        let limits = self.limits.changed(changes).map_err(VersionError::Limits)?;
        Ok(Self { limits, ..self })
    }
}

impl Versions {
    /// Of a plugin that was not there before.
    pub(crate) fn first(content: Content, now_ms: i64) -> Self {
        let granted = Some(content.grants.clone());
        let versions = vec![Version::new(1, content, now_ms)];
        Self {
            versions,
            active: 1,
            active_since_ms: now_ms,
            previous: None,
            canary: None,
            granted,
            waiting: None,
            rejections: VecDeque::new(),
            watched: None,
            numbered: 1,
        }
    }

    /// In a document from before versions had grants, all had those of the pipeline's file.
    pub(crate) fn adopt(&mut self, of_file: &Grants) {
        if self.granted.is_none() {
            self.granted = Some(of_file.clone());
            self.versions.iter_mut().for_each(|version| version.grants = of_file.clone());
        }
    }

    /// The pipeline's file is applied: it says what runs, and all that is granted.
    pub(crate) fn apply(&mut self, content: Content, now_ms: i64) {
        self.granted = Some(content.grants.clone());
        // A canary goes on beside a plugin that stays as it is.
        if !self.active().is(&content) {
            self.deploy(content, now_ms);
        }
        self.previous = self.previous.filter(|number| self.beyond_granted(*number).is_empty());
        let canary = self.canary.take();
        self.canary = canary.filter(|canary| self.beyond_granted(canary.version).is_empty());
    }

    /// Makes the version of that content the active one; a canary of it has proven itself.
    pub(crate) fn deploy(&mut self, content: Content, now_ms: i64) -> u32 {
        let number = self.number_of(content, now_ms);
        self.activate(number, now_ms);
        number
    }

    /// Makes other limits of the active version count. The same ones change nothing.
    pub(crate) fn change_limits(&mut self, content: Content, now_ms: i64) -> u32 {
        let number = self.number_of(content, now_ms);
        if number != self.active {
            self.activate(number, now_ms);
        }
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
        if self.waiting.as_ref().is_some_and(|waiting| waiting.version.number == number) {
            return Err(VersionError::Waits(number));
        }
        self.version(number).ok_or(VersionError::Unknown(number))?;
        if number == self.active {
            return Err(VersionError::Active(number));
        }
        let grants = self.beyond_granted(number);
        if !grants.is_empty() {
            return Err(VersionError::Withdrawn { number, grants });
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
        let number = self.next_number();
        self.versions.push(Version::new(number, content, now_ms));
        number
    }

    fn next_number(&mut self) -> u32 {
        let last = self.versions.last().map_or(0, |last| last.number);
        self.numbered = self.numbered.max(last) + 1;
        self.numbered
    }

    /// What that version would have, and the plugin is not granted any more.
    fn beyond_granted(&self, number: u32) -> Vec<String> {
        let (Some(version), Some(granted)) = (self.version(number), &self.granted) else { return Vec::new() };
        version.grants.beyond(granted)
    }

    fn activate(&mut self, number: u32, now_ms: i64) {
        let is_the_same = number != self.active && self.differ_in_limits(self.active, number);
        if number != self.active {
            // New limits are not to blame for what the code does, and the old ones no way back from it.
            if !(is_the_same && self.returns_to_another(now_ms)) {
                self.previous = Some(self.active);
                self.active_since_ms = now_ms;
            }
            self.active = number;
        }
        self.canary = self.canary.take().filter(|canary| is_the_same && canary.version != number);
        // It needs no approval any more.
        let sha256 = &self.active().sha256;
        if self.waiting.as_ref().is_some_and(|waiting| waiting.version.sha256 == *sha256) {
            self.waiting = None;
        }
        self.forget_old();
    }

    /// Whether the active version, if it crashed now, would be taken back for one that differs in more than limits.
    fn returns_to_another(&self, now_ms: i64) -> bool {
        let other = self.previous.filter(|previous| !self.differ_in_limits(self.active, *previous));
        other.is_some() && now_ms < self.active_since_ms.saturating_add(PROBATION_MS)
    }

    /// Whether these two differ in nothing else.
    fn differ_in_limits(&self, one: u32, other: u32) -> bool {
        let (Some(one), Some(other)) = (self.version(one), self.version(other)) else { return false };
        one.is(&Content { limits: one.limits.clone(), ..other.content() })
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
        let Content { sha256, config, limits, grants } = content;
        Self { number, sha256, config, limits, grants, deployed_ms: now_ms, taken_back: None }
    }

    pub(crate) fn content(&self) -> Content {
        let Self { sha256, config, limits, grants, .. } = self.clone();
        Content { sha256, config, limits, grants }
    }

    pub(super) fn is(&self, content: &Content) -> bool {
        let Content { sha256, config, limits, grants } = content;
        self.sha256 == *sha256 && self.config == *config && self.limits == *limits && self.grants == *grants
    }

    fn to_runtime(&self) -> PluginVersion {
        PluginVersion {
            number: self.number,
            sha256: self.sha256.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
            grants: self.grants.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
