//! Ends a recording before its disk is full.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::RecordError;
use crate::sys;
use crate::units::show_bytes;

/// What is left free unless told otherwise, in bytes; at most an eighth of the disk.
const MIN_FREE: u64 = 256 << 20;

/// The room on the file system of the chunks. It is looked up now and then; in between, what is written is taken off.
#[derive(Debug)]
pub(super) struct DiskGuard {
    dir: PathBuf,
    /// The recording ends before fewer bytes are left; 0: never.
    least: u64,
    total: u64,
    /// Bytes left above `least`, as far as known.
    room: AtomicI64,
    /// What the last look found.
    seen: AtomicU64,
    short: AtomicBool,
}

impl DiskGuard {
    /// Looks at the file system of `dir`.
    ///
    /// # Errors
    /// It cannot be asked, or has too little room already.
    pub(super) fn new(dir: &Path, min_free: Option<u64>) -> Result<DiskGuard, RecordError> {
        let space = sys::disk_space(dir).map_err(|cause| RecordError::Output {
            dir: dir.to_path_buf(),
            cause,
        })?;
        let least = min_free.unwrap_or(MIN_FREE.min(space.total / 8));
        let guard = DiskGuard {
            dir: dir.to_path_buf(),
            least,
            total: space.total,
            room: AtomicI64::new(0),
            seen: AtomicU64::new(0),
            short: AtomicBool::new(false),
        };
        guard.set(space.free);
        if guard.is_short() {
            return Err(RecordError::DiskFull {
                dir: guard.dir,
                free: space.free,
                total: space.total,
                least,
            });
        }
        Ok(guard)
    }

    /// Asks the file system again.
    pub(super) fn look(&self) -> io::Result<()> {
        self.set(sys::disk_space(&self.dir)?.free);
        Ok(())
    }

    fn set(&self, free: u64) {
        self.seen.store(free, Ordering::Relaxed);
        let room = i64::try_from(free).unwrap_or(i64::MAX) - least_i64(self.least);
        self.room.store(room, Ordering::Relaxed);
        self.judge(room);
    }

    /// So many bytes were, or are about to be, written.
    pub(super) fn wrote(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let room = self.room.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        self.judge(room);
    }

    fn judge(&self, room: i64) {
        if self.least > 0 && room < 0 {
            self.short.store(true, Ordering::Release);
        }
    }

    /// Whether the recording should end. Stays true.
    pub(super) fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// Whether so many bytes can be written and the recording go on.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.least == 0
            || i64::try_from(bytes).is_ok_and(|b| b <= self.room.load(Ordering::Relaxed))
    }

    /// Bytes left.
    pub(super) fn left(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

fn least_i64(least: u64) -> i64 {
    i64::try_from(least).unwrap_or(i64::MAX)
}

impl fmt::Display for DiskGuard {
    /// What a person must know when it is short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk of {} has {} left of {}, the limit is {} (--min-free)",
            self.dir.display(),
            show_bytes(self.left()),
            show_bytes(self.total),
            show_bytes(self.least)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_is_taken_off_until_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let free = sys::disk_space(dir.path()).unwrap().free;
        let guard = DiskGuard::new(dir.path(), Some(free / 2)).unwrap();
        assert!(!guard.is_short() && guard.has_room(free / 4) && !guard.has_room(free));
        guard.wrote(free / 4);
        assert!(!guard.is_short());
        guard.wrote(free / 2);
        assert!(guard.is_short());
        // Nobody wrote anything: but once short is short.
        guard.look().unwrap();
        assert!(guard.is_short());
    }

    #[test]
    fn a_disk_without_room_is_told_at_the_start_and_0_means_never() {
        let dir = tempfile::tempdir().unwrap();
        let total = sys::disk_space(dir.path()).unwrap().total;
        let said = DiskGuard::new(dir.path(), Some(total * 2)).unwrap_err();
        assert!(said.to_string().contains("make room"), "{said}");
        let guard = DiskGuard::new(dir.path(), Some(0)).unwrap();
        guard.wrote(u64::MAX);
        assert!(!guard.is_short() && guard.has_room(u64::MAX));
    }
}
