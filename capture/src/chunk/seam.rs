//! Where one chunk ends and the next begins, in chunks laid end to end (`cat *.pgt`).

use super::{BLOCK_HEADER, BlockHeader, ChunkFault, ChunkHeader, END_LEN, KIND_END, MAGIC, crc32c};

/// What a chunk begins with.
pub const CHUNK_MAGIC: [u8; 8] = MAGIC;
/// Bytes of the block that ends a finished chunk.
pub const END_BLOCK: usize = BLOCK_HEADER + END_LEN;

/// What bytes are the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// Of a chunk: its header is whole.
    Chunk,
    /// That cannot be said before there are so many of them.
    Unknown {
        /// Bytes needed.
        need: usize,
    },
    /// Of no chunk that this program can read.
    Other {
        /// Bytes that had to be looked at to tell.
        looked_at: usize,
    },
}

/// Whether a chunk begins with `bytes`: its header, whole and with its checksum, not its magic alone, which may
/// stand in any payload.
#[must_use]
pub fn begins(bytes: &[u8]) -> Begins {
    // As long as a header says it is, it must be: what is behind is for the caller to bring.
    let mut rest = bytes;
    match ChunkHeader::read(&mut rest, u64::MAX) {
        Ok(_) => Begins::Chunk,
        Err((_, ChunkFault::TruncatedHeader { expected, .. })) => Begins::Unknown {
            need: usize::try_from(expected).unwrap_or(usize::MAX),
        },
        Err(_) => Begins::Other {
            looked_at: bytes.len() - rest.len(),
        },
    }
}

/// Whether `bytes` end in the block that ends a finished chunk.
#[must_use]
pub fn ends(bytes: &[u8]) -> bool {
    let tail = bytes.len().checked_sub(END_BLOCK);
    let Some((header, payload)) = tail
        .and_then(|at| bytes.get(at..))
        .and_then(|tail| tail.split_first_chunk::<BLOCK_HEADER>())
    else {
        return false;
    };
    BlockHeader::decode(header).is_ok_and(|block| {
        block.kind == KIND_END
            && block.len == END_LEN
            && crc32c::crc32c_append(block.seed, payload) == block.crc
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::super::tests::chunk_bytes;
    use super::*;

    #[test]
    fn a_whole_header_begins_a_chunk_and_nothing_less_does() {
        let chunk = chunk_bytes();
        let whole = (16..=chunk.len())
            .find(|&n| begins(&chunk[..n]) == Begins::Chunk)
            .unwrap();
        for n in 0..whole {
            match begins(&chunk[..n]) {
                Begins::Unknown { need } => assert!(n < need && need <= whole, "{n}: {need}"),
                other => panic!("{n}: {other:?}"),
            }
        }
        for at in 0..whole {
            let mut damaged = chunk.clone();
            damaged[at] ^= 0x10;
            assert_ne!(begins(&damaged[..whole]), Begins::Chunk, "byte {at}");
        }
        let other = begins(b"PGTRACE\r and more, and more");
        assert_eq!(other, Begins::Other { looked_at: 16 });
    }

    #[test]
    fn the_end_block_ends_a_chunk_and_nothing_else_does() {
        let chunk = chunk_bytes();
        assert!(ends(&chunk));
        assert!(!ends(&chunk[..chunk.len() - 1]) && !ends(&[]));
        for at in chunk.len() - END_BLOCK..chunk.len() {
            let mut damaged = chunk.clone();
            damaged[at] ^= 1;
            assert!(!ends(&damaged), "byte {at}");
        }
    }
}
