//! Drains one CPU: its two channels into its chunks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::names::{ChunkMark, Names};
use crate::chunk::{BlockKind, ChunkError, ChunkHeader, ChunkWriter, file_name};
use crate::control::is_gone;
use crate::sys;

/// Longest wait for a full sub-buffer: partial ones are drained this often.
const WAIT: Duration = Duration::from_millis(100);
/// An ended chunk stays open this long, for names that other CPUs have not drained yet.
const LINGER: Duration = Duration::from_millis(300);

/// What all drain threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) names: Names,
    /// The module records no more: drain to the last byte and end.
    pub(super) stopped: AtomicBool,
    /// A thread cannot write or read any more: the recording should end.
    pub(super) failed: AtomicBool,
    /// The module has gone away.
    pub(super) gone: AtomicBool,
    /// For the live line.
    pub(super) records: AtomicU64,
    /// For the live line.
    pub(super) bytes: AtomicU64,
}

/// Where and how chunks are made; the same for all CPUs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) header: ChunkHeader,
    /// A chunk ends at this many bytes.
    pub(super) rotate_bytes: u64,
    /// A chunk ends at this age.
    pub(super) rotate_after: Duration,
}

/// A chunk being written.
#[derive(Debug)]
struct Open {
    writer: ChunkWriter,
    mark: ChunkMark,
    begun: Instant,
    /// Bytes of header and names repeated at its start: they say nothing about whether it is time for the next.
    base: u64,
}

/// A chunk that gets no more blocks but the names repeated at its end.
#[derive(Debug)]
struct Retiring {
    writer: ChunkWriter,
    mark: ChunkMark,
    own_until: u64,
    since: Instant,
}

/// One CPU's drain.
#[derive(Debug)]
pub(super) struct Drain<'a> {
    pub(super) cpu: u16,
    pub(super) refs: Channel,
    pub(super) names: Channel,
    plan: &'a Plan,
    shared: &'a Shared,
    index: u32,
    /// `None` once it could not be written.
    open: Option<Open>,
    retiring: Option<Retiring>,
    /// Chunks begun.
    pub(super) paths: Vec<PathBuf>,
    /// Records read from the module but not written, after a failure.
    pub(super) discarded: u64,
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
    /// Begins the first chunk of a CPU.
    pub(super) fn new(
        cpu: u16,
        refs: Channel,
        names: Channel,
        plan: &'a Plan,
        shared: &'a Shared,
    ) -> Result<Drain<'a>, ChunkError> {
        let mut drain = Drain {
            cpu,
            refs,
            names,
            plan,
            shared,
            index: 0,
            open: None,
            retiring: None,
            paths: Vec::new(),
            discarded: 0,
            error: None,
        };
        drain.open = Some(drain.begin_chunk()?);
        Ok(drain)
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
                Err(DrainError::Read { cause, .. }) if is_gone(&cause) => {
                    self.shared.gone.store(true, Ordering::Release);
                    break;
                }
                Err(e @ DrainError::Read { .. }) => {
                    self.fail(e);
                    break;
                }
                Err(e @ DrainError::Write(_)) => {
                    self.fail(e);
                    continue;
                }
            }
            if let Err(e) = self.wait() {
                let path = self.refs.path().to_path_buf();
                self.fail(DrainError::Read { path, cause: e });
                break;
            }
        }
        if let Err(e) = self.write_rests() {
            self.fail(e.into());
        }
    }

    /// Writes the end of the last chunk, when every CPU has drained all it had.
    pub(super) fn finish(&mut self, totals: &[u8]) -> Result<(), ChunkError> {
        self.retire_now()?;
        if let Some(Open {
            mut writer, mark, ..
        }) = self.open.take()
        {
            for piece in self.shared.names.end_chunk(mark, u64::MAX) {
                writer.block(BlockKind::Repeated, &piece)?;
            }
            writer.block(BlockKind::Totals, totals)?;
            writer.finish()?;
        }
        Ok(())
    }

    /// Reads both channels once, names first: they introduce what references name.
    fn pass(&mut self) -> Result<Pass, DrainError> {
        let names = self.channel(BlockKind::Names)?;
        let refs = self.channel(BlockKind::Refs)?;
        self.retire_when_due()?;
        self.rotate_when_due()?;
        Ok(names.max(refs))
    }

    fn channel(&mut self, kind: BlockKind) -> Result<Pass, DrainError> {
        let channel = match kind {
            BlockKind::Names => &mut self.names,
            BlockKind::Refs | BlockKind::Repeated | BlockKind::Totals => &mut self.refs,
        };
        let before = channel.records;
        let got = channel.read().map_err(|cause| DrainError::Read {
            path: channel.path().to_path_buf(),
            cause,
        })?;
        let records = channel.records - before;
        self.shared.records.fetch_add(records, Ordering::Relaxed);
        self.shared
            .bytes
            .fetch_add(got.read as u64, Ordering::Relaxed);
        let mut written = Ok(());
        if got.whole > 0 {
            let bytes = channel.whole(got.whole);
            if kind == BlockKind::Names {
                self.shared.names.learn(self.cpu, bytes);
            }
            match &mut self.open {
                Some(open) => {
                    written = open.writer.block(kind, bytes);
                    if written.is_err() {
                        self.discarded += records;
                    }
                }
                None => self.discarded += records,
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
        if sys::wait_readable(self.names.fd(), self.refs.fd(), WAIT)? {
            // Also true, at once and always, of a plain file in a test and of a module that is going away.
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn begin_chunk(&mut self) -> Result<Open, ChunkError> {
        let clocks = sys::clocks();
        let header = ChunkHeader {
            cpu: self.cpu,
            index: self.index,
            monotonic_ns: clocks.monotonic_ns,
            realtime_ns: clocks.realtime_ns,
            boottime_ns: clocks.boottime_ns,
            ..self.plan.header.clone()
        };
        let path = self.plan.dir.join(file_name(self.cpu, self.index));
        let mut writer = ChunkWriter::create(&path, &header)?;
        self.paths.push(path);
        self.index += 1;
        let (mark, known) = self.shared.names.begin_chunk(self.cpu);
        for piece in known {
            writer.block(BlockKind::Repeated, &piece)?;
        }
        Ok(Open {
            base: writer.bytes(),
            writer,
            mark,
            begun: Instant::now(),
        })
    }

    fn rotate_when_due(&mut self) -> Result<(), DrainError> {
        let due = self.open.as_ref().is_some_and(|open| {
            let written = open.writer.bytes() - open.base;
            let old = written > 0 && open.begun.elapsed() >= self.plan.rotate_after;
            old || written >= self.plan.rotate_bytes
        });
        if due {
            self.retire_now()?;
            let own_until = self.shared.names.now();
            let next = self.begin_chunk()?;
            if let Some(Open { writer, mark, .. }) = self.open.replace(next) {
                self.retiring = Some(Retiring {
                    writer,
                    mark,
                    own_until,
                    since: Instant::now(),
                });
            }
        }
        Ok(())
    }

    fn retire_when_due(&mut self) -> Result<(), DrainError> {
        if self
            .retiring
            .as_ref()
            .is_some_and(|r| r.since.elapsed() >= LINGER)
        {
            self.retire_now()?;
        }
        Ok(())
    }

    fn retire_now(&mut self) -> Result<(), ChunkError> {
        if let Some(Retiring {
            mut writer,
            mark,
            own_until,
            ..
        }) = self.retiring.take()
        {
            for piece in self.shared.names.end_chunk(mark, own_until) {
                writer.block(BlockKind::Repeated, &piece)?;
            }
            writer.finish()?;
        }
        Ok(())
    }

    /// Part of a record whose rest never came is kept too: the bytes are untouched to the last.
    fn write_rests(&mut self) -> Result<(), ChunkError> {
        if let Some(open) = &mut self.open {
            for (kind, channel) in [
                (BlockKind::Names, &mut self.names),
                (BlockKind::Refs, &mut self.refs),
            ] {
                let rest = channel.rest();
                if !rest.is_empty() {
                    open.writer.block(kind, rest)?;
                }
            }
        }
        Ok(())
    }

    /// Notes a failure. The chunk stays without its End block: its reader is told that something is missing.
    fn fail(&mut self, e: DrainError) {
        self.shared.failed.store(true, Ordering::Release);
        self.open = None;
        self.error.get_or_insert(e);
    }
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
