//! The reader of chunks: any bytes, and good blocks between bad ones.

use std::io::Cursor;

use pgtrace_capture::chunk::{BlockKind, ChunkReader, Step};

use super::container::{self, BLOCK_HEADER, MAGIC, crc32c};
use super::plan::{Chunk, Piece, plan};

/// Any bytes as a file; those that begin with 0 stand behind a good header.
pub(super) fn any_bytes(data: &[u8]) {
    let file = match data.split_first() {
        Some((0, rest)) => [&container::header(false, 0, 0, "{}"), rest].concat(),
        _ => data.to_vec(),
    };
    read(&file);
}

/// Reads a file to its end and checks that blocks and damage are all of it. Gives the blocks.
pub(super) fn read(file: &[u8]) -> Vec<(BlockKind, Vec<u8>)> {
    let mut reader = match ChunkReader::new(Cursor::new(file), "fuzz.pgt") {
        Ok(reader) => reader,
        Err(e) => {
            assert!(e.to_string().starts_with("fuzz.pgt: byte "), "{e}");
            assert!(e.offset <= file.len() as u64);
            return Vec::new();
        }
    };
    let header_len = u32::from_le_bytes(file[12..16].try_into().unwrap_or_default());
    let (mut at, mut blocks, mut payload) = (u64::from(header_len), Vec::new(), Vec::new());
    let mut steps = 0;
    while let Ok(Some(step)) = reader.next_block(&mut payload) {
        steps += 1;
        assert!(steps <= 2 + 2 * file.len() / BLOCK_HEADER, "it ends");
        match step {
            Step::Block { kind, offset } => {
                let begin = at as usize;
                assert_eq!(offset, at + BLOCK_HEADER as u64, "no byte is left out");
                let whole = &file[begin..begin + BLOCK_HEADER + payload.len()];
                let (head, body) = whole.split_at(BLOCK_HEADER);
                assert_eq!(body, payload, "bytes as they are in the file");
                assert_eq!(&head[..4], MAGIC);
                let crc = crc32c(&[&head[..16], &head[20..], body]);
                assert_eq!(crc.to_le_bytes(), head[16..20], "a whole block");
                at = offset + payload.len().next_multiple_of(8) as u64;
                blocks.push((kind, payload.clone()));
            }
            Step::Damage {
                offset,
                bytes,
                detail,
                ..
            } => {
                assert!(!detail.is_empty());
                // The End block itself is no step.
                let skipped = offset - at;
                assert!(
                    skipped == 0 || is_end(&file[at as usize..], skipped),
                    "{skipped}"
                );
                at = offset + bytes;
            }
        }
        assert!(at <= file.len() as u64);
    }
    let rest = file.len() as u64 - at;
    assert!(
        rest == 0 || is_end(&file[at as usize..], rest),
        "{rest} bytes are left"
    );
    blocks
}

/// Whether `bytes` begin with an End block of `len` bytes.
fn is_end(bytes: &[u8], len: u64) -> bool {
    let payload = bytes
        .get(8..12)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_le_bytes);
    bytes.get(4..6) == Some(&container::END.to_le_bytes())
        && payload.is_some_and(|p| BLOCK_HEADER as u64 + u64::from(p).next_multiple_of(8) == len)
}

/// Good blocks, with other things between them: each of them arrives, and nothing else does.
pub(super) fn harmed_blocks(data: &[u8]) {
    for chunk in plan(data) {
        let found = read(&chunk.bytes());
        if !chunk.is_sure() {
            continue;
        }
        let number = |kind: &BlockKind| match kind {
            BlockKind::Refs => 1,
            BlockKind::Names => 2,
            BlockKind::Repeated => 3,
            BlockKind::Totals => 4,
        };
        let found: Vec<(u16, &[u8])> = found.iter().map(|(k, p)| (number(k), &p[..])).collect();
        assert_eq!(
            found,
            delivered(&chunk),
            "whole blocks arrive, once and in order"
        );
    }
}

fn delivered(chunk: &Chunk) -> Vec<(u16, &[u8])> {
    let blocks = chunk.pieces.iter().filter_map(|piece| match piece {
        Piece::Block(kind, payload) => Some((*kind, &payload[..])),
        Piece::Garbage(_) | Piece::Again | Piece::Gap => None,
    });
    blocks.collect()
}
