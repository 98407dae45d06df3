//! Second reading: the references of all CPUs, merged by (time, CPU, number).
//!
//! The heads of the CPUs are compared, so each CPU's own order is kept even
//! where its clock steps back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgtrace_capture::chunk::{BlockKind, ChunkError};
use pgtrace_capture::record::{Channel, PageRef, Record};
use pgtrace_capture::wire::Item;
use rayon::prelude::*;

use crate::losses::Tracker;
use crate::source::{ChannelReader, Chunk, Piece};

/// References a CPU has ready at most.
const READY: usize = 8192;

/// Bytes one CPU takes while it is merged: a block as it is on disk, and its references.
/// Blocks are the recorder's sub-buffers, 1 MiB unless it was told otherwise.
pub const BYTES_PER_CPU: u64 = (1 << 20) + (READY * size_of::<PageRef>()) as u64 + (64 << 10);

/// The references of one CPU, in its order.
struct Stream<'a> {
    cpu: u16,
    reader: ChannelReader<'a>,
    /// Keeps out what the first reading kept out: copies.
    account: Tracker,
    ready: Vec<PageRef>,
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

    fn head(&self) -> Option<&PageRef> {
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
                    Some(Piece::Block(_) | Piece::Damage(_)) => {}
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
                Some(Ok(Item::Record(Record::Ref(r)))) => {
                    if self.account.accept(r.stamp.seq, r.stamp.time_ns) {
                        self.ready.push(r);
                    }
                }
                Some(Ok(Item::Record(other))) => {
                    let stamp = other.stamp();
                    self.account.accept(stamp.seq, stamp.time_ns);
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

/// The merged reference string of a recording.
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

    /// The next reference and the CPU that made it; `None` at the end.
    ///
    /// # Errors
    /// A chunk that cannot be read.
    pub fn next_ref(&mut self) -> Result<Option<(u16, PageRef)>, ChunkError> {
        let Some(Reverse((_, cpu, index))) = self.heads.pop() else {
            return Ok(None);
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        let Some(&r) = stream.head() else {
            return Ok(None);
        };
        stream.at += 1;
        if stream.left() == 0 && !stream.ended {
            self.fill()?;
        }
        self.push_head(index);
        Ok(Some((cpu, r)))
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
                .push(Reverse((head.stamp.time_ns, stream.cpu, index)));
        }
    }
}
