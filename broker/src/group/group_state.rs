//! The states of a classic group and the ways between them.

use std::fmt;

/// ```text
/// Empty -> PreparingRebalance -> CompletingRebalance -> Stable
///   ^  |      |    ^   ^                 |               |
///   |  |      |    |   +-----------------+---------------+  a member comes, goes or changes
///   |  v      |    |
///   | Dead    +----+----> Empty                             the last member has gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; committed offsets may remain.
    Empty,
    /// Members are asked to join, joins are parked.
    PreparingRebalance,
    /// The next generation has begun and waits for its leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment or can fetch it.
    Stable,
    /// The group is being deleted.
    Dead,
}

impl GroupState {
    pub const ALL: [Self; 5] =
        [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable, Self::Dead];

    /// Kafka's name, as clients and tools print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// A rebalance can begin.
    pub(super) fn can_rebalance(self) -> bool {
        self.leads_to(Self::PreparingRebalance)
    }

    pub(super) fn leads_to(self, next: Self) -> bool {
        use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match next {
            PreparingRebalance => matches!(self, Empty | CompletingRebalance | Stable),
            CompletingRebalance => matches!(self, PreparingRebalance),
            Stable => matches!(self, CompletingRebalance),
            // Dead -> Empty: a deletion that could not be written has not happened.
            Empty => matches!(self, PreparingRebalance | Dead),
            Dead => matches!(self, Empty),
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
