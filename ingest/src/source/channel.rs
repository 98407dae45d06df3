//! The blocks of one CPU's chunks, in order, damage in its place.

use pgtrace_capture::chunk::{BlockKind, ChunkError, ChunkReader, Step};
use pgtrace_capture::wire::{self, ByteOrder, DecodeError};

use super::{Chunk, Input, Place};
use crate::losses::Damage;

/// What stands next in a CPU's chunks.
#[derive(Debug)]
pub enum Piece {
    /// A whole block; its payload is in [`ChannelReader::payload`].
    Block(BlockKind),
    /// Bytes that cannot be used.
    Damage(Damage),
    /// Before the chunk that follows, others of the same CPU are not there, although some before them are.
    Absent,
}

/// Reads the chunks of one CPU one after the other; one file is open at a time.
#[derive(Debug)]
pub struct ChannelReader<'a> {
    chunks: std::slice::Iter<'a, Chunk>,
    open: Option<(&'a Chunk, ChunkReader<Input>)>,
    /// Index of the chunk that should follow, behind the first one.
    follows: Option<u32>,
    payload: Vec<u8>,
    /// Where the payload begins in its file.
    offset: u64,
}

impl<'a> ChannelReader<'a> {
    /// Starts before the first block of the first chunk.
    pub fn new(chunks: &'a [Chunk]) -> Self {
        Self {
            chunks: chunks.iter(),
            open: None,
            follows: None,
            payload: Vec::new(),
            offset: 0,
        }
    }

    /// The next block or damage; `None` behind the last chunk.
    ///
    /// # Errors
    /// A chunk that can no longer be read. Damage is not an error.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ChunkError> {
        loop {
            let (chunk, reader) = match &mut self.open {
                Some(open) => open,
                None => match self.chunks.next() {
                    Some(chunk) => {
                        let index = chunk.header.index;
                        self.open = Some((chunk, chunk.place.chunk()?));
                        let follows = self.follows.replace(index.saturating_add(1));
                        if follows.is_some_and(|follows| follows != index) {
                            return Ok(Some(Piece::Absent));
                        }
                        continue;
                    }
                    None => return Ok(None),
                },
            };
            match reader.next_block(&mut self.payload)? {
                Some(Step::Block { kind, offset }) => {
                    self.offset = offset;
                    return Ok(Some(Piece::Block(kind)));
                }
                Some(Step::Damage {
                    offset,
                    bytes,
                    cause,
                    detail,
                }) => {
                    let place = format!("{}: byte {offset} ({bytes} bytes)", chunk.name());
                    return Ok(Some(Piece::Damage(Damage {
                        cause: cause.as_str(),
                        detail: format!("{place}: {detail}"),
                    })));
                }
                None => self.open = None,
            }
        }
    }

    /// Bytes of the block that [`ChannelReader::next_piece`] found last.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The chunk that is open, and where in it the payload begins.
    pub fn position(&self) -> Option<(&Place, u64)> {
        let (chunk, _) = self.open.as_ref()?;
        Some((&chunk.place, self.offset))
    }

    /// Byte `at` of the payload, for people: file and byte offset.
    pub fn place(&self, at: u64) -> String {
        let name = self.open.as_ref().map(|(chunk, _)| chunk.name());
        format!("{}: byte {}", name.unwrap_or_default(), self.offset + at)
    }

    /// Byte order of the chunk that is open.
    pub fn byte_order(&self) -> ByteOrder {
        self.open
            .as_ref()
            .map_or(ByteOrder::NATIVE, |(_, reader)| reader.header().byte_order)
    }

    /// The records of the payload from byte `from` on.
    pub fn decode(&self, from: usize) -> wire::Decoder<'_> {
        wire::decode(
            self.payload.get(from..).unwrap_or_default(),
            self.byte_order(),
        )
    }

    /// Puts a name to a record of the payload that cannot be decoded; `from` is
    /// where decoding had begun.
    pub fn undecodable(&self, from: usize, e: &DecodeError) -> Damage {
        let at = self.offset + from as u64 + e.offset;
        let name = self.open.as_ref().map(|(chunk, _)| chunk.name());
        Damage {
            cause: "corrupt",
            detail: format!("{}: byte {at}: {}", name.unwrap_or_default(), e.what),
        }
    }
}
