//! Finds the next good block behind damage: its magic, then its CRC.

use std::io::{Read, Seek};

use super::crc32c;
use super::reader::{read_all, seek};
use super::{BLOCK_HEADER, BLOCK_MAGIC, BlockHeader};

/// Bytes searched at a time.
const WINDOW: usize = 1 << 16;

/// CRC work a search may do in a chunk of `len` bytes. Real damage holds next to no false magics; a file made of
/// nothing else would cost its length squared.
pub(super) fn budget(len: u64) -> u64 {
    len.saturating_mul(4).saturating_add(1 << 20)
}

/// Where the first good block at or behind `start` with at least number `index` begins.
pub(super) fn find<R: Read + Seek>(
    from: &mut R,
    start: u64,
    len: u64,
    index: u32,
    budget: &mut u64,
) -> std::io::Result<Option<u64>> {
    let mut at = start;
    let mut window = vec![0; WINDOW];
    while at + BLOCK_HEADER as u64 <= len {
        let wanted = (len - at).min(WINDOW as u64) as usize;
        let Some(bytes) = window.get_mut(..wanted) else {
            return Ok(None);
        };
        seek(from, at)?;
        if !read_all(from, bytes)? {
            return Ok(None);
        }
        for i in magics(bytes) {
            let candidate = at + i as u64;
            if is_good(from, candidate, len, index, budget)? {
                return Ok(Some(candidate));
            }
        }
        if wanted < WINDOW {
            return Ok(None);
        }
        // A magic may straddle two windows.
        at += (wanted - (BLOCK_MAGIC.len() - 1)) as u64;
    }
    Ok(None)
}

fn magics(bytes: &[u8]) -> Vec<usize> {
    bytes
        .windows(BLOCK_MAGIC.len())
        .enumerate()
        .filter(|(_, w)| w[0] == BLOCK_MAGIC[0] && *w == BLOCK_MAGIC)
        .map(|(i, _)| i)
        .collect()
}

fn is_good<R: Read + Seek>(
    from: &mut R,
    at: u64,
    len: u64,
    index: u32,
    budget: &mut u64,
) -> std::io::Result<bool> {
    if len - at < BLOCK_HEADER as u64 {
        return Ok(false);
    }
    seek(from, at)?;
    let mut header = [0; BLOCK_HEADER];
    if !read_all(from, &mut header)? {
        return Ok(false);
    }
    let Ok(block) = BlockHeader::decode(&header) else {
        return Ok(false);
    };
    let fits = block.padded() <= len - at - BLOCK_HEADER as u64;
    if !fits || block.index < index || block.len as u64 > *budget {
        return Ok(false);
    }
    let mut crc = block.seed;
    let mut left = block.len;
    let mut piece = [0; 4096];
    while left > 0 {
        let n = left.min(piece.len());
        let Some(bytes) = piece.get_mut(..n) else {
            return Ok(false);
        };
        if !read_all(from, bytes)? {
            return Ok(false);
        }
        crc = crc32c::crc32c_append(crc, bytes);
        left -= n;
    }
    let good = crc == block.crc;
    if !good {
        *budget = budget.saturating_sub(block.len as u64 + BLOCK_HEADER as u64);
    }
    Ok(good)
}
