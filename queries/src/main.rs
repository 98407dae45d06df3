//! `pgtrace-sql DATASET`: asks a pgtrace dataset in SQL.

use std::io::{IsTerminal, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use pgtrace_capture::help_files::{self, More};
use pgtrace_capture::units;
use pgtrace_sql::output::Format;
use pgtrace_sql::session::{Options, Session};
use pgtrace_sql::{Error, run, shell, statements};

/// Ask a pgtrace dataset in SQL.
///
/// Without -c and -f, statements come from an interactive shell, or from stdin when that is no terminal.
#[derive(Parser)]
#[command(name = "pgtrace-sql", version, after_help = EXAMPLES)]
struct Cli {
    /// The dataset: a folder, or a URL (s3://, gs://, az://, file://)
    dataset: String,
    /// Run these statements; may be given several times, in order with -f
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Run the statements of a file; may be given several times, in order with -c
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How results are written: table, csv, json, ndjson
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: Format,
    /// Memory for rows; sorts, aggregates and joins that need more spill to disk
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = memory)]
    memory: usize,
    /// Where they spill [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Rows of one result that the interactive shell shows; 0: all
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_rows: usize,
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
    match answer(&cli, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.downcast_ref::<Error>().is_some_and(Error::is_closed_pipe) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("pgtrace-sql: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn answer(cli: &Cli, matches: &ArgMatches) -> anyhow::Result<()> {
    let defaults = Options::default();
    let options = Options {
        memory: cli.memory,
        spill_dir: cli.spill_dir.clone(),
        threads: cli.threads.unwrap_or(defaults.threads),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.get())
        .enable_all()
        .build()
        .context("starting threads")?;
    let scripts = scripts(cli, matches)?;
    let session = runtime.block_on(Session::open(&cli.dataset, &options))?;
    if scripts.is_empty() && std::io::stdin().is_terminal() {
        let settings = shell::Settings {
            format: cli.format,
            max_rows: Some(cli.max_rows).filter(|&n| n > 0),
        };
        return Ok(shell::interactive(&session, settings, runtime.handle())?);
    }
    for Script { name, text } in if scripts.is_empty() {
        vec![stdin()?]
    } else {
        scripts
    } {
        let (mut all, rest) = statements::split(&text);
        all.extend(Some(rest).filter(|rest| !rest.is_empty()));
        for (i, sql) in all.iter().enumerate() {
            let mut out = std::io::stdout();
            let done = runtime.block_on(run::statement(&session, sql, cli.format, None, &mut out));
            match (done, &name) {
                (Ok(_), _) => {}
                // The context must not hide a closed pipe: downcast_ref above sees through it.
                (Err(e), Some(name)) => {
                    return Err(e).with_context(|| format!("{name}, statement {}", i + 1));
                }
                (Err(e), None) => return Err(e.into()),
            }
        }
    }
    if session.lost() > 0 {
        eprintln!(
            "note: this dataset has {} lost references (SELECT * FROM losses)",
            session.lost()
        );
    }
    Ok(())
}

/// Statements to run, and the file they are from.
struct Script {
    name: Option<String>,
    text: String,
}

/// The arguments of -c and -f in the order they were given.
fn scripts(cli: &Cli, matches: &ArgMatches) -> anyhow::Result<Vec<Script>> {
    let places = |id| matches.indices_of(id).into_iter().flatten();
    let mut scripts = Vec::new();
    for (at, text) in places("commands").zip(&cli.commands) {
        scripts.push((
            at,
            Script {
                name: None,
                text: text.clone(),
            },
        ));
    }
    for (at, path) in places("files").zip(&cli.files) {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|cause| Error::SqlFile {
            path: path.clone(),
            cause,
        })?;
        scripts.push((
            at,
            Script {
                name: Some(path.display().to_string()),
                text,
            },
        ));
    }
    scripts.sort_by_key(|(at, _)| *at);
    Ok(scripts.into_iter().map(|(_, script)| script).collect())
}

fn stdin() -> anyhow::Result<Script> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading SQL from stdin")?;
    Ok(Script { name: None, text })
}

fn memory(text: &str) -> Result<usize, String> {
    match usize::try_from(units::size(text).map_err(|e| e.to_string())?) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("{text:?} is no amount of memory to work with")),
    }
}
