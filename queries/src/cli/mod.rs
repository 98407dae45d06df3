//! The commands, a file each.

pub(crate) mod derive;
pub(crate) mod export;
pub(crate) mod query;

use pgtrace_capture::{units, without_huge_pages};

/// Below this, huge pages of the allocator that are hardly used count: 30 to 50 MB of a query (bench/README.md). Above,
/// hash tables are faster with them.
const SCARCE: usize = 512 << 20;

/// Before anything takes memory: the process is to do with so much.
fn prepare(memory: usize) {
    if memory < SCARCE {
        without_huge_pages();
    }
}

/// An amount of memory as people type it.
fn memory(text: &str) -> Result<usize, String> {
    match usize::try_from(units::size(text).map_err(|e| e.to_string())?) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("{text:?} is no amount of memory to work with")),
    }
}
