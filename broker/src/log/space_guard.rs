//! Stops appends before the disk is full.
//!
//! A write that meets a full disk fails the log dir: nobody knows what of it was written, and a failed log dir can
//! give nothing back. So the last bytes are kept for what makes room (moved log starts, removed segments) and for
//! the metadata, and appends are refused meanwhile, which clients retry. What was queued before is written.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::disk::{Disk, Space};
use super::partition::AppendError;

/// What is kept free: more than all requests together have on the way with the default limits.
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// ... but no more than this part of a small disk.
const RESERVE_DIVISOR: u64 = 8;
/// Bytes that are committed between two looks.
const LOOK_BYTES: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct SpaceGuard {
    is_low: AtomicBool,
    /// Committed since the last look.
    unlooked_bytes: AtomicU64,
}

impl SpaceGuard {
    /// So many bytes were written; looks how full the disk is now and then.
    pub(crate) fn committed(&self, bytes: u64, disk: &dyn Disk, dir: &Path) {
        let unlooked = self.unlooked_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if unlooked >= LOOK_BYTES {
            self.unlooked_bytes.store(0, Ordering::Release);
            self.look(disk, dir);
        }
    }

    /// Looks how full the disk is.
    pub(crate) fn look(&self, disk: &dyn Disk, dir: &Path) {
        // A disk that doesn't answer says it with the next write.
        let Ok(space) = disk.space(dir) else { return };
        let is_low = is_low(&space);
        if self.is_low.swap(is_low, Ordering::AcqRel) != is_low {
            let (dir, free_bytes) = (dir.display(), space.free_bytes);
            match is_low {
                true => tracing::error!(%dir, free_bytes, "the disk is nearly full: appends are refused"),
                false => tracing::info!(%dir, free_bytes, "the disk has room again: appends are accepted"),
            }
        }
    }

    /// Whether so many bytes can be written beside what is kept free.
    pub(crate) fn has_room_for(&self, bytes: u64, disk: &dyn Disk, dir: &Path) -> bool {
        disk.space(dir).is_ok_and(|space| space.free_bytes.saturating_sub(reserve_bytes(&space)) > bytes)
    }

    /// Refuses an append while the disk is nearly full.
    pub(crate) fn admit(&self, disk: &dyn Disk, dir: &Path) -> Result<(), AppendError> {
        if !self.is_low.load(Ordering::Acquire) {
            return Ok(());
        }
        // Without commits nobody else looks.
        self.look(disk, dir);
        match disk.space(dir) {
            Ok(space) if is_low(&space) => Err(AppendError::DiskFull {
                free_bytes: space.free_bytes,
                reserve_bytes: reserve_bytes(&space),
            }),
            _ => Ok(()),
        }
    }
}

fn is_low(space: &Space) -> bool {
    space.free_bytes < reserve_bytes(space)
}

fn reserve_bytes(space: &Space) -> u64 {
    (space.bytes / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX)
}
