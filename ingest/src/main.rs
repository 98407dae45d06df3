//! `pgtrace-ingest`: raw chunks to a partitioned Parquet dataset.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgtrace_capture::help_files::{self, More};
use pgtrace_capture::units;
use pgtrace_ingest::compact;
use pgtrace_ingest::doctor::doctor;
use pgtrace_ingest::inspect::{InspectError, inspect};
use pgtrace_ingest::manifest::PartitionKey;
use pgtrace_ingest::pipeline::{Options, Progress, ingest};
use pgtrace_ingest::source::places;
use pgtrace_ingest::store;

/// Turns raw chunks into a partitioned Parquet dataset that anyone can question in SQL.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 good; 1 done, but the trace has losses or damage (see the dataset's table `losses`); \
    2 error, and the dataset is as it was.\n\nExample:\n  pgtrace-ingest recording/ --to dataset\n  pgtrace-ingest inspect recording/cpu000-000000.pgt | less\n  \
    pgtrace-ingest compact dataset\n  \
    pgtrace-ingest s3://traces/monday/ --to s3://traces/datasets/monday\n  \
    zstdcat monday.pgt.zst | pgtrace-ingest - --to dataset"
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
        /// Raw chunks: files, folders, patterns or URLs of them; -: from standard input.
        #[arg(required = true)]
        raw: Vec<PathBuf>,
    },
    /// Merges the small files of a dataset, without a reader noticing.
    #[command(
        after_help = "Readers of an older version read on: files that were replaced stay for --keep-old, and the next ingest or \
        compact removes them.\n\nExit codes: 0 good, also with nothing to do; 2 error, and the dataset is as it was.\n\nExample:\n  \
        pgtrace-ingest compact dataset"
    )]
    Compact(CompactArgs),
    /// Tells whether several programs may write to datasets in this place at the same time.
    ///
    /// Races writers for one object, as commits do. Exit code 1: the store lets several of them win.
    #[command(after_help = "Example:\n  pgtrace-ingest doctor s3://traces/datasets")]
    Doctor {
        /// Where datasets are, or one of them: a folder or a URL.
        #[arg(value_name = "PLACE")]
        place: String,
    },
}

#[derive(Args)]
struct CompactArgs {
    /// Dataset: a folder or a URL.
    dataset: String,
    /// Memory to use, about.
    #[arg(long, default_value = "1GiB", value_parser = units::size, value_name = "SIZE")]
    memory: u64,
    /// Threads [default: one a core].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
    /// How long files stay that were replaced, for those who still read them.
    #[arg(long, default_value = "1h", value_parser = units::time, value_name = "TIME")]
    keep_old: Duration,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
struct IngestArgs {
    /// Raw chunks: files, folders of them (*.pgt), patterns in quotes, URLs (s3://, gs://, az://, https://); -:
    /// from standard input, end to end.
    #[arg(required = true)]
    raw: Vec<PathBuf>,
    /// Dataset: a folder or a URL (s3://, gs://, az://); made if it is not there.
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
    /// How long files stay that were replaced, for those who still read them.
    #[arg(long, default_value = "1h", value_parser = units::time, value_name = "TIME")]
    keep_old: Duration,
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
        (
            "DATASET/_pgtrace/runs/",
            "a marker for each run that is writing; of one that was killed, until the next run has cleaned up",
        ),
    ],
    environment: &[
        (
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION",
            "who reads and writes s3://, and where; without keys, the machine's own role is asked for",
        ),
        (
            "AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_SKIP_SIGNATURE",
            "another S3-compatible server; true: by plain HTTP; true: without credentials",
        ),
        (
            "AWS_TIMEOUT, AWS_CONNECT_TIMEOUT",
            "how long one request and one connection may take, like \"30 s\"",
        ),
        (
            "GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
            "the same for gs:// and az://",
        ),
        (
            store::PATIENCE,
            "how long a request to a store that fails is repeated [default: 180s]",
        ),
        ("TMPDIR", "where standard input is kept meanwhile"),
    ],
    see_also: &[("pgtrace-capture", "1"), ("pgtrace-sql", "1")],
};

fn main() -> ExitCode {
    if let Some(code) = help_files::asked(&Cli::command(), MORE) {
        return code;
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Inspect { raw }) => run_inspect(&raw),
        Some(Command::Compact(args)) => run_compact(&args),
        Some(Command::Doctor { place }) => run_doctor(&place),
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
        keep_old: args.keep_old,
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

fn run_compact(args: &CompactArgs) -> anyhow::Result<bool> {
    let options = compact::Options {
        memory: args.memory,
        threads: args.threads,
        keep_old: args.keep_old,
        dry_run: args.dry_run,
        ..compact::Options::default()
    };
    let report = compact::compact(&args.dataset, &options)?;
    // Words nobody reads are no reason to fail.
    let _ = write!(std::io::stderr(), "{report}");
    Ok(false)
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} references, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A runtime for requests to object stores.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.context("cannot start worker threads")
}

/// Gives whether the place is unsafe.
fn run_doctor(place: &str) -> anyhow::Result<bool> {
    let verdict = runtime()?.block_on(doctor(place))?;
    writeln!(std::io::stdout(), "{verdict}")?;
    Ok(!verdict.is_safe())
}

fn run_inspect(raw: &[PathBuf]) -> anyhow::Result<bool> {
    let runtime = runtime()?;
    let stdout = std::io::stdout().lock();
    let mut out = std::io::BufWriter::with_capacity(1 << 16, stdout);
    let mut damaged = false;
    for place in &places(raw, runtime.handle())? {
        match inspect(place, &mut out) {
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
