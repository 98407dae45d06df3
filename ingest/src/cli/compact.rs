//! `pgtrace-ingest compact`.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use pgtrace_capture::units;
use pgtrace_ingest::compact;

/// What to merge, and how.
#[derive(Args)]
pub(crate) struct CompactArgs {
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

/// Tells what was done. There are no losses in it.
pub(crate) fn run(args: &CompactArgs) -> anyhow::Result<bool> {
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
