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
  pgtrace-sql trace.ds -o irf.parquet -c 'SELECT * FROM page_irf'
  pgtrace-sql trace.ds --set pid=42 -c 'SELECT count(*) FROM refs WHERE pid = :pid'
  pgtrace-sql trace.ds --memory 4GiB --spill-dir /scratch -f report.sql
  pgtrace-sql trace.ds -c '\\views page_irf'                  what is written about a view; \\? lists the commands

Exit status: 0 done, 2 error. What a recording lost is in the table losses; a note on stderr says if any.";

/// What the man page says besides.
const MORE: More<'_> = More {
    files: &[
        (
            "DATASET",
            "a folder that pgtrace-ingest made; its Parquet opens in other programs, too",
        ),
        (
            "~/.pgtracerc",
            "commands and statements the shell runs when it begins; or pgtrace/pgtracerc in $XDG_CONFIG_HOME",
        ),
    ],
    environment: &[
        ("TMPDIR", "where to spill, without --spill-dir"),
        (
            "PGTRACE_PAGER, PAGER",
            "shows what is bigger than the screen; else less; empty: none",
        ),
        (
            "PGTRACE_HISTORY",
            "where the shell's history is kept; else pgtrace/history in $XDG_STATE_HOME",
        ),
        (
            "PGTRACERC",
            "what the shell runs when it begins; empty: nothing",
        ),
        (
            "VISUAL, EDITOR",
            "edits the statement being typed, at Ctrl-O",
        ),
        ("NO_COLOR", "no colours"),
    ],
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
