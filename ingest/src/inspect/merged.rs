//! The records of a recording in order of time, whatever CPU and channel they stood in: what the 2005 `reorder` did.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgtrace_capture::chunk::{BlockKind, ChunkError};
use pgtrace_capture::record::{Channel, Record};
use pgtrace_capture::wire::Item;

use super::{Context, InspectError, Printer};
use crate::losses::Tracker;
use crate::source::{ChannelReader, Chunk, Piece, Recording};

/// Records a channel has ready at most.
const READY: usize = 1024;

/// What a channel says next.
enum Said {
    Record(Record),
    /// Place, and what is wrong there.
    Damage(String),
}

/// One channel of a CPU.
struct Stream<'a> {
    kind: BlockKind,
    reader: ChannelReader<'a>,
    /// Keeps out copies.
    account: Tracker,
    ready: std::collections::VecDeque<Said>,
    /// Where in the reader's block decoding goes on; `None`: the block is used up.
    inside: Option<usize>,
    ended: bool,
    last_ns: u64,
}

impl<'a> Stream<'a> {
    fn new(cpu: u16, channel: Channel, chunks: &'a [Chunk]) -> Self {
        Self {
            kind: match channel {
                Channel::Refs => BlockKind::Refs,
                Channel::Names => BlockKind::Names,
            },
            reader: ChannelReader::new(chunks),
            account: Tracker::new(cpu, channel),
            ready: std::collections::VecDeque::with_capacity(READY),
            inside: None,
            ended: false,
            last_ns: 0,
        }
    }

    fn fill(&mut self) -> Result<(), ChunkError> {
        while self.ready.is_empty() && !self.ended {
            let Some(from) = self.inside else {
                match self.reader.next_piece()? {
                    Some(Piece::Block(kind)) if kind == self.kind => self.inside = Some(0),
                    // Both channels meet the same damage: told once.
                    Some(Piece::Damage(d)) if self.kind == BlockKind::Refs => {
                        self.ready
                            .push_back(Said::Damage(format!("{} {}", d.cause, d.detail)));
                    }
                    Some(Piece::Block(_) | Piece::Damage(_) | Piece::Absent) => {}
                    None => self.ended = true,
                }
                continue;
            };
            self.inside = self.decode(from);
        }
        Ok(())
    }

    fn decode(&mut self, from: usize) -> Option<usize> {
        let mut decoder = self.reader.decode(from);
        while self.ready.len() < READY {
            match decoder.next() {
                Some(Ok(Item::Record(record))) => {
                    let stamp = record.stamp();
                    if self.account.accept(stamp.seq, stamp.time_ns) {
                        self.ready.push_back(Said::Record(record));
                    }
                }
                Some(Ok(Item::Unknown { .. })) => {}
                Some(Err(e)) => {
                    let damage = self.reader.undecodable(from, &e);
                    let text = format!("{} {}", damage.cause, damage.detail);
                    self.ready.push_back(Said::Damage(text));
                    return None;
                }
                None => return None,
            }
        }
        Some(from + usize::try_from(decoder.offset()).unwrap_or(0))
    }

    /// Time of what comes next; damage stands where it was found.
    fn head_ns(&self) -> Option<u64> {
        self.ready.front().map(|said| match said {
            Said::Record(r) => r.stamp().time_ns,
            Said::Damage(_) => self.last_ns,
        })
    }
}

/// Shows the records of `recording` by (time, CPU, channel, number).
pub(super) fn show(
    recording: &Recording,
    context: &Context,
    printer: &mut Printer<'_>,
) -> Result<(), InspectError> {
    let mut streams = Vec::new();
    for (cpu, chunks) in &recording.cpus {
        for channel in [Channel::Names, Channel::Refs] {
            streams.push(Stream::new(*cpu, channel, chunks));
        }
    }
    // Streams stand by CPU, names first: what is used at a moment is named before it.
    let mut heads = BinaryHeap::new();
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.fill()?;
        heads.extend(stream.head_ns().map(|ns| Reverse((ns, index))));
    }
    while let Some(Reverse((_, index))) = heads.pop() {
        let Some(stream) = streams.get_mut(index) else {
            continue;
        };
        match stream.ready.pop_front() {
            Some(Said::Record(record)) => {
                stream.last_ns = record.stamp().time_ns;
                printer.record(&record, context)?;
            }
            Some(Said::Damage(text)) => printer.found(&text)?,
            None => {}
        }
        if printer.is_done() {
            return Ok(());
        }
        stream.fill()?;
        heads.extend(stream.head_ns().map(|ns| Reverse((ns, index))));
    }
    Ok(())
}
