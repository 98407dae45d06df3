//! A whole chunk, read by the layout alone.

use std::ops::Range;
use std::path::Path;

pub(crate) const REFS: u16 = 1;
pub(crate) const NAMES: u16 = 2;
pub(crate) const REPEATED: u16 = 3;

/// Number, time, address, instruction, page; process, thread, user, object.
pub(crate) type Reference = ([u64; 5], [u32; 4]);

/// A block of it.
pub(crate) struct Block {
    pub(crate) range: Range<usize>,
    pub(crate) kind: u16,
    /// CPU and number of each record.
    pub(crate) numbers: Vec<(u16, u64)>,
    pub(crate) references: Vec<Reference>,
}

/// The chunk.
pub(crate) struct Original {
    pub(crate) cpu: u16,
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the header.
    pub(crate) header: usize,
    pub(crate) blocks: Vec<Block>,
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(b[at..at + 2].try_into().unwrap())
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

impl Original {
    pub(crate) fn read(cpu: u16, path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let header = u32_at(&bytes, 12) as usize;
        let (mut at, mut blocks) = (header, Vec::new());
        while at < bytes.len() {
            let (kind, len) = (u16_at(&bytes, at + 4), u32_at(&bytes, at + 8) as usize);
            let payload = &bytes[at + 24..at + 24 + len];
            let end = at + 24 + len.next_multiple_of(8);
            let (mut numbers, mut references) = (Vec::new(), Vec::new());
            let mut rest = if kind <= REPEATED { payload } else { &[] };
            while !rest.is_empty() {
                let (r, more) = rest.split_at(usize::from(u16_at(rest, 4)));
                numbers.push((u16_at(r, 6), u64_at(r, 8)));
                if r[2] == 1 {
                    let [seq, time, addr, ip, page] = [8, 16, 40, 48, 56].map(|at| u64_at(r, at));
                    let ids = [24, 28, 32, 36].map(|at| u32_at(r, at));
                    references.push(([seq, time, addr, ip, page & ((1 << 52) - 1)], ids));
                }
                rest = more;
            }
            blocks.push(Block {
                range: at..end,
                kind,
                numbers,
                references,
            });
            at = end;
        }
        assert!(blocks.len() > 90, "a real recording has many blocks");
        Self {
            cpu,
            bytes,
            header,
            blocks,
        }
    }
}
