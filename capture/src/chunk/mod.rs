//! The raw chunk: one file of a recording, readable alone.
//!
//! A chunk is a header (whose recording, which CPU, clocks, settings) and blocks: the bytes of one drained sub-buffer
//! each, untouched, with length and CRC32C. All integers of the container are little-endian, whatever the records are.
//!
//! ```text
//! header   0 magic "PGTRACE\n"   8 container version u32  12 header length u32 (all of it, with CRC)
//!         16 capture id [16]    32 boot id [16]           48 page size u32   52 byte order u8 (1 little, 2 big)
//!         53 wire version u8    54 cpu u16                56 chunk index u32 60 reserved u32
//!         64 monotonic ns u64   72 realtime ns u64        80 boottime ns u64
//!         88 kernel length u16  90 reserved u16           92 settings length u32   96 reserved [32]
//!        128 kernel release, settings as JSON, zeroes up to a multiple of 8 less 4, CRC32C u32 of all before
//! block    0 magic "PGB\x01"     4 kind u16  6 flags u16 = 0  8 payload length u32  12 index u32 (from 0 in the chunk)
//!         16 CRC32C u32 of bytes 0-15, 20-23 and the payload   20 reserved u32   24 payload, zeroes up to 8
//! ```
//!
//! A chunk that was finished ends in an End block (count of blocks and payload bytes before it). One without it was cut
//! off, perhaps because the recorder was killed: its whole blocks count all the same.

mod crc32c;
mod header;
mod reader;
mod resync;
mod seam;
mod settings;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

pub use header::ChunkHeader;
pub use reader::{ChunkReader, DamageCause, Step};
pub use seam::{Begins, CHUNK_MAGIC, END_BLOCK, begins, ends};
pub use settings::{CpuTotals, Settings, Targets, Totals, Unread};
pub use writer::ChunkWriter;

/// Container version this program writes; it reads this one only.
pub const CONTAINER_VERSION: u32 = 1;
/// Largest payload of a block, in bytes; a length above it is damage.
pub const MAX_BLOCK: usize = 16 << 20;
/// Ending of a chunk's file name: `cpu003-000012.pgt`.
pub const EXTENSION: &str = "pgt";

const MAGIC: [u8; 8] = *b"PGTRACE\n";
const BLOCK_MAGIC: [u8; 4] = *b"PGB\x01";
/// Bytes of a block's header.
const BLOCK_HEADER: usize = 24;
/// Kind of the block that ends a finished chunk.
const KIND_END: u16 = 5;
/// Payload of the End block: blocks u64, payload bytes u64.
const END_LEN: usize = 16;

/// What a block's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockKind {
    /// Bytes of the CPU's refs channel, as drained.
    Refs,
    /// Bytes of the CPU's names channel, as drained.
    Names,
    /// Copies of name records of any CPU, so that the chunk reads alone; the same (cpu, seq) is the same record.
    Repeated,
    /// [`Totals`] of the recording, as JSON.
    Totals,
}

impl BlockKind {
    /// The name shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BlockKind::Refs => "refs",
            BlockKind::Names => "names",
            BlockKind::Repeated => "repeated",
            BlockKind::Totals => "totals",
        }
    }

    fn number(self) -> u16 {
        match self {
            BlockKind::Refs => 1,
            BlockKind::Names => 2,
            BlockKind::Repeated => 3,
            BlockKind::Totals => 4,
        }
    }

    fn from_number(number: u16) -> Option<BlockKind> {
        match number {
            1 => Some(BlockKind::Refs),
            2 => Some(BlockKind::Names),
            3 => Some(BlockKind::Repeated),
            4 => Some(BlockKind::Totals),
            _ => None,
        }
    }
}

/// A chunk that cannot be read or written: which file, where in it, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: byte {offset}: {what}", path.display())]
pub struct ChunkError {
    /// The chunk.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What went wrong.
    pub what: ChunkFault,
}

/// What is wrong with a chunk: expected and found.
#[derive(Debug, thiserror::Error)]
pub enum ChunkFault {
    /// The file has no bytes at all.
    #[error("expected a pgtrace chunk, found an empty file")]
    Empty,
    /// The file does not begin like a chunk.
    #[error("not a pgtrace chunk: expected it to begin with \"PGTRACE\\n\", found \"{}\"", found.escape_ascii())]
    NotAChunk {
        /// First bytes of the file.
        found: Vec<u8>,
    },
    /// The chunk was written by a newer pgtrace.
    #[error(
        "chunk of container version {found} is too new: this program reads up to {supported}; use a newer pgtrace"
    )]
    TooNew {
        /// Version in the file.
        found: u32,
        /// Newest version this program reads.
        supported: u32,
    },
    /// A version that never was.
    #[error("expected container version 1 to {supported}, found {found}")]
    BadVersion {
        /// Version in the file.
        found: u32,
        /// Newest version this program reads.
        supported: u32,
    },
    /// The file ends inside its header.
    #[error("truncated header: expected {expected} bytes, found {found}")]
    TruncatedHeader {
        /// Bytes the header has.
        expected: u64,
        /// Bytes the file has.
        found: u64,
    },
    /// The header's bytes are not what was written.
    #[error("damaged header: expected CRC32C {expected:#010x}, found {found:#010x}")]
    HeaderCrc {
        /// As stored.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// A field of the header makes no sense.
    #[error("bad header: expected {expected}, found {found}")]
    BadHeader {
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A payload to write is larger than a block may be.
    #[error("expected a block of at most {MAX_BLOCK} bytes, found {found}")]
    BlockTooLarge {
        /// Bytes of the payload.
        found: u64,
    },
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl ChunkError {
    /// Whether the disk or the quota is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(&self.what, ChunkFault::Io(e) if matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }
}

/// File name of a chunk: `cpu003-000012.pgt`.
#[must_use]
pub fn file_name(cpu: u16, index: u32) -> String {
    format!("cpu{cpu:03}-{index:06}.{EXTENSION}")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array_at(bytes, at).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A block's header, decoded but not believed.
#[derive(Debug, Clone, Copy)]
struct BlockHeader {
    kind: u16,
    len: usize,
    index: u32,
    crc: u32,
    /// CRC32C of the header's own fields, to be continued over the payload.
    seed: u32,
}

impl BlockHeader {
    fn encode(kind: u16, index: u32, payload: &[u8]) -> [u8; BLOCK_HEADER] {
        let mut h = [0; BLOCK_HEADER];
        h[0..4].copy_from_slice(&BLOCK_MAGIC);
        h[4..6].copy_from_slice(&kind.to_le_bytes());
        h[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        h[12..16].copy_from_slice(&index.to_le_bytes());
        let crc = crc32c::crc32c_append(header_crc(&h), payload);
        h[16..20].copy_from_slice(&crc.to_le_bytes());
        h
    }

    /// Says what is wrong with a block header, if anything can be seen without the payload.
    fn decode(h: &[u8; BLOCK_HEADER]) -> Result<BlockHeader, String> {
        if h[0..4] != BLOCK_MAGIC {
            return Err(format!(
                "expected block magic \"{}\", found \"{}\"",
                BLOCK_MAGIC.escape_ascii(),
                h[0..4].escape_ascii()
            ));
        }
        let len = u32_at(h, 8) as usize;
        if len > MAX_BLOCK {
            return Err(format!(
                "expected a block of at most {MAX_BLOCK} bytes, found {len}"
            ));
        }
        Ok(BlockHeader {
            kind: u16_at(h, 4),
            len,
            index: u32_at(h, 12),
            crc: u32_at(h, 16),
            seed: header_crc(h),
        })
    }

    /// Bytes of the payload with its padding.
    fn padded(&self) -> u64 {
        self.len.next_multiple_of(8) as u64
    }
}

fn header_crc(h: &[u8; BLOCK_HEADER]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&h[0..16]), &h[20..24])
}
