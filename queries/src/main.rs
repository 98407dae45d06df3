//! `pgtrace-sql`: asks a pgtrace dataset in SQL, and makes datasets of its rows.

mod allocator;
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
    /// Makes a dataset of the references of a stretch of time or of numbers.
    #[command(after_help = CUT)]
    Cut(Box<cli::derive::CutArgs>),
    /// Makes a dataset of the references that are so: of a process, a file, an event, or anything SQL can say.
    #[command(after_help = FILTER)]
    Filter(Box<cli::derive::FilterArgs>),
    /// Makes a dataset for each process, user, file, directory .. or each value of any SQL expression.
    #[command(after_help = SPLIT)]
    Split(Box<cli::derive::SplitArgs>),
    /// Makes the dataset known to another program, without copying it: a script for DuckDB, or Delta tables.
    #[command(after_help = cli::export::EXAMPLES)]
    Export(cli::export::ExportArgs),
}

const EXAMPLES: &str = "\
Examples:
  pgtrace-sql trace.ds                                        a shell; \\d lists tables and views
  pgtrace-sql trace.ds -c 'SELECT * FROM hot_files LIMIT 10'
  pgtrace-sql trace.ds --format csv -c 'SELECT * FROM page_irf' > irf.csv
  pgtrace-sql trace.ds -o irf.parquet -c 'SELECT * FROM page_irf'
  pgtrace-sql trace.ds --set pid=42 -c 'SELECT count(*) FROM refs WHERE pid = :pid'
  pgtrace-sql trace.ds --memory 4GiB --spill-dir /scratch -f report.sql
  pgtrace-sql cut trace.ds --time 2s..5s --to cut.ds
  pgtrace-sql filter trace.ds --path '/data/*' --to data.ds
  pgtrace-sql trace.ds -c '\\views page_irf'                  what is written about a view; \\? lists the commands
  pgtrace-sql split trace.ds --by pid --to by-pid
  pgtrace-sql export duckdb trace.ds > views.sql

Exit status: 0 done, 2 error; of cut, filter and split also 1: done, but references were lost in that time.
What a recording lost is in the table losses; a note on stderr says if any.
A dataset called like a command is ./cut.";

/// What the result of each command is.
macro_rules! result {
    ($examples:literal) => {
        concat!(
            "The result (of split: each) is a dataset: it keeps the capture's own seq, and what belongs to its references - processes and their parents, \
objects, mappings, marks, losses of that time. Files whose rows are all asked for are shared by a link, not copied; only \
others are written anew. Nobody sees a part of it: it is there when it is whole, and a killed run leaves nothing once \
another has run.\n\n\
Exit status: 0 done; 1 done, but references were lost in that time; 2 error, and nothing was made.\n\nExamples:\n",
            $examples
        )
    };
}

const CUT: &str = result!(
    "  pgtrace-sql cut trace.ds --time 2s..5s --to cut.ds
  pgtrace-sql cut trace.ds --time 2026-01-02T03:04:05.. --to rest.ds
  pgtrace-sql cut trace.ds --seq ..1000000 --to first.ds"
);

const FILTER: &str = result!(
    "  pgtrace-sql filter trace.ds --path '/data/*' --event fault,retouch --to data.ds
  pgtrace-sql filter trace.ds --pid 154,155 --time 2s..5s --to two.ds
  pgtrace-sql filter trace.ds --where \"cgroup LIKE '/user%' AND page < 100\" --to users.ds"
);

const SPLIT: &str = result!(
    "  pgtrace-sql split trace.ds --by pid --to by-pid
  pgtrace-sql split trace.ds --by path --kind file --time 2s..5s --to by-path
  pgtrace-sql split trace.ds --by \"page / 512\" --to by-2MiB

The datasets are folders of --to, called KEY=VALUE; the list of them is parts.ndjson: values, folder, rows, and references \
lost in that time (nobody knows whose they were). Letters that make trouble in names are replaced there, not in the list."
);

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
    let done = match cli.command {
        Some(Command::Cut(args)) => cli::derive::cut(*args),
        Some(Command::Filter(args)) => cli::derive::filter(*args),
        Some(Command::Split(args)) => cli::derive::split(*args),
        Some(Command::Export(args)) => cli::export::run(&args).map(|()| false),
        None => cli::query::run(&cli.query, &matches).map(|()| false),
    };
    match done {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(1),
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
