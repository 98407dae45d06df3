//! Snapshots: who wants one, who has done its part, and how others learn of it.
//!
//! Of a recording in memory, a snapshot is all that memory holds: the module keeps the oldest records until every CPU's
//! thread has drained them into a chunk, then goes on overwriting. Of a recording on disk, it ends the open chunks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::drain::Shared;
use super::note::Note;
use super::{KeepLast, News};
use crate::control::Module;
use crate::sys;
use crate::units::show_bytes;

/// What the drain threads and the recorder tell each other of snapshots.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Number of the last one wanted, from 1.
    wanted: AtomicU64,
    /// What is older (CLOCK_MONOTONIC) is left out.
    since_ns: AtomicU64,
    /// CPUs that have drained their part.
    drained: AtomicUsize,
    /// CPUs whose part is on disk.
    finished: AtomicUsize,
    chunks: Mutex<Vec<PathBuf>>,
}

impl Snapshots {
    fn want(&self, number: u64, since_ns: u64) {
        self.drained.store(0, Ordering::Relaxed);
        self.finished.store(0, Ordering::Relaxed);
        self.since_ns.store(since_ns, Ordering::Relaxed);
        self.wanted.store(number, Ordering::Release);
    }

    /// Number of the snapshot wanted last, and since when.
    pub(super) fn wanted(&self) -> (u64, u64) {
        let number = self.wanted.load(Ordering::Acquire);
        (number, self.since_ns.load(Ordering::Relaxed))
    }

    /// A CPU has drained its part.
    pub(super) fn drained(&self) {
        self.drained.fetch_add(1, Ordering::AcqRel);
    }

    /// A CPU's part is on disk, if it had one.
    pub(super) fn finished(&self, chunk: Option<PathBuf>) {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.extend(chunk);
        drop(chunks);
        self.finished.fetch_add(1, Ordering::AcqRel);
    }

    fn take_chunks(&self) -> Vec<PathBuf> {
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chunks = std::mem::take(&mut *chunks);
        chunks.sort();
        chunks
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Threads drain; the module keeps the oldest records.
    Draining,
    /// Threads wait for the last names.
    Finishing,
}

/// The recorder's side: one snapshot after the other.
pub(super) struct Taker<'a> {
    module: &'a Module,
    shared: &'a Shared,
    cpus: usize,
    in_memory: bool,
    /// Bytes a snapshot may need on disk.
    memory: u64,
    keep: Option<Duration>,
    /// Pids whose exit asks for a snapshot; `None`: nobody's does; empty: anybody's.
    exits: Option<BTreeSet<u32>>,
    state: State,
    note: Note,
}

impl<'a> Taker<'a> {
    pub(super) fn new(
        module: &'a Module,
        shared: &'a Shared,
        options: &super::Options,
        cpus: usize,
        memory: u64,
        note: Note,
    ) -> Taker<'a> {
        let keep = match options.keep_last {
            Some(KeepLast::Time(time)) => Some(time),
            Some(KeepLast::Bytes(_)) | None => None,
        };
        let exits = options
            .snapshot_on_exit
            .then(|| options.targets.pids.iter().copied().collect());
        Taker {
            module,
            shared,
            cpus,
            in_memory: options.in_memory,
            memory,
            keep,
            exits,
            state: State::Idle,
            note,
        }
    }

    /// Since when references are kept, CLOCK_MONOTONIC ns; 0: always.
    pub(super) fn since_ns(&self) -> u64 {
        self.keep.map_or(0, |time| {
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            sys::clocks().monotonic_ns.saturating_sub(time)
        })
    }

    /// Whether a target's exit asks for a snapshot.
    pub(super) fn target_exited(&self) -> bool {
        let gone = self.shared.names.take_exits();
        self.exits
            .as_ref()
            .is_some_and(|of| gone.iter().any(|pid| of.is_empty() || of.contains(pid)))
    }

    /// The last snapshot, by the threads themselves once the module has stopped, leaves out what is too old now.
    pub(super) fn ending(&self) {
        let since_ns = self.since_ns();
        let snapshots = &self.shared.snapshots;
        snapshots.since_ns.store(since_ns, Ordering::Release);
    }

    /// Whether a new one can begin.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Begins a snapshot.
    pub(super) fn begin(&mut self, news: &mut dyn FnMut(News<'_>)) {
        self.note.begun += 1;
        if self.in_memory {
            if !self.shared.disk.has_room(self.memory) {
                let why = format!(
                    "no snapshot, which may need {}: {}",
                    show_bytes(self.memory),
                    self.shared.disk
                );
                return self.refused(why, news);
            }
            if let Err(e) = self.module.command("snapshot begin") {
                return self.refused(format!("no snapshot: {e}"), news);
            }
        }
        self.note.write();
        self.shared.snapshots.want(self.note.begun, self.since_ns());
        self.state = State::Draining;
    }

    fn refused(&mut self, why: String, news: &mut dyn FnMut(News<'_>)) {
        news(News::Words(&why));
        self.note.done = self.note.begun;
        self.note.chunks = Vec::new();
        self.note.failure = Some(why);
        self.note.write();
    }

    /// Looks how far the snapshot that was begun has come.
    pub(super) fn look(&mut self, news: &mut dyn FnMut(News<'_>)) {
        let all = |count: &AtomicUsize| count.load(Ordering::Acquire) >= self.cpus;
        match self.state {
            State::Idle => {}
            State::Draining if all(&self.shared.snapshots.drained) => {
                self.end_in_module();
                self.state = State::Finishing;
            }
            State::Finishing if all(&self.shared.snapshots.finished) => {
                self.state = State::Idle;
                let chunks = self.shared.snapshots.take_chunks();
                let said = format!(
                    "snapshot {}: {} chunk{} in {}",
                    self.note.begun,
                    chunks.len(),
                    if chunks.len() == 1 { "" } else { "s" },
                    self.note.dir().display()
                );
                self.note.done = self.note.begun;
                self.note.chunks = chunks;
                self.note.failure = None;
                self.note.write();
                news(News::Words(&said));
            }
            State::Draining | State::Finishing => {}
        }
    }

    fn end_in_module(&self) {
        if self.in_memory {
            // Refused where the module has stopped: there is nothing to overwrite then.
            let _ = self.module.command("snapshot end");
        }
    }

    /// Snapshots taken.
    pub(super) fn taken(&self) -> u64 {
        self.note.done
    }
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        if self.state == State::Draining {
            self.end_in_module();
        }
        self.note.remove();
    }
}
