//! What makes a part of a pipeline a source or a sink, beside what it has in common with stages.

/// Where sources keep their positions: a compacted topic, whose keys are `PIPELINE/SOURCE/0`.
pub const POSITIONS_TOPIC: &str = "__plugin_positions";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerSpec {
    pub kind: RunnerKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunnerKind {
    /// A producer plugin: it belongs to no group, and keeps a position of its own.
    Source,
    /// A consumer plugin: a member of a group.
    Sink,
}

impl RunnerKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }
}
