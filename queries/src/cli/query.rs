//! Asking: what `pgtrace-sql` does without a command's name.

use std::io::{IsTerminal, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgMatches, Args};
use pgtrace_sql::output::Format;
use pgtrace_sql::session::Session;
use pgtrace_sql::shell::Shell;
use pgtrace_sql::variables::Variables;
use pgtrace_sql::{Error, shell};
use tokio::runtime::Handle;

use super::{begin, memory};

/// What to ask, and how.
#[derive(Args)]
pub(crate) struct QueryArgs {
    /// The dataset: a folder, or a URL (s3://, gs://, az://, file://)
    #[arg(required = true)]
    dataset: Option<String>,
    /// Run these statements; may be given several times, in order with -f
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Run the statements of a file; may be given several times, in order with -c
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Give a variable a value, for statements to use as :NAME, :'NAME' (a string) or :"NAME" (a name)
    #[arg(long, value_name = "NAME=VALUE", value_parser = Variables::parse)]
    set: Vec<(String, String)>,
    /// How results are written: table, expanded, md, csv, json, ndjson, parquet, arrow (an IPC stream)
    /// [default: what FILE's ending says, else table]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Write results to a file, which appears when it is whole
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Memory for rows; sorts, aggregates and joins that need more spill to disk
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = memory)]
    memory: usize,
    /// Where they spill [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Rows of one result that the interactive shell shows; 0: all [default: 1000, all with a pager]
    #[arg(long, value_name = "N")]
    max_rows: Option<usize>,
    /// Do not read .pgtracerc when the interactive shell begins
    #[arg(long)]
    no_rc: bool,
}

/// Answers all statements, or is a shell.
pub(crate) fn run(cli: &QueryArgs, matches: &ArgMatches) -> anyhow::Result<()> {
    let dataset = cli.dataset.as_deref().context("DATASET is missing")?;
    let (options, runtime) = begin(cli.memory, cli.spill_dir.as_deref(), cli.threads)?;
    let done = scripts(cli, matches).and_then(|scripts| {
        let session = runtime.block_on(Session::open(dataset, &options))?;
        ask(cli, scripts, &session, runtime.handle())
    });
    runtime.shutdown_background(); // a stopped query may still compute, and nobody waits for it
    done
}

fn ask(
    cli: &QueryArgs,
    scripts: Vec<Script>,
    session: &Session,
    runtime: &Handle,
) -> anyhow::Result<()> {
    let settings = shell::Settings {
        format: cli.format,
        output: cli.output.clone(),
        max_rows: cli.max_rows,
        variables: variables(&cli.set)?,
        rc: !cli.no_rc,
    };
    if scripts.is_empty() && std::io::stdin().is_terminal() {
        return Ok(shell::interactive(session, &settings, runtime)?);
    }
    let mut shell = Shell::new(session, &settings, runtime)?;
    for Script { name, text } in if scripts.is_empty() {
        vec![stdin()?]
    } else {
        scripts
    } {
        shell.script(&name, &text)?;
    }
    shell.close()?;
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
    name: String,
    text: String,
}

/// The arguments of -c and -f in the order they were given.
fn scripts(cli: &QueryArgs, matches: &ArgMatches) -> anyhow::Result<Vec<Script>> {
    let places = |id| matches.indices_of(id).into_iter().flatten();
    let mut scripts = Vec::new();
    for (at, text) in places("commands").zip(&cli.commands) {
        scripts.push((
            at,
            Script {
                name: "-c".to_owned(),
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
                name: path.display().to_string(),
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
    let name = "stdin".to_owned();
    Ok(Script { name, text })
}

/// The arguments of --set; the last one of a name counts.
fn variables(set: &[(String, String)]) -> anyhow::Result<Variables> {
    let mut variables = Variables::default();
    for (name, value) in set {
        variables.set(name, value).map_err(Error::Command)?;
    }
    Ok(variables)
}
