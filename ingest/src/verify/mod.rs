//! Whether a recording or a dataset is what it claims to be: every promise that can be checked, checked.
//!
//! A recording is judged by its own bytes only, a dataset by its own files only: neither needs the other.

mod dataset;
mod raw;
mod report;

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use crate::dataset::{Dataset, DatasetError};
use crate::error::IngestError;
use crate::{manifest, store};

pub use report::{Report, Rule, Subject};

/// How to work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of memory to use, about.
    pub memory: u64,
    /// Threads; 0: one a core.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            threads: 0,
        }
    }
}

/// Checks what `inputs` name: raw chunks (see [`crate::source::places`]), datasets (folders or URLs). Chunks of one recording are
/// checked together, however many inputs they come from.
///
/// Runs its own threads and runtime: do not call it from within one.
///
/// # Errors
/// What cannot be read, or is of a newer version, cannot be judged. What is broken is no error but a violation.
pub fn verify(inputs: &[String], options: &Options) -> Result<Report, IngestError> {
    let mut report = Report::default();
    // File-system calls wait on threads of their own; few are enough.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    let (mut datasets, mut raw) = (Vec::new(), Vec::new());
    for input in inputs {
        match is_dataset(input, &runtime)? {
            true => datasets.push(input),
            false => raw.push(PathBuf::from(input)),
        }
    }
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    if !raw.is_empty() {
        let checked = threads.install(|| raw::check(&raw, options.memory, runtime.handle()))?;
        report.subjects.extend(checked);
    }
    for location in datasets {
        report
            .subjects
            .push(dataset::check(location, options, &runtime)?);
    }
    Ok(report)
}

/// Whether there are manifests in a place.
fn is_dataset(input: &str, runtime: &Runtime) -> Result<bool, IngestError> {
    if !store::is_url(input) {
        return Ok(Path::new(input).join(manifest::FOLDER).is_dir());
    }
    match runtime.block_on(Dataset::open(input)) {
        // A pattern is no place; what is wrong with any other URL is told when it is read as raw chunks.
        Err(
            DatasetError::NotADataset { .. }
            | DatasetError::Missing { .. }
            | DatasetError::Location { .. },
        ) => Ok(false),
        Ok(_) | Err(DatasetError::Manifest { .. }) => Ok(true),
        // Most web servers list nothing, so that there is no dataset in them, but there may be chunks.
        Err(DatasetError::Store { .. }) if input.starts_with("http") => Ok(false),
        Err(e) => Err(e.into()),
    }
}
