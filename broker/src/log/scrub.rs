//! Scrubbing: reading what nobody reads, to learn that a disk lost it while it can still be mended.
//!
//! redb doesn't verify its checksums when it reads, and a batch is checked by its consumer, which for an old
//! one may be never. So each batch of the sealed segments is read now and then, a few at a time and in the
//! order in which they lie, and held against its index and its own CRC-32C. What is damaged is named; nothing
//! is changed.

use std::sync::Arc;

use super::LogNumber;
use super::batch::IndexEntry;
use super::dir::LogDir;
use super::error::StorageError;
use super::recovery::batch_is_intact;
use super::segment::Segment;

/// A pass over a log dir's sealed segments.
#[derive(Debug, Default)]
pub struct Scrub {
    /// The segment to go on with.
    next_segment: u32,
    current: Option<Current>,
}

/// What is left of a segment: at most 40 bytes for each of the batches that a segment may have.
#[derive(Debug)]
struct Current {
    segment: Arc<Segment>,
    /// By descending position.
    batches: Vec<(LogNumber, IndexEntry)>,
}

/// What a step of a scrub did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    pub batches: u64,
    pub bytes: u64,
    /// Batches that aren't what was written, and segments that can't be read.
    pub damaged: u64,
    /// The pass is over.
    pub is_done: bool,
}

impl LogDir {
    /// Goes on with a pass until about `bytes_max` were read. Blocks.
    pub fn scrub(&self, scrub: &mut Scrub, bytes_max: u64) -> Scrubbed {
        let mut scrubbed = Scrubbed::default();
        while scrubbed.bytes < bytes_max {
            let current = match scrub.current.take() {
                Some(current) => Ok(Some(current)),
                None => self.next_to_scrub(scrub),
            };
            let step = match current {
                Ok(None) => {
                    scrubbed.is_done = true;
                    break;
                }
                Ok(Some(mut current)) => {
                    self.scrub_segment(&mut current, bytes_max, &mut scrubbed).map(|()| {
                        scrub.current = Some(current).filter(|current| !current.batches.is_empty());
                    })
                }
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                scrubbed.damaged += 1;
                let error = &error as &dyn std::error::Error;
                tracing::error!(dir = %self.path().display(), error, "scrubbing met what can't be read");
            }
        }
        self.shared().metrics.scrubbed(scrubbed.bytes, scrubbed.damaged);
        scrubbed
    }

    /// The next sealed segment, and what its index lists.
    fn next_to_scrub(&self, scrub: &mut Scrub) -> Result<Option<Current>, StorageError> {
        loop {
            let shared = self.shared();
            let mut sealed =
                shared.segments().range(scrub.next_segment..).map(|(_, s)| s.clone()).collect::<Vec<_>>();
            sealed.retain(|segment| segment.is_sealed());
            let Some(segment) = sealed.into_iter().next() else { return Ok(None) };
            scrub.next_segment = segment.number + 1;
            let read = segment.read(&*shared.disk, |reader| {
                let mut batches = Vec::new();
                reader.each_index_row(|log, entries| {
                    batches.extend(entries.iter().map(|entry| (log, *entry)));
                })?;
                Ok(batches)
            })?;
            // One that was removed or rewritten meanwhile has been read for that.
            if let Some((mut batches, was_opened)) = read {
                if was_opened.0 {
                    shared.opened(&segment);
                }
                batches.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.position));
                return Ok(Some(Current { segment, batches }));
            }
        }
    }

    fn scrub_segment(
        &self,
        current: &mut Current,
        bytes_max: u64,
        scrubbed: &mut Scrubbed,
    ) -> Result<(), StorageError> {
        let shared = self.shared();
        let mut damaged = Vec::new();
        let Current { segment, batches } = current;
        let read = segment.read(&*shared.disk, |reader| {
            while scrubbed.bytes < bytes_max
                && let Some((log, entry)) = batches.pop()
            {
                scrubbed.batches += 1;
                scrubbed.bytes += u64::from(entry.length);
                let bytes = reader.bytes(entry.position, entry.length as usize)?;
                if bytes.is_none_or(|bytes| !batch_is_intact(&bytes, &entry)) {
                    damaged.push((log, entry));
                }
            }
            Ok(())
        })?;
        if read.is_none() {
            batches.clear();
        }
        for (log, entry) in damaged {
            scrubbed.damaged += u64::from(self.report_damage(segment, log, &entry));
        }
        Ok(())
    }

    /// Says which batch is damaged, if it is one that can still be read.
    fn report_damage(&self, segment: &Arc<Segment>, log: LogNumber, entry: &IndexEntry) -> bool {
        let Some(log) = self.logs().into_iter().find(|candidate| candidate.number() == log) else {
            return false;
        };
        let start = log.log_start_offset().0;
        let live = log.inner().offsets_in(segment);
        let is_live = entry.last_offset >= start
            && live.is_some_and(|live| entry.base_offset >= live.start && entry.end_offset() <= live.end);
        if is_live {
            tracing::error!(
                partition = %log.topic_id_partition(),
                offset = entry.base_offset,
                segment = %segment.path.display(),
                "a record batch is damaged on disk"
            );
        }
        is_live
    }
}
