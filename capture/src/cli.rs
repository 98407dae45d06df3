//! The command line: what a person may type. Man pages and completions are made from it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::record::Level;
use crate::units;

/// Records which pages processes reference, in order, into raw chunks. Needs root and the pgtrace module, or
/// `--source perf`.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 good; 1 recorded, but with losses or damage; 2 error.\n\n\
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
        pgtrace-capture record --uid 1000 --level full --clean off -o raw\n  \
        pgtrace-capture record --source perf -o raw -- sort big.txt    (no module, no root)"
    )]
    Record(Record),
    /// Say what the module is doing
    #[command(after_help = "Example: pgtrace-capture status")]
    Status,
    /// End a recording, also one whose recorder is gone
    #[command(after_help = "Example: pgtrace-capture stop")]
    Stop,
}

/// `record`.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("target").required(true).multiple(true).args(["pid", "uid", "cmd"])))]
pub struct Record {
    /// Trace this process and what it forks; may be given several times
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "cmd")]
    pub pid: Vec<u32>,
    /// Trace every process of this user; may be given several times
    #[arg(
        long,
        value_name = "UID",
        value_delimiter = ',',
        conflicts_with = "cmd"
    )]
    pub uid: Vec<u32>,
    /// Folder for the chunks; made when missing
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// kmod: the module sees all; perf: the kernel's perf events need no module, and see first touches only
    #[arg(long, value_enum, default_value = "kmod", hide_possible_values = true)]
    pub source: Source,
    /// light: first touches; rich: and re-references; full: and page-cache look-ups [default: rich; of perf: light]
    #[arg(long, value_enum, hide_possible_values = true)]
    pub level: Option<LevelArg>,
    /// How often pages are made to fault at their next touch; off: never [default: 500ms; of perf: off]
    #[arg(long, value_name = "TIME", value_parser = units::period_ms)]
    pub clean: Option<u32>,
    /// Begin a new chunk at this size
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = rotate_size)]
    pub rotate_size: u64,
    /// Begin a new chunk at this age
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = some_time)]
    pub rotate_time: Duration,
    /// End the recording after this time
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub duration: Option<Duration>,
    /// Run this command and trace it and what it forks
    #[arg(last = true, value_name = "CMD")]
    pub cmd: Vec<String>,
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
    /// And re-references.
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

fn rotate_size(text: &str) -> Result<u64, String> {
    match units::size(text) {
        Ok(bytes) if bytes >= 4096 => Ok(bytes),
        Ok(_) => Err(format!("expected at least 4KiB, found \"{text}\"")),
        Err(e) => Err(e.to_string()),
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err(format!("expected more than nothing, found \"{text}\"")),
        Err(e) => Err(e.to_string()),
    }
}
