//! The records of one batch that are not processed, and why.

use std::sync::Arc;

/// A record of the stage's input that is not processed.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    pub(crate) origin: u32,
    /// Index in the chain of the plugin that rejected it, or what was made of it; none if a topic does not take it.
    pub(crate) plugin: Option<usize>,
    pub(crate) reason: Arc<str>,
}

/// Each rejected record once, in the order of the input. A record is written or rejected, never both: if one of
/// the outputs made from it is rejected, by a later plugin or by the topic it is for, the others are dropped.
#[derive(Debug)]
pub(crate) struct Rejections(Vec<Rejection>);

impl Rejections {
    /// Of several rejections of one record the first counts.
    pub(crate) fn new(mut found: Vec<Rejection>) -> Self {
        found.sort_by_key(|rejection| rejection.origin);
        found.dedup_by_key(|rejection| rejection.origin);
        Self(found)
    }

    pub(super) fn contains(&self, origin: u32) -> bool {
        self.0.binary_search_by_key(&origin, |rejection| rejection.origin).is_ok()
    }

    pub(crate) fn into_inner(self) -> Vec<Rejection> {
        self.0
    }

    pub(crate) fn as_slice(&self) -> &[Rejection] {
        &self.0
    }
}
