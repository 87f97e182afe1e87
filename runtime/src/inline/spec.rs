//! What an ingest or a view is, independent of where it runs.

use std::time::Duration;

use crate::stage::StageSpec;

/// What becomes of a batch that the plugin could not be asked about: it crashed, it is late, it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The producer gets an error, and may try again.
    Refuse,
    /// It is stored as the producer sent it. On a view: never.
    Pass,
}

/// An ingest or a view.
#[derive(Debug, Clone)]
pub struct InlineSpec {
    /// As a stage that reads and writes the one topic, at its position. It belongs to no group.
    pub stage: StageSpec,
    /// The topic in front of which, or behind which, it stands; of a view, what its readers call it.
    pub name: String,
    /// From asking to answering.
    pub budget: Duration,
    pub on_failure: OnFailure,
}

impl InlineSpec {
    /// Whether one that runs `self` may go on when `other` is applied, at most with other versions of its plugins.
    pub(crate) fn is_the_one_of(&self, other: &Self) -> bool {
        self.stage.is_the_stage_of(&other.stage)
            && self.name == other.name
            && self.budget == other.budget
            && self.on_failure == other.on_failure
    }
}
