//! Second reading: the references of all CPUs and the marks between them, merged by (time, CPU, number).
//!
//! The heads of the CPUs are compared, so each CPU's own order is kept even
//! where its clock steps back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgtrace_capture::chunk::{BlockKind, ChunkError};
use pgtrace_capture::record::{Channel, PageRef, Record, Stamp};
use pgtrace_capture::wire::Item;
use rayon::prelude::*;

use crate::losses::Tracker;
use crate::marks::Mark;
use crate::source::{ChannelReader, Chunk, Piece};

/// Happenings a CPU has ready at most.
const READY: usize = 8192;

/// Bytes one CPU takes while it is merged: a block as it is on disk, and its happenings.
/// Blocks are the recorder's sub-buffers, 1 MiB unless it was told otherwise.
pub const BYTES_PER_CPU: u64 = (1 << 20) + (READY * size_of::<Happening>()) as u64 + (64 << 10);

/// What a refs channel tells, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A page was referenced, or entered or left the page cache.
    Ref(PageRef),
    /// Something else.
    Mark(Mark),
}

impl Happening {
    fn of(record: &Record) -> Option<Self> {
        match record {
            Record::Ref(r) => Some(Self::Ref(*r)),
            other => Mark::of(other).map(Self::Mark),
        }
    }

    fn time_ns(&self) -> u64 {
        match self {
            Self::Ref(r) => r.stamp.time_ns,
            Self::Mark(m) => m.stamp().time_ns,
        }
    }
}

/// What happened on one CPU, in its order.
struct Stream<'a> {
    cpu: u16,
    reader: ChannelReader<'a>,
    /// Keeps out what the first reading kept out: copies.
    account: Tracker,
    ready: Vec<Happening>,
    /// Next in `ready`.
    at: usize,
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
            ready: Vec::with_capacity(READY),
            at: 0,
            inside: None,
            ended: false,
        }
    }

    fn head(&self) -> Option<&Happening> {
        self.ready.get(self.at)
    }

    fn left(&self) -> usize {
        self.ready.len() - self.at
    }

    /// Decodes until `ready` is full or the chunks end.
    fn fill(&mut self) -> Result<(), ChunkError> {
        self.ready.drain(..self.at);
        self.at = 0;
        while self.ready.len() < READY && !self.ended {
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

    /// Decodes the block from byte `from` until `ready` is full; gives where to go on.
    fn decode(&mut self, from: usize) -> Option<usize> {
        let mut decoder = self.reader.decode(from);
        while self.ready.len() < READY {
            match decoder.next() {
                Some(Ok(Item::Record(record))) => {
                    let Stamp { seq, time_ns, .. } = record.stamp();
                    if self.account.accept(seq, time_ns)
                        && let Some(happening) = Happening::of(&record)
                    {
                        self.ready.push(happening);
                    }
                }
                Some(Ok(Item::Unknown {
                    seq, kind, version, ..
                })) => self.account.accept_unknown(seq, kind, version),
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
    /// (time, CPU, stream) of every other stream's head, least first.
    heads: BinaryHeap<Reverse<(u64, u16, usize)>>,
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
        };
        merge.fill()?;
        for index in 0..merge.streams.len() {
            merge.push_head(index);
        }
        Ok(merge)
    }

    /// What happened next and the CPU it happened on; `None` at the end.
    ///
    /// # Errors
    /// A chunk that cannot be read.
    pub fn next_one(&mut self) -> Result<Option<(u16, Happening)>, ChunkError> {
        let Some(Reverse((_, cpu, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        let Some(&happening) = stream.head() else {
            return Ok(None);
        };
        stream.at += 1;
        if stream.left() == 0 && !stream.ended {
            self.fill()?;
        }
        self.push_head(index);
        Ok(Some((cpu, happening)))
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
            && let Some(head) = stream.head()
        {
            self.heads
                .push(Reverse((head.time_ns(), stream.cpu, index)));
        }
    }
}
