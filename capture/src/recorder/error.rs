//! Why there is no recording.

use std::io;
use std::path::PathBuf;

use super::perf;
use crate::chunk::ChunkError;
use crate::control::ControlError;
use crate::units::show_bytes;

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The module cannot be set up.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// perf events cannot be had.
    #[error(transparent)]
    Perf(#[from] perf::PerfError),
    /// A chunk cannot be begun.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The folder holds chunks of another recording.
    #[error("{} holds chunks already: give a new folder, or move them away", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder cannot be made or read.
    #[error("{}: {cause}", dir.display())]
    Output {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// There is too little room to begin.
    #[error(
        "the disk of {} has {} left of {}, and the recording would end at {}: make room, or give another --output or --min-free",
        dir.display(), show_bytes(*free), show_bytes(*total), show_bytes(*least)
    )]
    DiskFull {
        /// The folder.
        dir: PathBuf,
        /// Bytes left.
        free: u64,
        /// Bytes of the disk.
        total: u64,
        /// Where the recording would end.
        least: u64,
    },
    /// What is to be kept is less than the CPUs need.
    #[error("--keep-last: expected at least {} for {cpus} CPUs, found {}", show_bytes(*least), show_bytes(*found))]
    KeepTooLittle {
        /// Least that works.
        least: u64,
        /// What was asked for.
        found: u64,
        /// CPUs of this machine.
        cpus: usize,
    },
    /// Both say how much memory there shall be.
    #[error(
        "--buffer and --keep-last SIZE both say how much memory --in-memory takes: give one of them"
    )]
    TwoSizes,
    /// The command cannot be run.
    #[error("cannot run {command}: {cause}")]
    Command {
        /// The program.
        command: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Something else of the system failed.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// A drain thread panicked.
    #[error("the drain thread of cpu {cpu} panicked")]
    Panic {
        /// Its CPU.
        cpu: u16,
    },
}
