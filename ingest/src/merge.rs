//! Second reading: the references of all CPUs and the marks between them, merged by (time, CPU, number).
//!
//! The heads of the CPUs are compared, so each CPU's own order is kept even where its clock steps back. That is the order
//! by (latest time so far on that CPU, CPU, number): the first of these is the key. References come in runs of one CPU,
//! each as long as that order allows.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use pgtrace_capture::chunk::{BlockKind, ChunkError};
use pgtrace_capture::record::{Channel, Record, Stamp};
use pgtrace_capture::wire::Item;
use rayon::prelude::*;

use crate::error::IngestError;
use crate::losses::Tracker;
use crate::marks::Mark;
use crate::row::Row;
use crate::source::{ChannelReader, Chunk, Piece, Seen};
use crate::stored::StoredRows;

/// Happenings a CPU has ready at most.
const READY: usize = 4096;

/// Bytes one CPU takes while it is merged: a block as it is on disk, and its happenings.
/// Blocks are the recorder's sub-buffers, 1 MiB unless it was told otherwise.
pub const BYTES_PER_CPU: u64 =
    (1 << 20) + (READY * (size_of::<Row>() + size_of::<Marked>())) as u64 + (64 << 10);

/// What comes next in a recording.
#[derive(Debug)]
pub enum Next<'a> {
    /// References, numbered.
    Rows {
        /// The CPU whose chunks they stood in; `None`: they were stored already.
        of: Option<u16>,
        /// The references.
        rows: &'a mut [Row],
    },
    /// Something else.
    Mark(Mark),
}

/// A mark that stands before row `before` of its stream's ready ones.
struct Marked {
    before: usize,
    key: u64,
    mark: Mark,
}

/// The chunks of one CPU that are to be merged.
pub struct Input<'a> {
    /// The CPU.
    pub cpu: u16,
    /// Its chunks in order, and the latest time in chunks before each that are not among them.
    pub chunks: Vec<(&'a Chunk, u64)>,
    /// Numbers that are left out: they are rows already.
    pub seen: Seen,
}

impl<'a> Input<'a> {
    /// All chunks of a CPU.
    pub fn all(cpu: u16, chunks: &'a [Chunk]) -> Self {
        Self {
            cpu,
            chunks: chunks.iter().map(|c| (c, 0)).collect(),
            seen: Seen::default(),
        }
    }
}

/// What happened on one CPU, in its order; or what is stored already, of all CPUs.
struct Stream<'a> {
    /// `None`: each row has its own.
    cpu: Option<u16>,
    source: Source<'a>,
    /// Latest time so far.
    key: u64,
    /// References that are ready; until it is given out, a row's `seq` is its key.
    rows: Vec<Row>,
    /// Next in `rows`.
    at: usize,
    /// Marks that are ready.
    marks: VecDeque<Marked>,
    ended: bool,
}

enum Source<'a> {
    Chunks(Box<Chunks<'a>>),
    Stored(Box<StoredRows<'a>>),
}

struct Chunks<'a> {
    input: Input<'a>,
    /// The next chunk of the input.
    next: usize,
    reader: Option<ChannelReader<'a>>,
    /// Keeps out what the first reading kept out: copies.
    account: Tracker,
    /// Where in the reader's block decoding goes on; `None`: the block is used up.
    inside: Option<usize>,
}

impl<'a> Stream<'a> {
    fn new(cpu: Option<u16>, source: Source<'a>) -> Self {
        Self {
            cpu,
            source,
            key: 0,
            rows: Vec::with_capacity(READY),
            at: 0,
            marks: VecDeque::new(),
            ended: false,
        }
    }

    fn left(&self) -> usize {
        self.rows.len() - self.at + self.marks.len()
    }

    /// Rows that may be given out before the next mark.
    fn rows_left(&self) -> usize {
        let end = self.marks.front().map_or(self.rows.len(), |m| m.before);
        end.saturating_sub(self.at)
    }

    /// Key and CPU of what comes next.
    fn head(&self) -> Option<(u64, u16)> {
        let cpu = self.cpu;
        match self.marks.front() {
            Some(marked) if marked.before <= self.at => Some((marked.key, cpu.unwrap_or_default())),
            _ => {
                let row = self.rows.get(self.at)?;
                Some((row.seq, cpu.unwrap_or(row.cpu)))
            }
        }
    }

    /// Decodes until enough is ready or the chunks end.
    fn fill(&mut self) -> Result<(), IngestError> {
        self.rows.drain(..self.at);
        for marked in &mut self.marks {
            marked.before -= self.at;
        }
        self.at = 0;
        let Self {
            source,
            key,
            rows,
            marks,
            ended,
            ..
        } = self;
        while rows.len() + marks.len() < READY && !*ended {
            *ended = match source {
                Source::Chunks(chunks) => !chunks.read(key, rows, marks)?,
                Source::Stored(stored) => !stored.read(key, rows, READY)?,
            };
        }
        Ok(())
    }
}

impl Chunks<'_> {
    /// Reads on a little; `false`: there is nothing more.
    fn read(
        &mut self,
        key: &mut u64,
        rows: &mut Vec<Row>,
        marks: &mut VecDeque<Marked>,
    ) -> Result<bool, ChunkError> {
        if let Some(from) = self.inside {
            self.inside = self.decode(from, key, rows, marks);
            return Ok(true);
        }
        let Some(reader) = &mut self.reader else {
            let Some((chunk, before)) = self.input.chunks.get(self.next) else {
                return Ok(false);
            };
            self.next += 1;
            *key = (*key).max(*before);
            self.reader = Some(ChannelReader::new(std::slice::from_ref(*chunk)));
            return Ok(true);
        };
        match reader.next_piece()? {
            Some(Piece::Block(BlockKind::Refs)) => self.inside = Some(0),
            Some(Piece::Block(_) | Piece::Damage(_) | Piece::Absent) => {}
            None => self.reader = None,
        }
        Ok(true)
    }

    /// Decodes the block from byte `from` until enough is ready; gives where to go on.
    fn decode(
        &mut self,
        from: usize,
        key: &mut u64,
        rows: &mut Vec<Row>,
        marks: &mut VecDeque<Marked>,
    ) -> Option<usize> {
        let Self {
            input,
            reader,
            account,
            ..
        } = self;
        let seen = &mut input.seen;
        let mut decoder = reader.as_ref()?.decode(from);
        while rows.len() + marks.len() < READY {
            let room = READY - marks.len();
            decoder.page_refs(|r| {
                let Stamp { seq, time_ns, .. } = r.stamp;
                if !seen.contains(seq) && account.accept(seq, time_ns) {
                    *key = time_ns.max(*key);
                    rows.push(Row::new(*key, r.stamp.cpu, r));
                }
                rows.len() < room
            });
            if rows.len() >= room {
                break;
            }
            match decoder.next() {
                Some(Ok(Item::Record(record))) => {
                    let Stamp { seq, time_ns, .. } = record.stamp();
                    if seen.contains(seq) || !account.accept(seq, time_ns) {
                        continue;
                    }
                    *key = time_ns.max(*key);
                    match &record {
                        Record::Ref(r) => rows.push(Row::new(*key, r.stamp.cpu, r)),
                        other => marks.extend(Mark::of(other).map(|mark| Marked {
                            before: rows.len(),
                            key: *key,
                            mark,
                        })),
                    }
                }
                Some(Ok(Item::Unknown {
                    seq, kind, version, ..
                })) => account.accept_unknown(seq, kind, version),
                // Told and counted by the first reading.
                Some(Err(_)) | None => return None,
            }
        }
        Some(from + decoder.offset() as usize)
    }
}

/// The merged reference string of a recording, and the marks in it.
pub struct Merge<'a> {
    streams: Vec<Stream<'a>>,
    /// (key, CPU, stream) of what every other stream has next, least first.
    heads: BinaryHeap<Reverse<(u64, u16, usize)>>,
    /// The stream that gave last; it is not among the heads.
    out: Option<usize>,
    seq: u64,
}

impl<'a> Merge<'a> {
    /// Merges all chunks of these CPUs.
    ///
    /// # Errors
    /// A chunk that cannot be read.
    pub fn new(cpus: impl Iterator<Item = (u16, &'a [Chunk])>) -> Result<Self, IngestError> {
        let inputs = cpus.map(|(cpu, chunks)| Input::all(cpu, chunks));
        Self::with(inputs.collect(), None, 0)
    }

    /// Merges CPUs of a recording, and the rows of it that are stored already (before what is new, where nothing else
    /// tells); the first reference gets number `first`.
    ///
    /// # Errors
    /// A chunk that cannot be read.
    pub(crate) fn with(
        inputs: Vec<Input<'a>>,
        stored: Option<StoredRows<'a>>,
        first: u64,
    ) -> Result<Self, IngestError> {
        let stored = stored.map(|s| Stream::new(None, Source::Stored(Box::new(s))));
        let chunks = inputs.into_iter().map(|input| {
            let cpu = input.cpu;
            let chunks = Chunks {
                account: Tracker::new(cpu, Channel::Refs),
                input,
                next: 0,
                reader: None,
                inside: None,
            };
            Stream::new(Some(cpu), Source::Chunks(Box::new(chunks)))
        });
        let mut merge = Self {
            streams: stored.into_iter().chain(chunks).collect(),
            heads: BinaryHeap::new(),
            out: None,
            seq: first,
        };
        merge.fill()?;
        for index in 0..merge.streams.len() {
            merge.push_head(index);
        }
        Ok(merge)
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// A chunk that cannot be read.
    pub fn next_run(&mut self) -> Result<Option<Next<'_>>, IngestError> {
        if let Some(index) = self.out.take() {
            let dry = |s: &Stream<'_>| s.left() == 0 && !s.ended;
            if self.streams.get(index).is_some_and(dry) {
                self.fill()?;
            }
            self.push_head(index);
        }
        let Some(Reverse((_, _, index))) = self.heads.pop() else {
            return Ok(None);
        };
        self.out = Some(index);
        let bound = self.heads.peek().map(|Reverse(head)| *head);
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        let (cpu, left) = (stream.cpu, stream.rows_left());
        if left == 0 {
            let marked = stream.marks.pop_front();
            return Ok(marked.map(|m| Next::Mark(m.mark)));
        }
        let rows = stream
            .rows
            .get_mut(stream.at..stream.at + left)
            .unwrap_or_default();
        let mut n = 0;
        for row in rows.iter_mut() {
            // The first is the head, which is before the bound.
            let head = (row.seq, cpu.unwrap_or(row.cpu), index);
            if n > 0 && bound.is_some_and(|bound| head > bound) {
                break;
            }
            row.seq = self.seq;
            self.seq += 1;
            n += 1;
        }
        stream.at += n;
        Ok(rows.get_mut(..n).map(|rows| Next::Rows { of: cpu, rows }))
    }

    /// Tops up all CPUs that run low, side by side: one that runs dry is seldom alone.
    fn fill(&mut self) -> Result<(), IngestError> {
        self.streams
            .par_iter_mut()
            .filter(|s| !s.ended && s.left() < READY / 2)
            .try_for_each(Stream::fill)
    }

    fn push_head(&mut self, index: usize) {
        if let Some(stream) = self.streams.get(index)
            && let Some((key, cpu)) = stream.head()
        {
            self.heads.push(Reverse((key, cpu, index)));
        }
    }
}
