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

use crate::losses::Tracker;
use crate::marks::Mark;
use crate::row::Row;
use crate::source::{ChannelReader, Chunk, Piece};

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
        /// Whose chunks they stood in; of a translated table, a row says another CPU.
        cpu: u16,
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

/// What happened on one CPU, in its order.
struct Stream<'a> {
    cpu: u16,
    reader: ChannelReader<'a>,
    /// Keeps out what the first reading kept out: copies.
    account: Tracker,
    /// Latest time so far.
    key: u64,
    /// References that are ready; until it is given out, a row's `seq` is its key.
    rows: Vec<Row>,
    /// Next in `rows`.
    at: usize,
    /// Marks that are ready.
    marks: VecDeque<Marked>,
    /// Where in the reader's block decoding goes on; `None`: the block is used up.
    inside: Option<usize>,
    ended: bool,
}

impl<'a> Stream<'a> {
    fn new(cpu: u16, chunks: &'a [Chunk]) -> Self {
        Self {
            cpu,
            reader: ChannelReader::new(chunks),
            account: Tracker::new(cpu, Channel::Refs),
            key: 0,
            rows: Vec::with_capacity(READY),
            at: 0,
            marks: VecDeque::new(),
            inside: None,
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

    /// Key of what comes next.
    fn head(&self) -> Option<u64> {
        match self.marks.front() {
            Some(marked) if marked.before <= self.at => Some(marked.key),
            _ => self.rows.get(self.at).map(|row| row.seq),
        }
    }

    /// Decodes until enough is ready or the chunks end.
    fn fill(&mut self) -> Result<(), ChunkError> {
        self.rows.drain(..self.at);
        for marked in &mut self.marks {
            marked.before -= self.at;
        }
        self.at = 0;
        while self.left() < READY && !self.ended {
            let Some(from) = self.inside else {
                match self.reader.next_piece()? {
                    Some(Piece::Block(BlockKind::Refs)) => self.inside = Some(0),
                    Some(Piece::Block(_) | Piece::Damage(_) | Piece::Absent) => {}
                    None => self.ended = true,
                }
                continue;
            };
            self.inside = self.decode(from);
        }
        Ok(())
    }

    /// Decodes the block from byte `from` until there is enough ready; gives where to go on.
    fn decode(&mut self, from: usize) -> Option<usize> {
        let Self {
            reader,
            account,
            key,
            rows,
            marks,
            ..
        } = self;
        let mut decoder = reader.decode(from);
        while rows.len() + marks.len() < READY {
            let room = READY - marks.len();
            decoder.page_refs(|r| {
                let Stamp { seq, time_ns, .. } = r.stamp;
                if account.accept(seq, time_ns) {
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
                    if !account.accept(seq, time_ns) {
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
    /// Merges the CPUs of a recording.
    ///
    /// # Errors
    /// A chunk that cannot be read.
    pub fn new(cpus: impl Iterator<Item = (u16, &'a [Chunk])>) -> Result<Self, ChunkError> {
        let streams = cpus.map(|(cpu, chunks)| Stream::new(cpu, chunks)).collect();
        let mut merge = Self {
            streams,
            heads: BinaryHeap::new(),
            out: None,
            seq: 0,
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
    pub fn next_run(&mut self) -> Result<Option<Next<'_>>, ChunkError> {
        if let Some(index) = self.out.take() {
            let dry = |s: &Stream<'_>| s.left() == 0 && !s.ended;
            if self.streams.get(index).is_some_and(dry) {
                self.fill()?;
            }
            self.push_head(index);
        }
        let Some(Reverse((_, cpu, index))) = self.heads.pop() else {
            return Ok(None);
        };
        self.out = Some(index);
        let bound = self.heads.peek().map(|Reverse((key, cpu, _))| (*key, *cpu));
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        let left = stream.rows_left();
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
            if n > 0 && bound.is_some_and(|bound| (row.seq, cpu) >= bound) {
                break;
            }
            row.seq = self.seq;
            self.seq += 1;
            n += 1;
        }
        stream.at += n;
        let rows = rows.get_mut(..n);
        Ok(rows.map(|rows| Next::Rows { cpu, rows }))
    }

    /// Tops up all CPUs that run low, side by side: one that runs dry is seldom alone.
    fn fill(&mut self) -> Result<(), ChunkError> {
        self.streams
            .par_iter_mut()
            .filter(|s| !s.ended && s.left() < READY / 2)
            .try_for_each(Stream::fill)
    }

    fn push_head(&mut self, index: usize) {
        if let Some(stream) = self.streams.get(index)
            && let Some(key) = stream.head()
        {
            self.heads.push(Reverse((key, stream.cpu, index)));
        }
    }
}
