//! Whether a recording or a dataset is what it claims to be: every promise that can be checked, checked.
//!
//! A recording is judged by its own bytes only, a dataset by its own files only: neither needs the other.

mod dataset;
mod raw;
mod report;

use std::path::{Path, PathBuf};

use crate::error::IngestError;
use crate::manifest;

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

/// Checks what `inputs` name: raw chunks, folders of them, datasets (folders or URLs). Chunks of one recording are
/// checked together, however many inputs they come from.
///
/// Runs its own threads and runtime: do not call it from within one.
///
/// # Errors
/// What cannot be read, or is of a newer version, cannot be judged. What is broken is no error but a violation.
pub fn verify(inputs: &[String], options: &Options) -> Result<Report, IngestError> {
    let mut report = Report::default();
    let (datasets, raw): (Vec<_>, Vec<_>) = inputs.iter().partition(|i| is_dataset(i));
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| IngestError::Threads(e.to_string()))?;
    if !raw.is_empty() {
        let raw: Vec<PathBuf> = raw.into_iter().map(PathBuf::from).collect();
        let checked = threads.install(|| raw::check(&raw, options.memory))?;
        report.subjects.extend(checked);
    }
    for location in datasets {
        report.subjects.push(dataset::check(location, options)?);
    }
    Ok(report)
}

/// A URL, or a folder with manifests.
fn is_dataset(input: &str) -> bool {
    input.contains("://") || Path::new(input).join(manifest::FOLDER).is_dir()
}
