//! `pgtrace-sql DATASET`: asks a pgtrace dataset in SQL.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use pgtrace_capture::help_files::{self, More};
use pgtrace_sql::Error;

/// Ask a pgtrace dataset in SQL.
///
/// Without -c and -f, statements come from an interactive shell, or from stdin when that is no terminal.
#[derive(Parser)]
#[command(
    name = "pgtrace-sql",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    query: cli::query::QueryArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the dataset known to another program, without copying it: a script for DuckDB, or Delta tables.
    #[command(after_help = cli::export::EXAMPLES)]
    Export(cli::export::ExportArgs),
}

const EXAMPLES: &str = "\
Examples:
  pgtrace-sql trace.ds                                        a shell; \\d lists tables and views
  pgtrace-sql trace.ds -c 'SELECT * FROM hot_files LIMIT 10'
  pgtrace-sql trace.ds --format csv -c 'SELECT * FROM page_irf' > irf.csv
  pgtrace-sql trace.ds --memory 4GiB --spill-dir /scratch -f report.sql
  pgtrace-sql export duckdb trace.ds > views.sql

Exit status: 0 done, 2 error. What a recording lost is in the table losses; a note on stderr says if any.";

/// What the man page says besides.
const MORE: More<'_> = More {
    files: &[(
        "DATASET",
        "a folder that pgtrace-ingest made; its Parquet opens in other programs, too",
    )],
    environment: &[("TMPDIR", "where to spill, without --spill-dir")],
    see_also: &[("pgtrace-capture", "1"), ("pgtrace-ingest", "1")],
};

fn main() -> ExitCode {
    if let Some(code) = help_files::asked(&Cli::command(), MORE) {
        return code;
    }
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let done = match cli.command {
        Some(Command::Export(args)) => cli::export::run(&args),
        None => cli::query::run(&cli.query, &matches),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<Error>().is_some_and(Error::is_closed_pipe) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("pgtrace-sql: {e:#}");
            ExitCode::from(2)
        }
    }
}
