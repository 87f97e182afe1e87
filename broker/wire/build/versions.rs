//! Sets of versions, and the Rust condition that tells whether a version is in one.

use std::collections::BTreeSet;

/// A set of versions within a message's valid ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions(pub BTreeSet<i16>);

/// When something holds, among the versions that can occur at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Never,
    Always,
    If(String),
}

impl Versions {
    /// Parses `none`, `3`, `2-7` or `3+`; an open end is closed by `highest`.
    pub(crate) fn parse(text: &str, highest: i16) -> Result<Self, String> {
        let number =
            |text: &str| text.trim().parse::<i16>().map_err(|_| format!("invalid versions {text:?}"));
        if text == "none" {
            return Ok(Self::default());
        }
        let (low, high) = if let Some(low) = text.strip_suffix('+') {
            (number(low)?, highest)
        } else if let Some((low, high)) = text.split_once('-') {
            (number(low)?, number(high)?)
        } else {
            (number(text)?, number(text)?)
        };
        Ok(Self((low..=high).collect()))
    }

    pub(crate) fn intersect(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bounds(&self) -> Option<(i16, i16)> {
        Some((*self.0.first()?, *self.0.last()?))
    }

    /// The condition on `version` for being in this set, where only `possible` can occur.
    pub(crate) fn condition(&self, possible: &Self) -> Condition {
        let inside = self.intersect(possible);
        let (Some((low, high)), Some((lowest, highest))) = (inside.bounds(), possible.bounds()) else {
            return Condition::Never;
        };
        let contiguous = possible.0.range(low..=high).all(|version| inside.0.contains(version));
        if inside == *possible {
            Condition::Always
        } else if contiguous && high == highest {
            Condition::If(format!("version >= {low}"))
        } else if contiguous && low == lowest {
            Condition::If(format!("version <= {high}"))
        } else {
            let alternatives: Vec<String> = inside.0.iter().map(i16::to_string).collect();
            Condition::If(format!("matches!(version, {})", alternatives.join(" | ")))
        }
    }
}
