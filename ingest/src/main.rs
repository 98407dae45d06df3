//! `pgtrace-ingest`: raw chunks to a partitioned Parquet dataset.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgtrace_capture::help_files::{self, More};
use pgtrace_capture::units;
use pgtrace_ingest::inspect::{InspectError, inspect};
use pgtrace_ingest::manifest::PartitionKey;
use pgtrace_ingest::pipeline::{Options, Progress, ingest};
use pgtrace_ingest::source::files;
use pgtrace_ingest::source::kind::{self, KINDS, Kind, prepare};

/// Turns raw chunks into a partitioned Parquet dataset that anyone can question in SQL.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 good; 1 done, but the trace has losses or damage (see the dataset's table `losses`); \
    2 error, and the dataset is as it was.\n\nExample:\n  pgtrace-ingest recording/ --to dataset\n  pgtrace-ingest mine.csv --to dataset\n  pgtrace-ingest inspect recording/cpu000-000000.pgt | less"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    ingest: IngestArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Shows raw chunks as text: the header, then one line a record.
    #[command(after_help = "Example:\n  pgtrace-ingest inspect recording/cpu000-000000.pgt | less")]
    Inspect {
        /// Raw chunks: files, or folders of them.
        #[arg(required = true)]
        raw: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct IngestArgs {
    /// Raw chunks, or folders of them (*.pgt); tables (csv, ndjson, parquet); with --from, `-` is standard input.
    #[arg(required = true)]
    raw: Vec<PathBuf>,
    /// What the files are; without it, chunks and tables are told apart by their content.
    #[arg(long, value_parser = source_kind(), value_name = "SOURCE")]
    from: Option<String>,
    /// Leave out columns of a table that refs does not have, instead of failing.
    #[arg(long)]
    ignore_unknown_columns: bool,
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

/// The sources by name, each with its line in the help.
fn source_kind() -> PossibleValuesParser {
    let value = |kind: &Kind| PossibleValue::new(kind.name).help(kind.doc);
    PossibleValuesParser::new(KINDS.iter().map(value))
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
    environment: &[(
        "TMPDIR",
        "where a table waits as a recording, 64 bytes a reference, until it is ingested",
    )],
    see_also: &[("pgtrace-capture", "1"), ("pgtrace-sql", "1")],
};

fn main() -> ExitCode {
    if let Some(code) = help_files::asked(&Cli::command(), MORE) {
        return code;
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Inspect { raw }) => run_inspect(&raw),
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
    let settings = kind::Settings {
        ignore_unknown_columns: args.ignore_unknown_columns,
        memory: args.memory,
    };
    let prepared = prepare(
        &args.raw,
        args.from.as_deref().and_then(kind::by_name),
        &settings,
    )?;
    let bar = progress_bar();
    let report = ingest(&prepared.raw, &to, &options, &|progress| match progress {
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

fn run_inspect(raw: &[PathBuf]) -> anyhow::Result<bool> {
    let stdout = std::io::stdout().lock();
    let mut out = std::io::BufWriter::with_capacity(1 << 16, stdout);
    let mut damaged = false;
    for path in &files(raw)? {
        match inspect(path, &mut out) {
            Ok(damage) => damaged |= damage,
            // Whoever reads has seen enough.
            Err(InspectError::Write(e)) if e.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    match out.flush() {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| damaged)?),
    }
}
