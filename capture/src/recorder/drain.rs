//! Drains one CPU: its two channels into its chunks. Of a recording in memory, only names, and references at snapshots.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::chunks::Chunks;
use super::shared::{Plan, Shared};
use crate::chunk::{BlockKind, ChunkError};
use crate::control::is_gone;
use crate::sys;

/// Longest wait for a full sub-buffer: partial ones are drained this often.
const WAIT: Duration = Duration::from_millis(100);

/// Bytes that a CPU's thread holds at a snapshot before it writes.
const HELD: usize = 64 << 20;

/// Whole records on their way to a chunk.
#[derive(Debug)]
struct Held {
    bytes: Box<[u8]>,
    records: u64,
}

/// One CPU's drain.
#[derive(Debug)]
pub(super) struct Drain<'a> {
    pub(super) cpu: u16,
    pub(super) refs: Channel,
    pub(super) names: Channel,
    plan: &'a Plan,
    shared: &'a Shared,
    pub(super) chunks: Chunks<'a>,
    /// The last snapshot this CPU took part in.
    snapshot: u64,
    /// Records read from the module but not written, after a failure.
    pub(super) discarded: u64,
    /// Records of snapshots that were older than what was to be kept.
    pub(super) outdated: u64,
    /// The failure.
    pub(super) error: Option<DrainError>,
}

/// Why a CPU's drain ended early.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// A chunk cannot be written.
    #[error(transparent)]
    Write(#[from] ChunkError),
    /// A channel cannot be read.
    #[error("{}: {cause}", path.display())]
    Read {
        /// The relay file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}

impl<'a> Drain<'a> {
    /// Begins the first chunk of a CPU, unless references stay in memory.
    pub(super) fn new(
        cpu: u16,
        refs: Channel,
        names: Channel,
        plan: &'a Plan,
        shared: &'a Shared,
    ) -> Result<Drain<'a>, ChunkError> {
        let mut chunks = Chunks::new(cpu, plan, shared);
        if !plan.in_memory {
            chunks.begin()?;
        }
        Ok(Drain {
            cpu,
            refs,
            names,
            plan,
            shared,
            chunks,
            snapshot: 0,
            discarded: 0,
            outdated: 0,
            error: None,
        })
    }

    /// Drains until the recording is stopped and nothing is left. A failure ends writing, never reading: the module
    /// waits for room when it stops.
    pub(super) fn run(&mut self) {
        // Not allowed or offline: slower, not wrong.
        let _ = sys::pin_to_cpu(self.cpu);
        loop {
            // Asked before the reads: what is there after the stop is then seen by them.
            let stopped = self.shared.stopped.load(Ordering::Acquire);
            match self.pass() {
                Ok(Pass::More) => continue,
                Ok(Pass::Some) if stopped => continue,
                Ok(Pass::Nothing) if stopped => break,
                Ok(Pass::Some | Pass::Nothing) => {}
                Err(e) => match self.fail(e) {
                    Next::GoOn => continue,
                    Next::End => break,
                },
            }
            if let Err(e) = self.wait() {
                let path = self.names.path().to_path_buf();
                self.fail(DrainError::Read { path, cause: e });
                break;
            }
        }
        if let Err(e) = self.last().and_then(|()| Ok(self.write_rests()?)) {
            self.fail(e);
        }
    }

    /// Writes the end of the last chunk, when every CPU has drained all it had.
    pub(super) fn finish(&mut self, totals: &[u8]) -> Result<(), ChunkError> {
        self.chunks.finish(totals)
    }

    /// Reads both channels once, names first: they introduce what references name.
    fn pass(&mut self) -> Result<Pass, DrainError> {
        let mut pass = self.channel(BlockKind::Names)?;
        if !self.plan.in_memory {
            pass = pass.max(self.channel(BlockKind::Refs)?);
        }
        self.chunks.retire_when_due()?;
        self.chunks.rotate_when_due()?;
        self.take_snapshot()?;
        Ok(pass)
    }

    /// Takes part in a snapshot that somebody wants.
    fn take_snapshot(&mut self) -> Result<(), DrainError> {
        let (number, since_ns) = self.shared.snapshots.wanted();
        if number == self.snapshot {
            return Ok(());
        }
        self.snapshot = number;
        let written = if self.plan.in_memory {
            if !self.shared.snapshots.meet(self.shared, number) {
                return Ok(());
            }
            let now_ns = sys::clocks().monotonic_ns;
            let mut held = Vec::new();
            let read = self.drain_memory(since_ns, Some(now_ns), &mut held);
            self.shared.snapshots.drained(self.shared);
            self.write_held(&mut held)?;
            read?;
            self.chunks.close_snapshot()?
        } else {
            self.chunks.cut()?
        };
        if !written {
            self.shared.snapshots.finished(None);
        } // otherwise it is told when the chunk has its last names
        Ok(())
    }

    /// The last snapshot of a recording in memory: all that is left, in a chunk of every CPU.
    fn last(&mut self) -> Result<(), DrainError> {
        if self.plan.in_memory && self.error.is_none() {
            let since_ns = self.shared.snapshots.wanted().1;
            let mut held = Vec::new();
            let drained = self.drain_memory(since_ns, None, &mut held);
            self.write_held(&mut held)?;
            if !self.chunks.is_open() {
                self.chunks.begin()?;
            }
            return drained;
        }
        Ok(())
    }

    /// Reads what memory holds of references: none older than `since_ns`, and none made after `until_ns` (or a few: the
    /// module goes on writing meanwhile). They are in `held`, or in the chunk where they are many: while they are read,
    /// the module has no room but what was read, so that a disk's time is not to be waited for.
    fn drain_memory(
        &mut self,
        since_ns: u64,
        until_ns: Option<u64>,
        held: &mut Vec<Held>,
    ) -> Result<(), DrainError> {
        let set = &self.plan.header.settings;
        let capacity = set.subbuf_size * set.n_subbufs;
        let before = self.refs.bytes;
        let since_ns = since_ns.max(self.shared.names.since_ns());
        let mut bytes = 0;
        loop {
            let got = read(&mut self.refs)?;
            let all = self.refs.whole(got.whole);
            let span = Channel::span(all, since_ns);
            self.outdated += span.older;
            let young = all.get(span.begin..).unwrap_or_default();
            if !young.is_empty() {
                bytes += young.len();
                held.push(Held {
                    bytes: young.into(),
                    records: span.records - span.older,
                });
            }
            self.refs.consume(got.whole);
            if bytes > HELD {
                bytes = 0;
                self.write_held(held)?;
            }
            let enough = until_ns
                .is_some_and(|until| span.last_ns > until || self.refs.bytes - before >= capacity);
            // A record that was read in part is there in whole: the next read has its rest.
            if got.read == 0 || enough && !self.refs.has_part() {
                return Ok(());
            }
        }
    }

    /// Writes what was read, to a new chunk if there is none.
    fn write_held(&mut self, held: &mut Vec<Held>) -> Result<(), DrainError> {
        let mut written = Ok(true);
        for Held { bytes, records } in held.drain(..) {
            if written.is_ok() && !self.chunks.is_open() {
                written = self.chunks.begin().map(|()| true);
            }
            if written.is_ok() {
                written = self.chunks.block(BlockKind::Refs, &bytes);
            }
            match written {
                Ok(_) => {
                    let bytes = bytes.len() as u64;
                    self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(_) => self.discarded += records,
            }
        }
        Ok(written.map(drop)?)
    }

    fn channel(&mut self, kind: BlockKind) -> Result<Pass, DrainError> {
        let channel = match kind {
            BlockKind::Names => &mut self.names,
            BlockKind::Refs | BlockKind::Repeated | BlockKind::Totals => &mut self.refs,
        };
        let before = channel.records;
        let got = read(channel)?;
        let records = channel.records - before;
        self.shared.records.fetch_add(records, Ordering::Relaxed);
        self.shared
            .bytes
            .fetch_add(got.read as u64, Ordering::Relaxed);
        let mut written = Ok(true);
        if got.whole > 0 {
            let bytes = channel.whole(got.whole);
            if kind == BlockKind::Names {
                self.shared.names.learn(self.cpu, bytes);
            }
            // In memory, names wait in the table, too.
            if !self.plan.in_memory {
                written = self.chunks.block(kind, bytes);
                if !matches!(written, Ok(true)) {
                    self.discarded += records;
                }
            }
        }
        channel.consume(got.whole);
        written?;
        Ok(match got {
            _ if got.more => Pass::More,
            _ if got.read > 0 => Pass::Some,
            _ => Pass::Nothing,
        })
    }

    /// Waits for a full sub-buffer, or long enough for a partial one.
    fn wait(&self) -> std::io::Result<()> {
        let begin = Instant::now();
        let ready = if self.plan.in_memory {
            sys::wait_one(self.names.fd(), WAIT)? // references are always there
        } else {
            sys::wait_readable(self.names.fd(), self.refs.fd(), WAIT)?
        };
        if ready && begin.elapsed() < Duration::from_millis(1) {
            // Also true, at once and always, of a plain file in a test and of a module that is going away.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Part of a record whose rest never came is kept too: the bytes are untouched to the last.
    fn write_rests(&mut self) -> Result<(), ChunkError> {
        for (kind, channel) in [
            (BlockKind::Names, &mut self.names),
            (BlockKind::Refs, &mut self.refs),
        ] {
            let rest = channel.rest();
            // In memory, names wait in the table; half of one is nothing.
            let unwanted = self.plan.in_memory && kind == BlockKind::Names;
            if !unwanted && !rest.is_empty() {
                self.chunks.block(kind, rest)?;
            }
        }
        Ok(())
    }

    /// Notes a failure; says whether to go on reading.
    fn fail(&mut self, e: DrainError) -> Next {
        let next = match &e {
            DrainError::Read { cause, .. } if is_gone(cause) => {
                self.shared.gone.store(true, Ordering::Release);
                return Next::End;
            }
            DrainError::Read { .. } => Next::End,
            DrainError::Write(_) => Next::GoOn,
        };
        self.shared.failed.store(true, Ordering::Release);
        self.chunks.abandon();
        self.error.get_or_insert(e);
        next
    }
}

fn read(channel: &mut Channel) -> Result<super::channel::Got, DrainError> {
    channel.read().map_err(|cause| DrainError::Read {
        path: channel.path().to_path_buf(),
        cause,
    })
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

/// What a pass over the channels found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pass {
    Nothing,
    Some,
    More,
}

/// Whether a folder holds chunks already.
pub(super) fn holds_chunks(dir: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        if Path::new(&entry?.file_name())
            .extension()
            .is_some_and(|e| e == crate::chunk::EXTENSION)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
