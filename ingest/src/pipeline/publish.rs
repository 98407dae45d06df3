//! What was written becomes part of the dataset: one commit for all recordings of a run.

use std::collections::{BTreeMap, BTreeSet};

use super::{COMMITS, Run};
use crate::cleanup;
use crate::dataset::DatasetError;
use crate::error::IngestError;
use crate::manifest::{CaptureEntry, FileEntry, Manifest, RetiredFile};
use crate::partition;
use crate::report::CaptureReport;
use crate::schema::Table;
use crate::source::Recording;

/// A recording whose files are written and not yet published.
pub(super) struct Written {
    pub(super) recording: Recording,
    /// What it was built upon: the recording as the dataset had it.
    pub(super) base: Option<CaptureEntry>,
    /// Files that are replaced.
    pub(super) gone: BTreeMap<Table, Vec<FileEntry>>,
    pub(super) entry: CaptureEntry,
    pub(super) files: BTreeMap<Table, Vec<FileEntry>>,
    pub(super) report: CaptureReport,
}

impl Written {
    /// Whether what it was built upon is there as it was.
    fn fits(&self, manifest: &Manifest) -> bool {
        let known = manifest.known();
        let mut gone = self.gone.values().flatten();
        manifest.capture(&self.entry.capture_id) == self.base.as_ref()
            && gone.all(|f| known.contains(f.path.as_str()) && !manifest.is_retired(&f.path))
    }
}

impl Run<'_> {
    /// One commit for all that was written. Somebody else's commit meanwhile is
    /// built upon; if it changed a recording of ours, ours is written anew.
    pub(super) fn publish(&mut self, written: &mut Vec<Written>) -> Result<(), IngestError> {
        let mut tries = 0;
        let sync = |run: &Self, written: &[Written]| {
            let files = written.iter().flat_map(|w| w.files.values().flatten());
            run.dataset.sync(files)
        };
        sync(self, written)?;
        while !written.is_empty() {
            let next = next(self.dataset.manifest(), written);
            tries += 1;
            let commit = self.marker.commit(&mut self.dataset, next);
            match self.runtime.block_on(commit) {
                Err(DatasetError::Conflict { .. }) if tries < COMMITS => {
                    self.runtime.block_on(self.dataset.reload())?;
                    let manifest = self.dataset.manifest();
                    let (ours, stale): (Vec<_>, Vec<_>) = std::mem::take(written)
                        .into_iter()
                        .partition(|w| w.fits(manifest));
                    *written = ours;
                    if stale.is_empty() {
                        continue;
                    }
                    self.remove(&stale);
                    let again = stale.into_iter().map(|w| w.recording).collect();
                    self.write_all(again, written)?;
                    sync(self, written)?;
                }
                result => return Ok(result?),
            }
        }
        Ok(())
    }

    pub(super) fn remove(&self, written: &[Written]) {
        for file in written {
            let mut files: Vec<_> = file.files.values().flatten().cloned().collect();
            files.extend(file.entry.state.clone().map(FileEntry::at));
            self.runtime
                .block_on(partition::remove(&self.dataset, &files));
        }
    }
}

/// The version after `manifest` with what was written in it.
fn next(manifest: &Manifest, written: &[Written]) -> Manifest {
    let mut next = manifest.next();
    let now = cleanup::now();
    for done in written {
        let capture = &done.entry.capture_id;
        let known = next.captures.iter_mut().find(|c| c.capture_id == *capture);
        match known {
            Some(known) => {
                if let Some(path) = std::mem::replace(known, done.entry.clone()).state {
                    let bytes = 0;
                    let since = now;
                    next.retired.push(RetiredFile { path, bytes, since });
                }
            }
            None => next.captures.push(done.entry.clone()),
        }
        let tables = done.files.keys().chain(done.gone.keys());
        for table in tables.copied().collect::<BTreeSet<_>>() {
            let of = |files: &BTreeMap<Table, Vec<FileEntry>>| {
                files.get(&table).cloned().unwrap_or_default()
            };
            next.replace(table, &of(&done.gone), of(&done.files), now);
        }
    }
    next
}
