//! What a recording shall be, and what it tells while it runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::chunk::Targets;
use crate::record::Level;
use crate::units::{bytes_text, time_text};

/// What to record, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Processes by what they are, or a command.
    pub targets: Targets,
    /// Which children are traced, too.
    pub follow: Follow,
    /// Folder for the chunks; made when missing, refused when it holds some.
    pub dir: PathBuf,
    /// How much to record.
    pub level: Level,
    /// Period of the cleaner in ms; 0: none.
    pub clean_ms: u32,
    /// Pages that may be active in one address space, instead of a period; 0: no FIFO.
    pub fifo: u32,
    /// What becomes of huge pages.
    pub grain: Grain,
    /// Bytes of a CPU's refs channel; `None`: as the module has it.
    pub buffer: Option<u64>,
    /// How much of the recording's end is kept; `None`: all of it.
    pub keep_last: Option<KeepLast>,
    /// References stay in the module's memory; snapshots are written.
    pub in_memory: bool,
    /// A snapshot is taken when a target exits.
    pub snapshot_on_exit: bool,
    /// The recording ends before the disk has fewer bytes left; 0: never; `None`: 256 MiB, less on a small disk.
    pub min_free: Option<u64>,
    /// A chunk ends at this many bytes.
    pub rotate_bytes: u64,
    /// A chunk ends at this age.
    pub rotate_after: Duration,
    /// The recording ends after this time.
    pub duration: Option<Duration>,
}

impl Default for Options {
    /// Nobody is traced, the folder has no name; all else as on a command line without options.
    fn default() -> Options {
        Options {
            targets: Targets::default(),
            follow: Follow::default(),
            dir: PathBuf::new(),
            level: Level::Rich,
            clean_ms: 500,
            fifo: 0,
            grain: Grain::default(),
            buffer: None,
            keep_last: None,
            in_memory: false,
            snapshot_on_exit: false,
            min_free: None,
            rotate_bytes: 256 << 20,
            rotate_after: Duration::from_secs(60),
            duration: None,
        }
    }
}

/// Which children of traced processes are traced, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// All, also after they exec.
    #[default]
    Exec,
    /// Until they exec.
    Fork,
    /// None.
    None,
}

impl Follow {
    /// As the module calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Follow::Exec => "exec",
            Follow::Fork => "fork",
            Follow::None => "none",
        }
    }
}

/// What becomes of the huge pages of traced processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grain {
    /// They are split, so that each base page is seen.
    #[default]
    Base,
    /// They are left whole.
    Huge,
}

impl Grain {
    /// As the module calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Grain::Base => "4k",
            Grain::Huge => "2m",
        }
    }
}

/// How much of a recording's end is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepLast {
    /// So many bytes, at most.
    Bytes(u64),
    /// So much time, at least.
    Time(Duration),
}

impl fmt::Display for KeepLast {
    /// As it may be typed: `2GiB`, `60s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            KeepLast::Bytes(bytes) => bytes_text(*bytes),
            KeepLast::Time(time) => time_text(*time),
        })
    }
}

/// What others may ask of a recording while it runs.
#[derive(Debug, Default)]
pub struct Signals {
    /// End.
    pub stop: Arc<AtomicBool>,
    /// Take a snapshot; is taken back once one has begun.
    pub snapshot: Arc<AtomicBool>,
}

/// What a recording tells while it runs.
#[derive(Debug)]
pub enum News<'a> {
    /// How it goes, once a second.
    Progress(Progress),
    /// Something happened.
    Words(&'a str),
}

/// How a running recording goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Records drained so far; of a recording in memory: made so far.
    pub records: u64,
    /// Bytes drained so far.
    pub bytes: u64,
    /// Records lost so far.
    pub lost: u64,
    /// Bytes the disk has left, where it is known.
    pub disk_left: Option<u64>,
    /// How full the memory of a recording in memory is, in percent.
    pub memory: Option<u8>,
}
