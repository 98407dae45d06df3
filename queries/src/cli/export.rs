//! `pgtrace-sql export`: the dataset for another program.

use std::io::Write;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::schema::Table;
use pgtrace_sql::Error;
use pgtrace_sql::export::{delta, duckdb};

pub(crate) const EXAMPLES: &str = "\
duckdb prints a script: the tables as views over the dataset's files, and pgtrace's views as macros; what SQL does not reach is
listed in its head. delta writes _delta_log/ into the folder of each table, which is a Delta table then; done again after further
commits it adds a version, and none where nothing has changed. Neither copies a row.

Examples:
  pgtrace-sql export duckdb trace.ds > views.sql; duckdb -init views.sql
  pgtrace-sql export delta trace.ds
  pgtrace-sql export delta s3://traces/week --table refs,objects

Exit status: 0 done, 2 error.";

/// Which program, and which dataset.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// What for
    format: Format,
    /// The dataset: a folder, or a URL (s3://, gs://, az://, file://)
    dataset: String,
    /// Of delta: these tables only [default: all]
    #[arg(long = "table", value_name = "TABLE", value_delimiter = ',', value_parser = table)]
    tables: Vec<Table>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A script for DuckDB 2.0, on stdout
    Duckdb,
    /// Delta Lake's transaction logs, beside the files
    Delta,
}

fn table(name: &str) -> Result<Table, String> {
    let known = Table::ALL.into_iter().find(|table| table.name() == name);
    known.ok_or_else(|| {
        let names: Vec<_> = Table::ALL.iter().map(|table| table.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Writes the script, or the logs.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if args.format == Format::Duckdb && !args.tables.is_empty() {
        bail!("--table is for export delta: the script for DuckDB has all tables");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting threads")?;
    let dataset = runtime
        .block_on(Dataset::open(&args.dataset))
        .map_err(Error::from)?;
    match args.format {
        Format::Duckdb => {
            let script = duckdb::script(&dataset)?;
            let mut out = std::io::stdout();
            let written = out.write_all(script.as_bytes()).and_then(|()| out.flush());
            written.map_err(Error::Output)?;
        }
        Format::Delta => {
            let tables = match args.tables.is_empty() {
                true => Table::ALL.to_vec(),
                false => args.tables.clone(),
            };
            for table in tables {
                let done = runtime.block_on(delta::export(&dataset, table))?;
                eprintln!("{table}: {done}");
            }
        }
    }
    Ok(())
}
