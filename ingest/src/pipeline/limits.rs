//! What a run may take: its options checked, and memory and open files shared out.

use super::Options;
use crate::error::IngestError;
use crate::manifest::PartitionKey;
use crate::merge::BYTES_PER_CPU;
use crate::source::{Chunk, Recording};

/// Least bytes that rows may wait in, whatever else the memory limit must hold.
const LEAST_STAGING: u64 = 8 << 20;

pub(super) fn check(options: &Options) -> Result<(), IngestError> {
    let wrong = |text: &str| Err(IngestError::Options(text.into()));
    if options.max_open_files == 0 {
        return wrong("the number of open files must be at least 1");
    }
    if options.slice_rows == Some(0) {
        return wrong("a slice must have at least 1 row");
    }
    match &options.partition_by {
        Some(keys) if (1..keys.len()).any(|i| keys[i..].contains(&keys[i - 1])) => {
            wrong("a partition key stands twice")
        }
        _ => Ok(()),
    }
}

/// Bytes in which rows may wait: half of the memory limit, less what the merge
/// takes. The other half is for encoding, uploads, names and the program itself.
/// It depends on nothing but the input and the limit, so that files do too.
pub(super) fn staging(options: &Options, recording: &Recording) -> Result<u64, IngestError> {
    let reading: u64 = recording.cpus.values().map(|c| read_ahead(c)).sum();
    let merging = BYTES_PER_CPU * recording.cpus.len() as u64 + reading;
    let least = 2 * (merging + LEAST_STAGING);
    match options.memory >= least {
        true => Ok(options.memory / 2 - merging),
        false => Err(IngestError::Memory {
            found: options.memory,
            least,
            cpus: recording.cpus.len(),
        }),
    }
}

/// Bytes that reading one CPU's chunks takes, at most: one chunk is open at a time.
fn read_ahead(chunks: &[Chunk]) -> u64 {
    let each = chunks.iter().map(|c| c.place.read_ahead());
    each.max().unwrap_or(0)
}

/// Open files that the system allows beside the chunks being read and the rest.
pub(super) fn open_files(asked: usize, cpus: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))
        .and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok());
    match limit {
        Some(limit) => asked.min(limit.saturating_sub(cpus + 48)).max(1),
        None => asked,
    }
}

pub(super) fn key_list(keys: &[PartitionKey]) -> String {
    match keys {
        [] => "nothing".into(),
        keys => keys.iter().map(|k| k.name()).collect::<Vec<_>>().join(","),
    }
}
