//! A version that needs a grant which the plugin has not got: it is written down, and changes nothing until somebody
//! approves it. One waits for each plugin; a newer one takes its place.

use std::collections::BTreeSet;

use millstream_runtime::grants::{Capability, Grants};
use serde::{Deserialize, Serialize};

use super::{CanaryVersion, Content, Version, VersionError, Versions};

/// Rejected components that are remembered.
const REJECTED_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WaitingVersion {
    #[serde(flatten)]
    pub(crate) version: Version,
    /// Interfaces that it imports and is not granted.
    pub(crate) needs: BTreeSet<Capability>,
    /// Where it is to be tried when it is approved. Absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<BTreeSet<i32>>,
}

impl WaitingVersion {
    /// The options of `millstream plugin approve` that settle it.
    pub(crate) fn options(&self) -> String {
        let options: Vec<&str> = self.needs.iter().filter_map(|need| need.option()).collect();
        options.join(" ")
    }

    /// For people.
    pub(crate) fn needs_text(&self) -> String {
        let needs: Vec<&str> = self.needs.iter().map(|need| need.interface()).collect();
        needs.join(", ")
    }
}

impl Versions {
    /// Lets a version wait. The number comes back, which is that of the one before if it is the same.
    pub(crate) fn wait(
        &mut self,
        content: Content,
        needs: BTreeSet<Capability>,
        partitions: Option<BTreeSet<i32>>,
        now_ms: i64,
    ) -> u32 {
        self.rejections.retain(|rejected| *rejected != content.sha256);
        let known = self.waiting.take().filter(|waiting| waiting.version.is(&content));
        let version = match known {
            Some(known) => known.version,
            None => Version::new(self.next_number(), content, now_ms),
        };
        let number = version.number;
        self.waiting = Some(WaitingVersion { version, needs, partitions });
        number
    }

    /// Grants the version that waits what the active one has and `grants`, and makes it the active one, or tries it where
    /// it was to be tried.
    /// `number` is that which was looked at.
    pub(crate) fn approve(
        &mut self,
        number: Option<u32>,
        grants: &Grants,
        now_ms: i64,
    ) -> Result<u32, VersionError> {
        grants.validate()?;
        let WaitingVersion { mut version, partitions, .. } = self.take_waiting(number)?;
        let number = version.number;
        // Those of when it was deployed may have been withdrawn since.
        version.grants = self.active().grants.clone();
        version.grants.add(grants.clone());
        version.grants.validate()?;
        self.granted.get_or_insert_default().add(version.grants.clone());
        version.deployed_ms = now_ms;
        let place = self.versions.partition_point(|before| before.number < number);
        self.versions.insert(place, version);
        match partitions {
            None => self.activate(number, now_ms),
            Some(partitions) => self.canary = Some(CanaryVersion { version: number, partitions }),
        }
        Ok(number)
    }

    /// Drops the version that waits.
    pub(crate) fn reject(&mut self, number: Option<u32>) -> Result<u32, VersionError> {
        let WaitingVersion { version, .. } = self.take_waiting(number)?;
        if self.rejections.len() == REJECTED_MAX {
            self.rejections.pop_front();
        }
        self.rejections.push_back(version.sha256);
        Ok(version.number)
    }

    fn take_waiting(&mut self, number: Option<u32>) -> Result<WaitingVersion, VersionError> {
        let waiting = self.waiting.take().ok_or(VersionError::NoneWaits)?;
        let waits = waiting.version.number;
        match number {
            Some(asked) if asked != waits => {
                self.waiting = Some(waiting);
                Err(VersionError::AnotherWaits { asked, waits })
            }
            _ => Ok(waiting),
        }
    }
}
