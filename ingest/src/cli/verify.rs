//! `pgtrace-ingest verify`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use pgtrace_capture::units;
use pgtrace_ingest::verify::{Options, verify};

/// What to check, and how.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Raw chunks (files, folders, patterns or URLs of them; -: from standard input), or datasets (folders or URLs).
    #[arg(required = true, value_name = "RAW|DATASET")]
    inputs: Vec<String>,
    /// Memory to use, about.
    #[arg(long, default_value = "1GiB", value_parser = units::size, value_name = "SIZE")]
    memory: u64,
    /// Threads [default: one a core].
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
}

/// Prints the report. Gives whether a rule does not hold.
pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<bool> {
    let options = Options {
        memory: args.memory,
        threads: args.threads,
    };
    let spinner = spinner();
    let report = verify(&args.inputs, &options);
    spinner.finish_and_clear();
    let report = report?;
    let text = report.to_string();
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    super::unless_closed(written)?;
    Ok(!report.holds())
}

/// Shows that something goes on, to who watches.
fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message("checking");
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}
