//! The command line: what a person may type. Man pages and completions are made from it.

mod record;
mod values;

use std::path::PathBuf;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::record::Level;
use crate::units;

pub use record::{FollowArg, GrainArg, Record, SnapshotOn};

/// Records which pages processes reference, in order, into raw chunks. Needs root and the pgtrace module, or
/// `--source perf`.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 good; 1 done, but with losses, damage or warnings; 2 error.\n\n\
    Example: pgtrace-capture record -o raw -- sort big.txt"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Cmd,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Cmd {
    /// Record processes until they end, Ctrl-C, or a time is over
    #[command(
        after_help = "Examples:\n  pgtrace-capture record -o raw -- sort big.txt\n  \
        pgtrace-capture record --pid 4242 --duration 30s -o raw\n  \
        pgtrace-capture record --uid 1000 --comm postgres --level full --clean off -o raw\n  \
        pgtrace-capture record --cgroup /system.slice/db.service --keep-last 2GiB -o raw\n  \
        pgtrace-capture record --all --in-memory --keep-last 30s -o raw    (then: pgtrace-capture snapshot --wait)\n  \
        pgtrace-capture record --source perf -o raw -- sort big.txt    (no module, no root)"
    )]
    Record(Box<Record>),
    /// Change how much the running recording records
    #[command(after_help = "Example: pgtrace-capture level light")]
    Level {
        /// light: first touches; rich: and re-references, mapping life; full: and page-cache look-ups
        #[arg(value_enum, hide_possible_values = true)]
        level: LevelArg,
    },
    /// Change how often the running recording makes pages fault again (instead of a FIFO, if one is used)
    #[command(after_help = "Examples:\n  pgtrace-capture clean 20ms\n  pgtrace-capture clean off")]
    Clean {
        /// The period, or off
        #[arg(value_name = "TIME", value_parser = units::period_ms)]
        period: u32,
    },
    /// Change how many pages stay active in the running recording (instead of a period, if one is used)
    #[command(after_help = "Examples:\n  pgtrace-capture fifo 256\n  pgtrace-capture fifo off")]
    Fifo {
        /// Pages that may be active in one address space, or off
        #[arg(value_name = "N", value_parser = values::fifo_or_off)]
        pages: u32,
    },
    /// Add targets to the running recording
    #[command(after_help = "Example: pgtrace-capture add --comm postgres --pid 4242")]
    Add(TargetArgs),
    /// Take targets back from the running recording, with what was followed from them
    #[command(after_help = "Example: pgtrace-capture remove --pid 4242")]
    Remove(TargetArgs),
    /// Have the running recorder write what it has: of --in-memory, all that memory holds; otherwise end its chunks
    #[command(after_help = "Examples:\n  pgtrace-capture snapshot\n  \
        pgtrace-ingest $(pgtrace-capture snapshot --wait) --to dataset")]
    Snapshot {
        /// Wait until it is on disk, and print its chunks, one a line
        #[arg(long)]
        wait: bool,
    },
    /// Say what the module is doing
    #[command(
        after_help = "Examples:\n  pgtrace-capture status\n  pgtrace-capture status --json | jq .state"
    )]
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End a recording, also one whose recorder is gone
    #[command(after_help = "Example: pgtrace-capture stop")]
    Stop,
    /// Say whether recording would work here, what is missing, and how to mend it
    #[command(
        after_help = "Exit codes: 0 all is well; 1 recording works, with warnings; 2 it cannot work.\n\n\
        Examples:\n  pgtrace-capture doctor\n  pgtrace-capture doctor -o /var/lib/pgtrace\n  pgtrace-capture doctor --source perf"
    )]
    Doctor {
        /// What references would come from: kmod (the module) or perf
        #[arg(long, value_enum, default_value = "kmod", hide_possible_values = true)]
        source: Source,
        /// Folder that would get the chunks: its disk is looked at, too
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Targets of `add` and `remove`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["pid", "uid", "comm", "cgroup", "all"])))]
pub struct TargetArgs {
    /// This process; may be given several times
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Every process of this user; may be given several times
    #[arg(long, value_name = "UID", value_delimiter = ',')]
    pub uid: Vec<u32>,
    /// Every process of this name (as /proc/PID/comm says); may be given several times
    #[arg(long, value_name = "NAME", value_parser = values::comm)]
    pub comm: Vec<String>,
    /// Every process in this cgroup or below it; may be given several times
    #[arg(long, value_name = "PATH", value_parser = values::cgroup)]
    pub cgroup: Vec<String>,
    /// Every process but the recorder
    #[arg(long)]
    pub all: bool,
}

/// Where references come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The pgtrace module.
    Kmod,
    /// perf_event_open.
    Perf,
}

/// How much is recorded.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LevelArg {
    /// First touches.
    Light,
    /// And re-references, mapping life.
    Rich,
    /// And page-cache look-ups.
    Full,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Level {
        match level {
            LevelArg::Light => Level::Light,
            LevelArg::Rich => Level::Rich,
            LevelArg::Full => Level::Full,
        }
    }
}

/// The command line as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
