//! Bytes of the fuzzer as a recording: chunks of whole blocks, garbage between them, numbers left out.
//!
//! An operation is a byte: 0 to 3 a block of kind 1 to 4, 4 garbage, each followed by a length (u16) and that many
//! bytes; 5 the block before once more, 6 a number left out, 7 another chunk, followed by a byte: two bits CPU, two bits
//! chunk numbers left out, byte order, overwriting, no End block, the last block cut.

use super::container::{MAGIC, block, end, header};

/// Chunks of a plan at most.
const MOST: usize = 8;

pub(super) enum Piece {
    /// A good block: kind and payload.
    Block(u16, Vec<u8>),
    /// Bytes that are no block.
    Garbage(Vec<u8>),
    /// The block before once more.
    Again,
    /// A block's number, without the block.
    Gap,
}

#[derive(Default)]
pub(super) struct Chunk {
    pub(super) cpu: u16,
    pub(super) index: u32,
    pub(super) big: bool,
    pub(super) overwrite: bool,
    pub(super) unfinished: bool,
    pub(super) cut: bool,
    pub(super) pieces: Vec<Piece>,
}

impl Chunk {
    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let settings = if self.overwrite {
            r#"{"overwrite":true}"#
        } else {
            "{}"
        };
        let mut file = header(self.big, self.cpu, self.index, settings);
        let header = file.len();
        let (mut index, mut sum, mut last) = (0, 0, Vec::new());
        for piece in &self.pieces {
            match piece {
                Piece::Block(kind, payload) => {
                    last = block(*kind, index, payload);
                    file.extend(&last);
                    index += 1;
                    sum += payload.len() as u64;
                }
                Piece::Garbage(bytes) => file.extend(bytes),
                Piece::Again => file.extend(&last),
                Piece::Gap => index += 1,
            }
        }
        if !self.unfinished {
            file.extend(end(index, sum));
        }
        if self.cut && file.len() > header {
            file.pop();
        }
        file
    }

    /// Nothing in it can be mistaken for a block, and no block is cut: what arrives is known.
    pub(super) fn is_sure(&self) -> bool {
        let magic = |bytes: &[u8]| bytes.windows(MAGIC.len()).any(|w| w == MAGIC);
        let false_magic = self.pieces.iter().any(|piece| match piece {
            Piece::Block(_, bytes) | Piece::Garbage(bytes) => magic(bytes),
            Piece::Again | Piece::Gap => false,
        });
        !(false_magic || self.cut && self.unfinished)
    }
}

/// Reads a plan; of each CPU the chunks have rising numbers.
pub(super) fn plan(mut data: &[u8]) -> Vec<Chunk> {
    let mut chunks = vec![Chunk::default()];
    let mut next = [1u32, 0, 0, 0];
    while let Some((&op, rest)) = data.split_first() {
        data = rest;
        let Some(chunk) = chunks.last_mut() else {
            break;
        };
        match op % 8 {
            kind @ 0..=4 => {
                let (len, rest) = data.split_at(data.len().min(2));
                let len = len
                    .iter()
                    .rev()
                    .fold(0, |sum, &b| sum << 8 | usize::from(b));
                let (bytes, rest) = rest.split_at(len.min(rest.len()));
                data = rest;
                chunk.pieces.push(match kind {
                    4 => Piece::Garbage(bytes.to_vec()),
                    kind => Piece::Block(u16::from(kind) + 1, bytes.to_vec()),
                });
            }
            5 => chunk.pieces.push(Piece::Again),
            6 => chunk.pieces.push(Piece::Gap),
            _ if chunks.len() == MOST => break,
            _ => {
                let bits = data.first().copied().unwrap_or(0);
                data = data.get(1..).unwrap_or_default();
                let cpu = bits & 3;
                let next = &mut next[usize::from(cpu)];
                let index = *next + u32::from(bits >> 2 & 3);
                *next = index + 1;
                chunks.push(Chunk {
                    cpu: cpu.into(),
                    index,
                    big: bits & 1 << 4 != 0,
                    overwrite: bits & 1 << 5 != 0,
                    unfinished: bits & 1 << 6 != 0,
                    cut: bits & 1 << 7 != 0,
                    pieces: Vec::new(),
                });
            }
        }
    }
    chunks
}
