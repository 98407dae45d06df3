//! `compact`: many small files become few, without a reader noticing.
//!
//! The same rows in other files, published as one new version of the dataset. Who has an older
//! version open reads on: the files that were replaced stay for a while, retired.

mod merge;
mod plan;
pub(crate) mod read;
mod report;

use std::time::{Duration, Instant};

use object_store::ObjectStoreExt;
use rayon::prelude::*;
use tokio::runtime::Runtime;

use crate::cleanup::now;
use crate::dataset::{Dataset, DatasetError};
use crate::error::IngestError;
use crate::manifest::FileEntry;
use crate::runs::{self, Marker};

use self::plan::{Job, plan};
pub use self::report::Report;

/// Size that files are merged up to.
pub const TARGET: u64 = 1_000_000_000;
/// Memory of one merge: a row group being read, and one being encoded.
const PER_MERGE: u64 = 128 << 20;
/// The least memory to work with.
const LEAST_MEMORY: u64 = 24 << 20;
/// Tries to commit before giving up on a dataset that others keep changing.
const COMMITS: usize = 20;
/// Plans made anew because others replaced the same files first.
const ROUNDS: usize = 5;

/// What a compaction is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of memory to use, about.
    pub memory: u64,
    /// Threads; 0: one a core.
    pub threads: usize,
    /// How long files stay that were replaced, for those who still read them.
    pub keep_old: Duration,
    /// Size that files are merged up to; only files below half of it are touched.
    pub target: u64,
    /// Only tell what would be done.
    pub dry_run: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            threads: 0,
            keep_old: runs::KEEP_OLD,
            target: TARGET,
            dry_run: false,
        }
    }
}

/// Files that were merged into one, which is not yet published.
struct Merged {
    job: Job,
    file: FileEntry,
}

/// Merges the small files of the dataset at `location`. With nothing to do, nothing is written.
///
/// Runs its own threads and runtime: do not call it from within one.
///
/// # Errors
/// [`IngestError`]; the dataset is as it was.
pub fn compact(location: &str, options: &Options) -> Result<Report, IngestError> {
    let started = Instant::now();
    if options.memory < LEAST_MEMORY {
        return Err(IngestError::Options(format!(
            "a memory limit of {} bytes is too small: expected at least {LEAST_MEMORY} (--memory)",
            options.memory
        )));
    }
    let cannot = |e: &dyn std::fmt::Display| IngestError::Threads(e.to_string());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match options.threads {
        0 => cores,
        n => n,
    };
    // Each merge is one thread's work.
    let merges = usize::try_from(options.memory / PER_MERGE).unwrap_or(threads);
    let merges = merges.clamp(1, threads);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(merges)
        .build()
        .map_err(|e| cannot(&e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|e| cannot(&e))?;
    let mut dataset = runtime.block_on(Dataset::open(location))?;
    let mut report = Report::default();
    if options.dry_run {
        let jobs = plan(dataset.manifest(), options.target);
        report.would(dataset.manifest(), &jobs);
        return Ok(report);
    }
    let begun = Marker::begin(&mut dataset, "compact", options.keep_old);
    let (marker, cleaned) = runtime.block_on(begun)?;
    report.cleaned = cleaned;
    let mut run = Run {
        runtime: &runtime,
        dataset,
        marker: &marker,
        target: options.target,
        budget: options.memory / merges as u64,
        report: &mut report,
    };
    let done = pool.install(|| run.run());
    let mut dataset = run.dataset;
    match done {
        Ok(()) => runtime.block_on(marker.end()),
        Err(e) => {
            runtime.block_on(marker.abandon(&mut dataset));
            return Err(e);
        }
    }
    report.total(dataset.manifest());
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

struct Run<'a> {
    runtime: &'a Runtime,
    dataset: Dataset,
    marker: &'a Marker,
    target: u64,
    /// Memory of one merge.
    budget: u64,
    report: &'a mut Report,
}

impl Run<'_> {
    fn run(&mut self) -> Result<(), IngestError> {
        for _ in 0..ROUNDS {
            let jobs = plan(self.dataset.manifest(), self.target);
            let merged: Vec<Merged> = jobs
                .into_par_iter()
                .map(|job| self.merge(job))
                .collect::<Result<_, _>>()?;
            if merged.is_empty() {
                return Ok(());
            }
            self.dataset.sync(merged.iter().map(|m| &m.file))?;
            if self.publish(merged)? {
                return Ok(());
            }
        }
        // Others compact the same dataset: let them.
        Ok(())
    }

    fn merge(&self, job: Job) -> Result<Merged, IngestError> {
        let name = self.marker.file_name(&job.capture_id);
        let path = format!("{}/{name}.parquet", job.folder);
        let merged = merge::merge(&self.dataset, &job, path, self.budget);
        let file = self.runtime.handle().block_on(merged)?;
        Ok(Merged { job, file })
    }

    /// One commit for all. Somebody else's commit meanwhile is built upon; where it replaced files
    /// of ours, ours are dropped. Whether all came in.
    fn publish(&mut self, mut merged: Vec<Merged>) -> Result<bool, IngestError> {
        let mut whole = true;
        for tries in 1.. {
            let known: std::collections::HashSet<&str> = {
                let files = self.dataset.manifest().tables.values().flatten();
                files.map(|f| f.path.as_str()).collect()
            };
            let there = |m: &Merged| m.job.inputs.iter().all(|f| known.contains(f.path.as_str()));
            let (ours, stale): (Vec<_>, Vec<_>) = merged.into_iter().partition(there);
            drop(known);
            whole &= stale.is_empty();
            for m in stale {
                let at = self.dataset.path_of(&m.file);
                // Nobody can see it; what stays goes with the next clean-up.
                let _ = self.runtime.block_on(self.dataset.store().delete(&at));
            }
            merged = ours;
            if merged.is_empty() {
                break;
            }
            let mut next = self.dataset.manifest().next();
            for m in &merged {
                let new = vec![m.file.clone()];
                next.replace(m.job.table, &m.job.inputs, new, now());
            }
            let commit = self.marker.commit(&mut self.dataset, next);
            match self.runtime.block_on(commit) {
                Err(DatasetError::Conflict { .. }) if tries < COMMITS => {
                    self.runtime.block_on(self.dataset.reload())?;
                }
                Err(e) => return Err(e.into()),
                Ok(()) => {
                    for m in &merged {
                        self.report.merged(m.job.table, &m.job.inputs, m.file.bytes);
                    }
                    break;
                }
            }
        }
        Ok(whole)
    }
}
