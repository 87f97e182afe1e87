//! Which sealed segments are open, so that few are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::segment::{Segment, SegmentId};

#[derive(Debug)]
pub(crate) struct OpenSegments {
    max: usize,
    /// Oldest opening first.
    open: Mutex<VecDeque<Weak<Segment>>>,
}

impl OpenSegments {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, open: Mutex::default() }
    }

    /// A segment was opened; the one opened longest ago is shut if there are too many. Answers which were.
    pub(crate) fn opened(&self, segment: &Arc<Segment>) -> Vec<SegmentId> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(Arc::downgrade(segment));
        let excess = open.len().saturating_sub(self.max);
        let mut oldest: Vec<_> = open.drain(..excess).collect();
        drop(open);
        // One that is being read stays open, and comes up again later.
        let mut shut = Vec::new();
        oldest.retain(|weak| {
            weak.upgrade().is_some_and(|segment| {
                let was_shut = segment.shut();
                shut.extend(was_shut.then_some(segment.id));
                !was_shut
            })
        });
        if !oldest.is_empty() {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(oldest);
        }
        shut
    }
}
