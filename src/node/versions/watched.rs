//! What versions have to do with the watched directory: a component that lies there is deployed once, also if the node
//! starts again and something else runs meanwhile.

use super::Versions;

/// What is to become of a component that is found in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    New,
    /// It runs, or waits for approval.
    Settled,
    /// Nothing, for that reason.
    Done(&'static str),
}

impl Versions {
    pub(crate) fn found(&self, sha256: &str) -> Found {
        let waits = self.waiting.as_ref().is_some_and(|waiting| waiting.version.sha256 == sha256);
        if self.active().sha256 == sha256 || waits {
            return Found::Settled;
        }
        if self.rejections.iter().any(|rejected| rejected == sha256) {
            return Found::Done("it was rejected: `millstream plugin deploy` asks for approval once more");
        }
        if self.watched.as_deref() != Some(sha256) {
            return Found::New;
        }
        let mut versions = self.versions.iter();
        Found::Done(match versions.any(|version| version.sha256 == sha256 && version.taken_back.is_some()) {
            true => "it crashed, and was taken back: `millstream plugin deploy` runs it again",
            false => "it was here before what runs now: `millstream plugin deploy` runs it",
        })
    }

    /// That component lies in the directory, and was dealt with. False if that is known.
    pub(crate) fn watch(&mut self, sha256: &str) -> bool {
        let is_new = self.watched.as_deref() != Some(sha256);
        self.watched = Some(sha256.to_owned());
        is_new
    }
}
