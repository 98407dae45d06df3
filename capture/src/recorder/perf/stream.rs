//! Where translated records go: a CPU's two channels, numbered as the module numbers them, into its chunks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::names::{ChunkMark, Names};
use super::translate::Sink;
use crate::chunk::{BlockKind, ChunkError, ChunkHeader, ChunkWriter, file_name};
use crate::record::{Channel, Lost, LostCause, PageRef, Record, Stamp};
use crate::sys;
use crate::wire;

/// A block is written when it has grown to this.
const BLOCK: usize = 1 << 20;

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

/// All CPUs' streams.
#[derive(Debug)]
pub(super) struct Streams {
    plan: Plan,
    names: Names,
    pub(super) list: Vec<Stream>,
}

/// One CPU's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) cpu: u16,
    names: Buffer,
    refs: Buffer,
    /// When the last reference was made, or lost.
    last_ns: u64,
    lost_records: u64,
    index: u32,
    /// `None` once it could not be written.
    open: Option<Open>,
    pub(super) paths: Vec<PathBuf>,
    /// Records that found no room in perf's ring.
    pub(super) lost: u64,
    pub(super) error: Option<ChunkError>,
    /// Records that were not written, after an error.
    pub(super) discarded: u64,
}

/// Records of a channel on their way to a block.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    waiting: u64,
    /// The next record's number.
    seq: u64,
    /// Records, without the lost ones.
    pub(super) records: u64,
    pub(super) total_bytes: u64,
}

impl Buffer {
    fn push(&mut self, record: &Record) {
        let before = self.bytes.len();
        wire::encode(record, &mut self.bytes);
        self.total_bytes += (self.bytes.len() - before) as u64;
        self.seq += 1;
        self.records += 1;
        self.waiting += 1;
    }
}

#[derive(Debug)]
struct Open {
    writer: ChunkWriter,
    mark: ChunkMark,
    begun: Instant,
    /// Bytes of header and repeated names.
    base: u64,
}

impl Streams {
    /// Begins the first chunk of every CPU (in order of their numbers); `paths` gets the chunks begun, also on an error.
    pub(super) fn begin(
        plan: Plan,
        cpus: &[u16],
        paths: &mut Vec<PathBuf>,
    ) -> Result<Streams, ChunkError> {
        let mut streams = Streams {
            plan,
            names: Names::default(),
            list: Vec::new(),
        };
        for &cpu in cpus {
            let mut stream = Stream {
                cpu,
                names: Buffer::default(),
                refs: Buffer::default(),
                last_ns: 0,
                lost_records: 0,
                index: 0,
                open: None,
                paths: Vec::new(),
                lost: 0,
                error: None,
                discarded: 0,
            };
            let begun = stream.begin_chunk(&streams.plan, &streams.names);
            paths.append(&mut stream.paths.clone());
            stream.open = Some(begun?);
            streams.list.push(stream);
        }
        Ok(streams)
    }

    /// Writes what waits, and begins new chunks where it is time. Says whether all could be written.
    pub(super) fn flush(&mut self) -> bool {
        for stream in &mut self.list {
            stream.flush();
            stream.rotate_when_due(&self.plan, &self.names);
        }
        self.list.iter().all(|s| s.error.is_none())
    }

    /// Ends the last chunks.
    pub(super) fn finish(&mut self, totals: &[u8]) {
        for stream in &mut self.list {
            stream.flush();
            stream.end_chunk(&self.names, Some(totals));
        }
    }

    fn stream(&mut self, cpu: u16) -> Option<(&mut Stream, &Names)> {
        let at = self.list.binary_search_by_key(&cpu, |s| s.cpu).ok()?;
        Some((self.list.get_mut(at)?, &self.names))
    }
}

impl Sink for Streams {
    fn name(&mut self, cpu: u16, time_ns: u64, record: impl FnOnce(Stamp) -> Record) {
        let Some((stream, names)) = self.stream(cpu) else {
            return;
        };
        let begin = stream.names.bytes.len();
        let stamp = Stamp {
            cpu,
            seq: stream.names.seq,
            time_ns,
        };
        stream.names.push(&record(stamp));
        names.learn(cpu, stream.names.bytes.get(begin..).unwrap_or_default());
        stream.flush_when_full();
    }

    fn page_ref(&mut self, cpu: u16, time_ns: u64, record: impl FnOnce(Stamp) -> PageRef) {
        let Some((stream, _)) = self.stream(cpu) else {
            return;
        };
        let stamp = stream.stamp(time_ns);
        stream.refs.push(&Record::Ref(record(stamp)));
        stream.flush_when_full();
    }

    fn lost(&mut self, cpu: u16, time_ns: u64, count: u64) {
        let Some((stream, _)) = self.stream(cpu) else {
            return;
        };
        // Each lost record keeps its number; that of the record that tells so comes after.
        let (first_seq, first_ns) = (stream.refs.seq, stream.last_ns);
        stream.refs.seq += count;
        stream.lost += count;
        stream.lost_records += 1;
        let stamp = stream.stamp(time_ns);
        stream.refs.push(&Record::Lost(Lost {
            stamp,
            count,
            first_seq,
            first_ns,
            last_ns: stamp.time_ns,
            channel: Channel::Refs,
            cause: LostCause::BufferFull,
        }));
    }
}

impl Stream {
    /// Of the CPU's next reference. Time never goes backwards among them.
    fn stamp(&mut self, time_ns: u64) -> Stamp {
        self.last_ns = self.last_ns.max(time_ns);
        Stamp {
            cpu: self.cpu,
            seq: self.refs.seq,
            time_ns: self.last_ns,
        }
    }

    /// Records of refs and names, and bytes of both, so far.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let bytes = self.refs.total_bytes + self.names.total_bytes;
        (self.refs.records, self.names.records, bytes)
    }

    /// References so far.
    pub(super) fn page_refs(&self) -> u64 {
        self.refs.records - self.lost_records
    }

    fn flush_when_full(&mut self) {
        if self.refs.bytes.len().max(self.names.bytes.len()) >= BLOCK {
            self.flush();
        }
    }

    /// Names first: they introduce what references name.
    fn flush(&mut self) {
        for (kind, buffer) in [
            (BlockKind::Names, &mut self.names),
            (BlockKind::Refs, &mut self.refs),
        ] {
            if buffer.bytes.is_empty() {
                continue;
            }
            let written = match &mut self.open {
                Some(open) => open.writer.block(kind, &buffer.bytes).map(|()| true),
                None => Ok(false),
            };
            if !matches!(written, Ok(true)) {
                self.discarded += buffer.waiting;
            }
            if let Err(e) = written {
                // Without its End block the chunk's reader is told that something is missing.
                self.open = None;
                self.error.get_or_insert(e);
            }
            buffer.bytes.clear();
            buffer.waiting = 0;
        }
    }

    fn begin_chunk(&mut self, plan: &Plan, names: &Names) -> Result<Open, ChunkError> {
        let clocks = sys::clocks();
        let header = ChunkHeader {
            cpu: self.cpu,
            index: self.index,
            monotonic_ns: clocks.monotonic_ns,
            realtime_ns: clocks.realtime_ns,
            boottime_ns: clocks.boottime_ns,
            ..plan.header.clone()
        };
        let path = plan.dir.join(file_name(self.cpu, self.index));
        let mut writer = ChunkWriter::create(&path, &header)?;
        self.paths.push(path);
        self.index += 1;
        let (mark, known) = names.begin_chunk(self.cpu);
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

    fn rotate_when_due(&mut self, plan: &Plan, names: &Names) {
        let due = self.open.as_ref().is_some_and(|open| {
            let written = open.writer.bytes() - open.base;
            let old = written > 0 && open.begun.elapsed() >= plan.rotate_after;
            old || written >= plan.rotate_bytes
        });
        if !due {
            return;
        }
        self.end_chunk(names, None);
        match self.begin_chunk(plan, names) {
            Ok(open) => self.open = Some(open),
            Err(e) => {
                self.error.get_or_insert(e);
            }
        }
    }

    /// Everything translated so far is in the chunks: the names that its references need are known, whatever CPU's they
    /// are.
    fn end_chunk(&mut self, names: &Names, totals: Option<&[u8]>) {
        let Some(Open {
            mut writer, mark, ..
        }) = self.open.take()
        else {
            return;
        };
        let mut write = || {
            for piece in names.end_chunk(mark, u64::MAX) {
                writer.block(BlockKind::Repeated, &piece)?;
            }
            if let Some(totals) = totals {
                writer.block(BlockKind::Totals, totals)?;
            }
            Ok(())
        };
        let ended = write().and_then(|()| writer.finish());
        if let Err(e) = ended {
            self.error.get_or_insert(e);
        }
    }
}
