//! Continuous recording on disk: the oldest chunks are deleted, so that the rest stays under a size or an age.
//!
//! A chunk is deleted whole, by unlinking it: who reads it goes on reading, and what remains reads alone.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{KeepLast, RecordError};

/// A chunk begins anew often enough for this many of them to fit what is kept: open ones cannot be deleted.
const PARTS: u64 = 4;
/// The smallest chunk worth beginning, in bytes.
const LEAST_CHUNK: u64 = 64 << 10;
/// The shortest time a chunk is written.
const LEAST_TIME: Duration = Duration::from_millis(100);

/// The chunks of all CPUs, as far as they may be deleted.
#[derive(Debug, Default)]
pub(super) struct Keep {
    limit: Option<KeepLast>,
    chunks: Mutex<Chunks>,
}

#[derive(Debug, Default)]
struct Chunks {
    /// In order of their ends.
    finished: VecDeque<Finished>,
    /// Bytes of all chunks, the open ones included.
    bytes: u64,
    deleted: Deleted,
}

#[derive(Debug)]
struct Finished {
    path: PathBuf,
    bytes: u64,
    ended: Instant,
}

/// What was deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct Deleted {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    /// A chunk that could not be deleted, and why; it is not tried again.
    pub(super) failure: Option<(PathBuf, String)>,
}

impl Keep {
    /// Keeps what `limit` says, or everything.
    pub(super) fn new(limit: Option<KeepLast>) -> Keep {
        Keep {
            limit,
            chunks: Mutex::default(),
        }
    }

    /// At which size and age a chunk of one of `cpus` CPUs ends, so that the open ones leave room for others.
    ///
    /// # Errors
    /// The limit is too small for so many CPUs.
    pub(super) fn rotation(
        &self,
        cpus: usize,
        bytes: u64,
        after: Duration,
    ) -> Result<(u64, Duration), RecordError> {
        match self.limit {
            None => Ok((bytes, after)),
            Some(KeepLast::Time(time)) => Ok((bytes, after.min((time / 8).max(LEAST_TIME)))),
            Some(KeepLast::Bytes(limit)) => {
                let share = limit / (PARTS * cpus.max(1) as u64);
                if share < LEAST_CHUNK {
                    return Err(RecordError::KeepTooLittle {
                        least: LEAST_CHUNK * PARTS * cpus.max(1) as u64,
                        found: limit,
                        cpus,
                    });
                }
                Ok((bytes.min(share), after))
            }
        }
    }

    /// A chunk is about to grow by so many bytes: makes room for them.
    pub(super) fn grow(&self, bytes: u64) {
        if self.limit.is_none() {
            return;
        }
        let mut chunks = self.lock();
        chunks.bytes += bytes;
        if let Some(KeepLast::Bytes(limit)) = self.limit {
            while chunks.bytes > limit && chunks.delete_oldest() {}
        }
    }

    /// A chunk that got its last reference at `ended` is complete.
    pub(super) fn finished(&self, path: &Path, bytes: u64, ended: Instant) {
        if self.limit.is_none() {
            return;
        }
        let chunk = Finished {
            path: path.to_path_buf(),
            bytes,
            ended,
        };
        let mut chunks = self.lock();
        let at = chunks.finished.partition_point(|c| c.ended <= ended);
        chunks.finished.insert(at, chunk);
    }

    /// Deletes what has become too old.
    pub(super) fn expire(&self, now: Instant) {
        if let Some(KeepLast::Time(time)) = self.limit {
            let mut chunks = self.lock();
            while chunks
                .finished
                .front()
                .is_some_and(|c| now.saturating_duration_since(c.ended) > time)
            {
                chunks.delete_oldest();
            }
        }
    }

    /// What was deleted so far.
    pub(super) fn deleted(&self) -> Deleted {
        self.lock().deleted.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        // A thread that panicked is reported when it is joined.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunks {
    /// Says whether there was one.
    fn delete_oldest(&mut self) -> bool {
        let Some(chunk) = self.finished.pop_front() else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(chunk.bytes);
        match std::fs::remove_file(&chunk.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                self.deleted
                    .failure
                    .get_or_insert((chunk.path, e.to_string()));
            }
            // Somebody else took it away: that is as good.
            Ok(()) | Err(_) => {
                self.deleted.chunks += 1;
                self.deleted.bytes += chunk.bytes;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn chunk(keep: &Keep, dir: &Path, name: &str, bytes: u64, ended: Instant) {
        keep.grow(bytes);
        let path = dir.join(name);
        std::fs::write(&path, "x").unwrap();
        keep.finished(&path, bytes, ended);
    }

    #[test]
    fn the_oldest_of_all_cpus_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(Some(KeepLast::Bytes(1000)));
        let begin = Instant::now();
        let at = |s| begin + Duration::from_secs(s);
        chunk(&keep, dir.path(), "b", 400, at(2));
        // Ended earlier, but was finished later.
        chunk(&keep, dir.path(), "a", 400, at(1));
        assert_eq!(files(dir.path()), ["a", "b"]);
        keep.grow(201);
        assert_eq!(files(dir.path()), ["b"]);
        keep.grow(399);
        assert_eq!(
            files(dir.path()),
            ["b"],
            "1000 bytes are not more than 1000"
        );
        keep.grow(1);
        assert_eq!(files(dir.path()), [] as [&str; 0]);
        // Nothing is left to delete: the open chunks grow on.
        keep.grow(10_000);
        let deleted = keep.deleted();
        assert_eq!((deleted.chunks, deleted.bytes), (2, 800));
        assert!(deleted.failure.is_none());
    }

    #[test]
    fn what_is_too_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(Some(KeepLast::Time(Duration::from_secs(60))));
        let begin = Instant::now();
        let at = |s| begin + Duration::from_secs(s);
        chunk(&keep, dir.path(), "a", 1 << 40, at(0));
        chunk(&keep, dir.path(), "b", 1, at(30));
        keep.expire(at(60));
        assert_eq!(files(dir.path()), ["a", "b"]);
        // Somebody else deleted it already.
        std::fs::remove_file(dir.path().join("a")).unwrap();
        keep.expire(at(61));
        assert_eq!(files(dir.path()), ["b"]);
        keep.expire(at(91));
        assert_eq!(keep.deleted().chunks, 2);
    }

    #[test]
    fn without_a_limit_everything_stays() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(None);
        chunk(&keep, dir.path(), "a", u64::MAX, Instant::now());
        keep.grow(u64::MAX);
        keep.expire(Instant::now() + Duration::from_secs(1 << 30));
        assert_eq!(files(dir.path()), ["a"]);
    }

    #[test]
    fn chunks_suit_what_is_kept() {
        let minute = Duration::from_secs(60);
        let rotation = |limit, cpus| Keep::new(limit).rotation(cpus, 256 << 20, minute);
        assert_eq!(rotation(None, 4).unwrap(), (256 << 20, minute));
        let bytes = |n| Some(KeepLast::Bytes(n));
        assert_eq!(rotation(bytes(64 << 20), 4).unwrap(), (4 << 20, minute));
        assert_eq!(rotation(bytes(1 << 40), 4).unwrap(), (256 << 20, minute));
        let time = Some(KeepLast::Time(Duration::from_secs(8)));
        assert_eq!(rotation(time, 4).unwrap(), (256 << 20, minute / 60));
        let said = rotation(bytes(1 << 20), 64).unwrap_err().to_string();
        assert!(
            said.contains("expected at least 16.8 MB for 64 CPUs, found 1.0 MB"),
            "{said}"
        );
    }
}
