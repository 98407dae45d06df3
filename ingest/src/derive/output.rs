//! One dataset that is being made.

use crate::dataset::Dataset;
use crate::manifest::{CaptureEntry, Derived, FileEntry, Manifest};
use crate::schema::Table;

/// A dataset that is being made: its files are written, and nobody sees them.
#[derive(Debug)]
pub struct Output {
    pub(super) dataset: Dataset,
    manifest: Manifest,
    /// Begin of the names of its files.
    name: String,
    names: u64,
}

/// How a file of one dataset became a file of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Both name the same bytes.
    Linked,
    /// The bytes are there twice.
    Copied,
}

impl Output {
    pub(super) fn new(dataset: Dataset, name: String) -> Self {
        let manifest = dataset.manifest().next();
        Self {
            dataset,
            manifest,
            name,
            names: 0,
        }
    }

    /// A path for a new file in `folder`, within the dataset; no two calls give the same.
    pub fn path(&mut self, folder: &str) -> String {
        self.names += 1;
        format!("{folder}/{}-{:06}.parquet", self.name, self.names)
    }

    /// Adds a file that was written or shared.
    pub fn add(&mut self, table: Table, file: FileEntry) {
        let files = self.manifest.tables.entry(table).or_default();
        // Datasets by the ten thousand have a file a table, each: no room for more before there are more.
        if files.is_empty() {
            files.reserve_exact(1);
        }
        files.push(file);
    }

    /// Names a recording whose rows it holds.
    pub fn capture(&mut self, capture_id: &str, refs: u64, lost: u64) {
        self.manifest.captures.push(CaptureEntry {
            capture_id: capture_id.into(),
            // A recording that was cut is none that chunks could be added to.
            chunks: Vec::new(),
            refs,
            lost,
            state: None,
            offsets: Default::default(),
        });
    }

    /// Says how it was made.
    pub fn derived(&mut self, derived: Derived) {
        self.manifest.derived = Some(derived);
    }

    /// The dataset as it will be: files that it has already can be shared with others.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The manifest as it is so far.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn into_manifest(self) -> (Dataset, Manifest) {
        (self.dataset, self.manifest)
    }
}
