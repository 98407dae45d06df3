//! `pgtrace-ingest`: raw chunks to a partitioned Parquet dataset.

mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use pgtrace_capture::help_files::{self, More};
use pgtrace_ingest::store;

/// Turns raw chunks into a partitioned Parquet dataset that anyone can question in SQL.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 good; 1 done, but the trace has losses or damage (see the dataset's table `losses`); \
    2 error, and the dataset is as it was.\n\nExample:\n  pgtrace-ingest recording/ --to dataset\n  pgtrace-ingest mine.csv --to dataset\n  pgtrace-ingest verify dataset\n  \
    pgtrace-ingest inspect recording/ | less\n  \
    pgtrace-ingest compact dataset\n  \
    pgtrace-ingest s3://traces/monday/ --to s3://traces/datasets/monday\n  \
    zstdcat monday.pgt.zst | pgtrace-ingest - --to dataset"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    ingest: cli::ingest::IngestArgs,
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
        ranges, folders, time, names, losses. A place with a manifest is a dataset.\n\n\
        Exit codes: 0 all holds; 1 something does not; 2 error.\n\nExamples:\n  \
        pgtrace-ingest verify recording/\n  pgtrace-ingest verify dataset"
    )]
    Verify(cli::verify::VerifyArgs),
    /// Merges the small files of a dataset, without a reader noticing.
    #[command(
        after_help = "Readers of an older version read on: files that were replaced stay for --keep-old, and the next ingest or \
        compact removes them.\n\nExit codes: 0 good, also with nothing to do; 2 error, and the dataset is as it was.\n\nExample:\n  \
        pgtrace-ingest compact dataset"
    )]
    Compact(cli::compact::CompactArgs),
    /// Tells whether several programs may write to datasets in this place at the same time.
    ///
    /// Races writers for one object, as commits do. Exit code 1: the store lets several of them win.
    #[command(after_help = "Example:\n  pgtrace-ingest doctor s3://traces/datasets")]
    Doctor(cli::doctor::DoctorArgs),
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
        (
            "TMPDIR",
            "where standard input is kept meanwhile, and a table waits as a recording, 64 bytes a reference",
        ),
    ],
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
        Some(Command::Compact(args)) => cli::compact::run(&args),
        Some(Command::Doctor(args)) => cli::doctor::run(&args),
        None => cli::ingest::run(cli.ingest),
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
