//! `record` and its many options.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::{LevelArg, Source, values};
use crate::recorder::{Follow, Grain, KeepLast};
use crate::units;

/// `record`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("target").required(true).multiple(true).args(["pid", "uid", "comm", "cgroup", "all", "cmd"])))]
pub struct Record {
    /// Trace this process; may be given several times
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "cmd", help_heading = "Targets")]
    pub pid: Vec<u32>,
    /// Trace every process of this user; may be given several times
    #[arg(
        long,
        value_name = "UID",
        value_delimiter = ',',
        conflicts_with = "cmd",
        help_heading = "Targets"
    )]
    pub uid: Vec<u32>,
    /// Trace every process of this name (as /proc/PID/comm says, at most 15 bytes); may be given several times
    #[arg(long, value_name = "NAME", value_parser = values::comm, conflicts_with = "cmd", help_heading = "Targets")]
    pub comm: Vec<String>,
    /// Trace every process in this cgroup (v2) or below it, also those that move in; may be given several times
    #[arg(long, value_name = "PATH", value_parser = values::cgroup, conflicts_with = "cmd", help_heading = "Targets")]
    pub cgroup: Vec<String>,
    /// Trace every process but the recorder
    #[arg(long, conflicts_with = "cmd", help_heading = "Targets")]
    pub all: bool,
    /// Children that are traced, too: exec: all; fork: until they exec; none [default: exec]
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        help_heading = "Targets"
    )]
    pub follow: Option<FollowArg>,
    /// Folder for the chunks; made when missing
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// kmod: the module sees all; perf: the kernel's perf events need no module, and see first touches only
    #[arg(long, value_enum, default_value = "kmod", hide_possible_values = true)]
    pub source: Source,
    /// light: first touches; rich: and re-references, mapping life; full: and page-cache look-ups [default: rich; of
    /// perf: light]
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        help_heading = "What is recorded"
    )]
    pub level: Option<LevelArg>,
    /// How often pages are made to fault at their next touch; off: never [default: 500ms; of perf: off]
    #[arg(long, value_name = "TIME", value_parser = units::period_ms, help_heading = "What is recorded")]
    pub clean: Option<u32>,
    /// Instead of by time, make all pages fault but the last N touched ones of each address space (16 to 1048576)
    #[arg(long, value_name = "N", value_parser = values::fifo, conflicts_with = "clean", help_heading = "What is recorded")]
    pub fifo: Option<u32>,
    /// Huge pages: 4k: split, so that each base page is seen; 2m: left whole [default: 4k]
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        help_heading = "What is recorded"
    )]
    pub grain: Option<GrainArg>,
    /// Memory a CPU for references on their way to the disk [default: as the module was loaded, 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::buffer)]
    pub buffer: Option<u64>,
    /// Keep only the newest part of the recording: the oldest chunks are deleted. With --in-memory: how much memory holds
    #[arg(long, value_name = "SIZE|TIME", value_parser = values::keep_last, help_heading = "Continuous recording")]
    pub keep_last: Option<KeepLast>,
    /// Keep references in memory; only snapshots reach the disk: on demand (pgtrace-capture snapshot, SIGUSR1), and at
    /// the end
    #[arg(long, help_heading = "Continuous recording")]
    pub in_memory: bool,
    /// usr1: a snapshot on demand only; exit: also when a target exits (with --pid: one of these; otherwise: any traced
    /// process) [default: usr1]
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        requires = "in_memory",
        hide_possible_values = true,
        help_heading = "Continuous recording"
    )]
    pub snapshot_on: Option<SnapshotOn>,
    /// End the recording before the disk has less than this left; 0: never [default: 256MiB, less on a small disk]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub min_free: Option<u64>,
    /// Begin a new chunk at this size
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = values::rotate_size)]
    pub rotate_size: u64,
    /// Begin a new chunk at this age
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::some_time)]
    pub rotate_time: Duration,
    /// End the recording after this time
    #[arg(long, value_name = "TIME", value_parser = values::some_time)]
    pub duration: Option<Duration>,
    /// Run this command and trace it and what it forks
    #[arg(last = true, value_name = "CMD")]
    pub cmd: Vec<String>,
}

/// Which children are traced, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FollowArg {
    /// All, also after they exec.
    Exec,
    /// Until they exec.
    Fork,
    /// None.
    None,
}

impl From<FollowArg> for Follow {
    fn from(follow: FollowArg) -> Follow {
        match follow {
            FollowArg::Exec => Follow::Exec,
            FollowArg::Fork => Follow::Fork,
            FollowArg::None => Follow::None,
        }
    }
}

/// What becomes of huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GrainArg {
    /// They are split.
    #[value(name = "4k")]
    Base,
    /// They are left whole.
    #[value(name = "2m")]
    Huge,
}

impl From<GrainArg> for Grain {
    fn from(grain: GrainArg) -> Grain {
        match grain {
            GrainArg::Base => Grain::Base,
            GrainArg::Huge => Grain::Huge,
        }
    }
}

/// What a snapshot is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SnapshotOn {
    /// SIGUSR1 only.
    Usr1,
    /// Also the exit of a target.
    Exit,
}
