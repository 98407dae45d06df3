//! `pgtrace-ingest`: raw chunks to a partitioned Parquet dataset.

mod cli;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgtrace_capture::help_files::{self, More};
use pgtrace_capture::units;
use pgtrace_ingest::manifest::PartitionKey;
use pgtrace_ingest::pipeline::{Options, Progress, ingest};

/// Turns raw chunks into a partitioned Parquet dataset that anyone can question in SQL.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 good; 1 done, but the trace has losses or damage (see the dataset's table `losses`); \
    2 error, and the dataset is as it was.\n\nExample:\n  pgtrace-ingest recording/ --to dataset\n  pgtrace-ingest verify dataset\n  pgtrace-ingest inspect recording/ | less"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    ingest: IngestArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Shows raw chunks as text: what the recording is, then one line a record.
    #[command(
        after_help = "Exit codes: 0 good; 1 shown, but there is damage; 2 error.\n\nExamples:\n  \
        pgtrace-ingest inspect recording/cpu000-000000.pgt | less\n  \
        pgtrace-ingest inspect recording/ --summary\n  \
        pgtrace-ingest inspect recording/ --merge --names --kind ref --path '/data/*' --from 2s --to 3s\n  \
        pgtrace-ingest inspect recording/ --format ndjson --kind ref --pid 4242 --limit 1000 | jq .page"
    )]
    Inspect(Box<cli::inspect::InspectArgs>),
    /// Checks that a recording or a dataset is what it claims to be, and prints a report, a line a rule.
    #[command(
        after_help = "Of a recording: structure and CRCs, the recorder's totals, every hole in the numbers told as a loss, time, names before \
        use, addresses within their mappings. Of a dataset: its manifest and files, every reference there once and in order, \
        ranges, folders, time, names, losses.\n\n\
        Exit codes: 0 all holds; 1 something does not; 2 error.\n\nExamples:\n  \
        pgtrace-ingest verify recording/\n  pgtrace-ingest verify dataset"
    )]
    Verify(cli::verify::VerifyArgs),
}

#[derive(Args)]
struct IngestArgs {
    /// Raw chunks, or folders of them (*.pgt).
    #[arg(required = true)]
    raw: Vec<PathBuf>,
    /// Dataset: a folder or a URL; made if it is not there.
    #[arg(long, required = true, value_name = "DATASET")]
    to: Option<String>,
    /// Folders of a new dataset, in this order [default: uid,pid,slice].
    #[arg(long, value_delimiter = ',', value_name = "KEYS")]
    partition_by: Option<Vec<Key>>,
    /// Memory to use, about.
    #[arg(long, default_value = "1GiB", value_parser = units::size, value_name = "SIZE")]
    memory: u64,
    /// Threads [default: one a core].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
    /// Files open at most.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    max_open_files: usize,
    /// References of one slice of a new dataset [default: 16777216].
    #[arg(long, value_name = "ROWS")]
    slice_rows: Option<u64>,
    /// Leave out chunks that cannot be used at all, instead of failing.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Key {
    Uid,
    Pid,
    Slice,
}

impl From<Key> for PartitionKey {
    fn from(key: Key) -> Self {
        match key {
            Key::Uid => Self::Uid,
            Key::Pid => Self::Pid,
            Key::Slice => Self::Slice,
        }
    }
}

/// What the man page says besides.
const MORE: More<'_> = More {
    files: &[
        ("*.pgt", "raw chunks, as pgtrace-capture writes them"),
        (
            "DATASET/refs/, DATASET/captures/, ..",
            "the tables: Parquet, in folders like uid=1000/pid=4242",
        ),
        (
            "DATASET/_pgtrace/manifest/",
            "what belongs to the dataset; whoever reads sees whole commits only",
        ),
    ],
    environment: &[],
    see_also: &[("pgtrace-capture", "1"), ("pgtrace-sql", "1")],
};

fn main() -> ExitCode {
    if let Some(code) = help_files::asked(&Cli::command(), MORE) {
        return code;
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Inspect(args)) => cli::inspect::run(*args),
        Some(Command::Verify(args)) => cli::verify::run(&args),
        None => run_ingest(cli.ingest),
    };
    match result {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(1),
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "pgtrace-ingest: {e:#}");
            ExitCode::from(2)
        }
    }
}

/// Gives whether there were losses or damage.
fn run_ingest(args: IngestArgs) -> anyhow::Result<bool> {
    let to = args.to.context("--to DATASET is missing")?;
    let keys = args.partition_by;
    let options = Options {
        partition_by: keys.map(|keys| keys.into_iter().map(Into::into).collect()),
        slice_rows: args.slice_rows,
        memory: args.memory,
        threads: args.threads,
        max_open_files: args.max_open_files,
        keep_going: args.keep_going,
    };
    let bar = progress_bar();
    let report = ingest(&args.raw, &to, &options, &|progress| match progress {
        Progress::Surveyed(_) => bar.tick(),
        Progress::Rows(rows) => bar.set_length(bar.length().unwrap_or(0) + rows),
        Progress::Written(rows) => bar.inc(rows),
    });
    bar.finish_and_clear();
    let report = report?;
    // Words nobody reads are no reason to fail.
    let _ = write!(std::io::stderr(), "{report}");
    Ok(report.has_losses())
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} references, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
