//! Ingest itself: what `pgtrace-ingest` does without a command's name.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use pgtrace_capture::units;
use pgtrace_ingest::manifest::PartitionKey;
use pgtrace_ingest::pipeline::{Options, Progress, ingest};
use pgtrace_ingest::progress;
use pgtrace_ingest::source::kind::{self, KINDS, Kind, prepare};

/// What to ingest, and how.
#[derive(Args)]
pub(crate) struct IngestArgs {
    /// Raw chunks: files, folders of them (*.pgt), patterns in quotes, URLs (s3://, gs://, az://, https://); -:
    /// from standard input, end to end. Or tables (csv, ndjson, parquet): files, patterns, URLs; with --from, -.
    #[arg(required = true)]
    raw: Vec<PathBuf>,
    /// What the files are; without it, chunks and tables are told apart by their content.
    #[arg(long, value_parser = source_kind(), value_name = "SOURCE")]
    from: Option<String>,
    /// Leave out columns of a table that refs does not have, instead of failing.
    #[arg(long)]
    ignore_unknown_columns: bool,
    /// Dataset: a folder or a URL (s3://, gs://, az://); made if it is not there.
    #[arg(long, required = true, value_name = "DATASET")]
    to: Option<String>,
    /// Folders of a new dataset, in this order: some of uid, pid, slice. auto: uid,pid,slice, or uid,slice where there
    /// are more than 256 processes with less than 131072 references each, or more than 4096.
    #[arg(long, default_value = "auto", value_parser = keys, value_name = "KEYS")]
    partition_by: Keys,
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

/// The sources by name, each with its line in the help.
fn source_kind() -> PossibleValuesParser {
    let value = |kind: &Kind| PossibleValue::new(kind.name).help(kind.doc);
    PossibleValuesParser::new(KINDS.iter().map(value))
}

/// `None`: as the recordings ask for.
type Keys = Option<std::sync::Arc<[PartitionKey]>>;

fn keys(text: &str) -> Result<Keys, String> {
    let all = [PartitionKey::Uid, PartitionKey::Pid, PartitionKey::Slice];
    let key = |name: &str| {
        let found = all.into_iter().find(|key| key.name() == name);
        found.ok_or_else(|| format!("expected auto, or some of uid,pid,slice, found {name:?}"))
    };
    match text {
        "auto" => Ok(None),
        keys => keys.split(',').map(key).collect::<Result<_, _>>().map(Some),
    }
}

/// Gives whether there were losses or damage.
pub(crate) fn run(args: IngestArgs) -> anyhow::Result<bool> {
    let to = args.to.context("--to DATASET is missing")?;
    let options = Options {
        partition_by: args.partition_by.map(|keys| keys.to_vec()),
        slice_rows: args.slice_rows,
        memory: args.memory,
        threads: args.threads,
        max_open_files: args.max_open_files,
        keep_going: args.keep_going,
        keep_old: args.keep_old,
    };
    let settings = kind::Settings {
        ignore_unknown_columns: args.ignore_unknown_columns,
        memory: args.memory,
    };
    let from = args.from.as_deref().and_then(kind::by_name);
    let prepared = prepare(&args.raw, from, &settings)?;
    let bar = progress::bar();
    let read = AtomicU64::new(0);
    let report = ingest(&prepared.raw, &to, &options, &|progress| match progress {
        Progress::Surveyed(bytes) => {
            let read = read.fetch_add(bytes, Ordering::Relaxed) + bytes;
            bar.set_message(format!("{} read, ", units::show_binary(read)));
            bar.tick();
        }
        Progress::Rows(rows) => bar.set_length(bar.length().unwrap_or(0) + rows),
        Progress::Written(rows) => bar.inc(rows),
    });
    bar.finish_and_clear();
    let report = report?;
    // Words nobody reads are no reason to fail.
    let _ = write!(std::io::stderr(), "{report}");
    Ok(report.has_losses())
}
