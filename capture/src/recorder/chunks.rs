//! One CPU's chunks: the open one, the one before it that still waits for late names, and what ends them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::names::ChunkMark;
use super::shared::{Plan, Shared};
use crate::chunk::{BlockKind, ChunkError, ChunkHeader, ChunkWriter, file_name};
use crate::sys;

/// An ended chunk stays open this long, for names that other CPUs have not drained yet.
const LINGER: Duration = Duration::from_millis(300);

/// The chunks of one CPU.
#[derive(Debug)]
pub(super) struct Chunks<'a> {
    cpu: u16,
    plan: &'a Plan,
    shared: &'a Shared,
    index: u32,
    open: Option<Open>,
    retiring: Option<Retiring>,
    /// The first chunk, to be taken back when nothing comes of the recording.
    pub(super) first: Option<PathBuf>,
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
    /// Names up to here stand in the chunk's own Names blocks.
    own_until: u64,
    since: Instant,
    /// The snapshot it belongs to.
    snapshot: bool,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(cpu: u16, plan: &'a Plan, shared: &'a Shared) -> Chunks<'a> {
        Chunks {
            cpu,
            plan,
            shared,
            index: 0,
            open: None,
            retiring: None,
            first: None,
        }
    }

    /// Chunks begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.index.into()
    }

    /// Whether there is a chunk to write to.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Begins the next chunk.
    pub(super) fn begin(&mut self) -> Result<(), ChunkError> {
        let open = self.begin_chunk()?;
        self.open = Some(open);
        Ok(())
    }

    /// Appends a block to the open chunk; `false`: there is none.
    pub(super) fn block(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<bool, ChunkError> {
        match &mut self.open {
            Some(open) => {
                write(self.shared, &mut open.writer, kind, bytes)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Gives up on what is being written. The chunk stays without its End block: its reader is told that something is
    /// missing.
    pub(super) fn abandon(&mut self) {
        self.open = None;
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
        // Room for its end, too: that it can be finished is settled here.
        self.shared.grow(ChunkWriter::empty_bytes(&header));
        let mut writer = ChunkWriter::create(&path, &header)?;
        self.first.get_or_insert(path);
        self.index += 1;
        let (mark, known) = self.shared.names.begin_chunk(self.cpu);
        for piece in known {
            write(self.shared, &mut writer, BlockKind::Repeated, &piece)?;
        }
        Ok(Open {
            base: writer.bytes(),
            writer,
            mark,
            begun: Instant::now(),
        })
    }

    /// Begins the next chunk when the open one is large or old enough.
    pub(super) fn rotate_when_due(&mut self) -> Result<(), ChunkError> {
        let due = self.open.as_ref().is_some_and(|open| {
            let written = open.writer.bytes() - open.base;
            let old = written > 0 && open.begun.elapsed() >= self.plan.rotate_after;
            old || written >= self.plan.rotate_bytes
        });
        if due {
            self.rotate(false)?;
        }
        Ok(())
    }

    /// Ends the open chunk for a snapshot, and begins the next. `false`: it holds nothing.
    pub(super) fn cut(&mut self) -> Result<bool, ChunkError> {
        let holds = |open: &Open| open.writer.bytes() > open.base;
        if !self.open.as_ref().is_some_and(holds) {
            return Ok(false);
        }
        self.rotate(true)?;
        Ok(true)
    }

    fn rotate(&mut self, snapshot: bool) -> Result<(), ChunkError> {
        self.retire_now()?;
        let own_until = self.shared.names.now();
        let next = self.begin_chunk()?;
        let ended = self.open.replace(next);
        self.retire(ended, own_until, snapshot);
        Ok(())
    }

    /// Ends the open chunk of a snapshot: it gets the names that are still to come. `false`: there is none.
    pub(super) fn close_snapshot(&mut self) -> Result<bool, ChunkError> {
        self.retire_now()?;
        let ended = self.open.take();
        // It has no Names blocks: all names learned since it began are to be repeated.
        Ok(self.retire(ended, 0, true))
    }

    fn retire(&mut self, ended: Option<Open>, own_until: u64, snapshot: bool) -> bool {
        self.retiring = ended.map(|Open { writer, mark, .. }| Retiring {
            writer,
            mark,
            own_until,
            since: Instant::now(),
            snapshot,
        });
        self.retiring.is_some()
    }

    /// Completes the chunk before the open one, when it has waited long enough for late names.
    pub(super) fn retire_when_due(&mut self) -> Result<(), ChunkError> {
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
            since,
            snapshot,
        }) = self.retiring.take()
        {
            for piece in self.shared.names.end_chunk(mark, own_until) {
                write(self.shared, &mut writer, BlockKind::Repeated, &piece)?;
            }
            let path = writer.path().to_path_buf();
            let bytes = if snapshot {
                writer.finish_durably()?
            } else {
                writer.finish()?
            };
            self.shared.keep.finished(&path, bytes, since);
            if snapshot {
                self.shared.snapshots.finished(Some(path));
            }
        }
        Ok(())
    }

    /// Ends the last chunk, when every CPU has drained all it had.
    pub(super) fn finish(&mut self, totals: &[u8]) -> Result<(), ChunkError> {
        self.retire_now()?;
        if let Some(Open {
            mut writer, mark, ..
        }) = self.open.take()
        {
            for piece in self.shared.names.end_chunk(mark, self.plan.own_names()) {
                write(self.shared, &mut writer, BlockKind::Repeated, &piece)?;
            }
            write(self.shared, &mut writer, BlockKind::Totals, totals)?;
            let path = writer.path().to_path_buf();
            let bytes = writer.finish()?;
            self.shared.keep.finished(&path, bytes, Instant::now());
        }
        Ok(())
    }
}

fn write(
    shared: &Shared,
    writer: &mut ChunkWriter,
    kind: BlockKind,
    bytes: &[u8],
) -> Result<(), ChunkError> {
    shared.grow(ChunkWriter::block_bytes(bytes));
    writer.block(kind, bytes)
}
