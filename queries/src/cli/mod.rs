//! The commands, a file each.

pub(crate) mod derive;
pub(crate) mod export;
pub(crate) mod query;

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;
use pgtrace_capture::units;
use pgtrace_sql::session::Options;
use tokio::runtime::{Builder, Runtime};

use crate::allocator;

/// An amount of memory as people type it.
fn memory(text: &str) -> Result<usize, String> {
    match usize::try_from(units::size(text).map_err(|e| e.to_string())?) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("{text:?} is no amount of memory to work with")),
    }
}

/// What a session is to work with, and the threads it works on; the process is held to that memory from here on.
fn begin(
    memory: usize,
    spill_dir: Option<&Path>,
    threads: Option<NonZeroUsize>,
) -> anyhow::Result<(Options, Runtime)> {
    allocator::limit(memory);
    let options = Options {
        memory,
        spill_dir: spill_dir.map(Path::to_path_buf),
        threads: threads.unwrap_or(Options::default().threads),
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(options.threads.get())
        .enable_all()
        .build()
        .context("starting threads")?;
    Ok((options, runtime))
}
