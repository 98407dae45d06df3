//! `pgtrace-sql DATASET`: asks a pgtrace dataset in SQL.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use pgtrace_capture::help_files::{self, More};
use pgtrace_sql::Error;

/// Ask a pgtrace dataset in SQL.
///
/// Without -c and -f, statements come from an interactive shell, or from stdin when that is no terminal.
#[derive(Parser)]
#[command(name = "pgtrace-sql", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    query: cli::query::QueryArgs,
}

const EXAMPLES: &str = "\
Examples:
  pgtrace-sql trace.ds                                        a shell; \\d lists tables and views
  pgtrace-sql trace.ds -c 'SELECT * FROM hot_files LIMIT 10'
  pgtrace-sql trace.ds --format csv -c 'SELECT * FROM page_irf' > irf.csv
  pgtrace-sql trace.ds --memory 4GiB --spill-dir /scratch -f report.sql

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
    match cli::query::run(&cli.query, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<Error>().is_some_and(Error::is_closed_pipe) => ExitCode::SUCCESS,
        Err(e) => {
            match e.downcast_ref::<Error>() {
                Some(error) => eprintln!("pgtrace-sql: {}", pgtrace_sql::shell::report(error)),
                None => eprintln!("pgtrace-sql: {e:#}"),
            }
            ExitCode::from(2)
        }
    }
}
