//! Snapshots: who wants one, who has done its part, and how others learn of it.
//!
//! Of a recording in memory, a snapshot is all that memory holds. The threads of all CPUs meet first; then the module
//! is told to keep the oldest records, each thread drains its CPU's, and the last one tells the module to go on
//! overwriting: so nothing is lost for waiting. Of a recording on disk, a snapshot ends the open chunks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::note::Note;
use super::shared::Shared;
use super::{KeepLast, News};
use crate::sys;
use crate::units::show_bytes;

/// How often a thread that waits for the others looks whether they can still come.
const LOOK: Duration = Duration::from_millis(20);

/// What the drain threads and the recorder tell each other of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    cpus: usize,
    state: Mutex<State>,
    met: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last one wanted, from 1.
    wanted: u64,
    /// What is older (CLOCK_MONOTONIC) is left out.
    since_ns: u64,
    /// CPUs whose threads are ready to drain.
    ready: usize,
    /// What came of the beginning, once all were ready.
    begun: Option<Result<(), String>>,
    /// CPUs that have drained their part.
    drained: usize,
    /// CPUs whose part is on disk.
    finished: usize,
    chunks: Vec<PathBuf>,
}

impl Snapshots {
    pub(super) fn new(cpus: usize) -> Snapshots {
        Snapshots {
            cpus,
            state: Mutex::default(),
            met: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked is reported when it is joined; the figures are consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, number: u64, since_ns: u64) {
        *self.lock() = State {
            wanted: number,
            since_ns,
            ..State::default()
        };
    }

    /// Number of the snapshot wanted last, and since when.
    pub(super) fn wanted(&self) -> (u64, u64) {
        let state = self.lock();
        (state.wanted, state.since_ns)
    }

    /// Waits until the threads of all CPUs are here, of which the last one begins. Says whether to go on: not where the
    /// module refused, or some thread cannot come any more.
    pub(super) fn meet(&self, shared: &Shared, number: u64) -> bool {
        let mut state = self.lock();
        state.ready += 1;
        if state.ready == self.cpus {
            let begun = shared.module.command("snapshot begin");
            state.begun = Some(begun.map_err(|e| e.to_string()));
            self.met.notify_all();
        }
        loop {
            match &state.begun {
                _ if state.wanted != number => return false, // refused, and the next one is wanted already
                Some(begun) => return begun.is_ok(),
                None if shared.is_ending() => return false,
                None => {
                    let waited = self.met.wait_timeout(state, LOOK);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// A CPU has drained its part; the last one to do so lets the module go on.
    pub(super) fn drained(&self, shared: &Shared) {
        let mut state = self.lock();
        state.drained += 1;
        if state.drained == self.cpus {
            // Refused where the module has stopped: there is nothing to overwrite then.
            let _ = shared.module.command("snapshot end");
        }
    }

    /// A CPU's part is on disk, if it had one.
    pub(super) fn finished(&self, chunk: Option<PathBuf>) {
        let mut state = self.lock();
        state.chunks.extend(chunk);
        state.finished += 1;
    }

    /// What came of the snapshot wanted last, once that is known: its chunks, or why there are none.
    fn outcome(&self) -> Option<Result<Vec<PathBuf>, String>> {
        let mut state = self.lock();
        if let Some(Err(why)) = &state.begun {
            return Some(Err(why.clone()));
        }
        (state.finished >= self.cpus).then(|| {
            let mut chunks = std::mem::take(&mut state.chunks);
            chunks.sort();
            Ok(chunks)
        })
    }
}

/// The recorder's side: one snapshot after the other.
pub(super) struct Taker<'a> {
    shared: &'a Shared,
    in_memory: bool,
    /// Bytes a snapshot may need on disk.
    memory: u64,
    keep: Option<Duration>,
    /// Pids whose exit asks for a snapshot; `None`: nobody's does; empty: anybody's.
    exits: Option<BTreeSet<u32>>,
    /// One was begun, and is not complete.
    busy: bool,
    note: Note,
}

impl<'a> Taker<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        options: &super::Options,
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
            shared,
            in_memory: options.in_memory,
            memory,
            keep,
            exits,
            busy: false,
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
        self.shared.snapshots.lock().since_ns = self.since_ns();
    }

    /// Whether a new one can begin.
    pub(super) fn is_idle(&self) -> bool {
        !self.busy
    }

    /// Begins a snapshot.
    pub(super) fn begin(&mut self, news: &mut dyn FnMut(News<'_>)) {
        self.note.begun += 1;
        if self.in_memory && !self.shared.disk.has_room(self.memory) {
            let why = format!(
                "it may need {}: {}",
                show_bytes(self.memory),
                self.shared.disk
            );
            return self.refused(why, news);
        }
        self.note.write();
        self.shared.snapshots.want(self.note.begun, self.since_ns());
        self.busy = true;
    }

    fn refused(&mut self, why: String, news: &mut dyn FnMut(News<'_>)) {
        let why = format!("no snapshot {}: {why}", self.note.begun);
        news(News::Words(&why));
        self.note.done = self.note.begun;
        self.note.chunks = Vec::new();
        self.note.failure = Some(why);
        self.note.write();
    }

    /// Looks how far the snapshot that was begun has come.
    pub(super) fn look(&mut self, news: &mut dyn FnMut(News<'_>)) {
        if !self.busy {
            return;
        }
        let chunks = match self.shared.snapshots.outcome() {
            None => return,
            Some(Err(why)) => {
                self.busy = false;
                return self.refused(why, news);
            }
            Some(Ok(chunks)) => chunks,
        };
        self.busy = false;
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

    /// Snapshots taken.
    pub(super) fn taken(&self) -> u64 {
        self.note.done
    }
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        self.note.remove();
    }
}
