//! What a compaction came to, for people and for tests.

use std::collections::BTreeMap;
use std::fmt;

use pgtrace_capture::units::show_bytes;

use crate::cleanup::Cleaned;
use crate::manifest::{FileEntry, Manifest};
use crate::schema::Table;

use super::plan::Job;

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Their bytes; of files not yet written, `None`.
    pub bytes: Option<u64>,
}

/// What a compaction came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Files that were merged, and what came of them, by table.
    pub merged: BTreeMap<Table, (Amount, Amount)>,
    /// All files of the dataset before.
    pub before: Amount,
    /// And after.
    pub after: Amount,
    /// What earlier runs had left.
    pub cleaned: Cleaned,
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Report {
    pub(super) fn merged(&mut self, table: Table, inputs: &[FileEntry], bytes: u64) {
        self.add(table, inputs, Some(bytes));
    }

    fn add(&mut self, table: Table, inputs: &[FileEntry], bytes: Option<u64>) {
        let read = inputs.iter().map(|f| f.bytes).sum::<u64>();
        let (from, to) = self.merged.entry(table).or_default();
        from.files += inputs.len() as u64;
        from.bytes = Some(from.bytes.unwrap_or(0) + read);
        to.files += 1;
        to.bytes = bytes.map(|bytes| to.bytes.unwrap_or(0) + bytes);
    }

    /// What `jobs` would do.
    pub(super) fn would(&mut self, manifest: &Manifest, jobs: &[Job]) {
        self.dry_run = true;
        for job in jobs {
            self.add(job.table, &job.inputs, None);
        }
        self.before = all(manifest);
        let less = |(from, to): &(Amount, Amount)| from.files - to.files;
        let fewer = self.merged.values().map(less).sum::<u64>();
        self.after.files = self.before.files - fewer;
    }

    /// Sums up, when `manifest` is what came of it.
    pub(super) fn total(&mut self, manifest: &Manifest) {
        self.after = all(manifest);
        self.before = self.after;
        // Somebody else may have committed meanwhile: what we did is what differs.
        for (from, to) in self.merged.values() {
            self.before.files += from.files - to.files;
            let bytes = self.before.bytes.unwrap_or(0) + from.bytes.unwrap_or(0);
            self.before.bytes = Some(bytes.saturating_sub(to.bytes.unwrap_or(0)));
        }
    }
}

fn all(manifest: &Manifest) -> Amount {
    let files = || manifest.tables.values().flatten();
    Amount {
        files: files().count() as u64,
        bytes: Some(files().map(|f| f.bytes).sum()),
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.files == 1 { "" } else { "s" };
        write!(f, "{} file{s}", self.files)?;
        match self.bytes {
            Some(bytes) => write!(f, " ({})", show_bytes(bytes)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cleaned)?;
        if self.merged.is_empty() {
            return writeln!(f, "nothing to merge: {}", self.before);
        }
        for (table, (from, to)) in &self.merged {
            writeln!(f, "{table}: {from} into {to}")?;
        }
        let would = if self.dry_run {
            " (nothing was changed: --dry-run)"
        } else {
            ""
        };
        writeln!(f, "before: {}, after: {}{would}", self.before, self.after)?;
        match self.dry_run {
            true => Ok(()),
            false => writeln!(f, "took {:.1} s", self.seconds),
        }
    }
}
