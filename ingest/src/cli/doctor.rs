//! `pgtrace-ingest doctor`.

use std::io::Write;

use anyhow::Context as _;
use clap::Args;
use pgtrace_ingest::doctor::doctor;

/// What to try out.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Where datasets are, or one of them: a folder or a URL.
    #[arg(value_name = "PLACE")]
    place: String,
}

/// Prints the verdict. Gives whether the place is unsafe.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start worker threads")?;
    let verdict = runtime.block_on(doctor(&args.place))?;
    super::unless_closed(writeln!(std::io::stdout(), "{verdict}"))?;
    Ok(!verdict.is_safe())
}
