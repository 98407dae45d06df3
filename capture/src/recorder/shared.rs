//! What the drain threads of all CPUs share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::disk::DiskGuard;
use super::keep::Keep;
use super::names::Names;
use super::snapshot::Snapshots;
use crate::chunk::ChunkHeader;
use crate::control::Module;

/// What all drain threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) module: Module,
    pub(super) names: Names,
    pub(super) keep: Keep,
    pub(super) disk: DiskGuard,
    pub(super) snapshots: Snapshots,
    /// The module records no more: drain to the last byte and end.
    pub(super) stopped: AtomicBool,
    /// A thread cannot write or read any more: the recording should end.
    pub(super) failed: AtomicBool,
    /// The module has gone away.
    pub(super) gone: AtomicBool,
    /// For the live line.
    pub(super) records: AtomicU64,
    /// For the live line.
    pub(super) bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        module: &Module,
        cpus: usize,
        names: Names,
        keep: Keep,
        disk: DiskGuard,
    ) -> Shared {
        Shared {
            module: module.clone(),
            names,
            keep,
            disk,
            snapshots: Snapshots::new(cpus),
            stopped: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Shared {
    /// Chunks are about to grow by so many bytes: makes room for them, and counts them.
    pub(super) fn grow(&self, bytes: u64) {
        self.keep.grow(bytes);
        self.disk.wrote(bytes);
    }

    /// Whether some thread may have ended, or is about to.
    pub(super) fn is_ending(&self) -> bool {
        let flags = [&self.stopped, &self.failed, &self.gone];
        flags.iter().any(|flag| flag.load(Ordering::Acquire))
    }
}

/// Where and how chunks are made; the same for all CPUs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) header: ChunkHeader,
    /// A chunk ends at this many bytes.
    pub(super) rotate_bytes: u64,
    /// A chunk ends at this age.
    pub(super) rotate_after: Duration,
    /// References stay in the module's memory until a snapshot.
    pub(super) in_memory: bool,
}

impl Plan {
    /// Up to where a CPU's own names stand in its last chunk: nowhere when only snapshots are written.
    pub(super) fn own_names(&self) -> u64 {
        if self.in_memory { 0 } else { u64::MAX }
    }
}
