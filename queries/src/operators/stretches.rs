//! What the manifest says of the files that an operator reads: where to divide them, and where their pages lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use pgtrace_ingest::manifest::{FileEntry, Span};
use pgtrace_locality::index::Extent;

/// Rows for which a thread of its own is worth while.
const LEAST: u64 = 1 << 16;
/// Places that an index of pages may have for each row: it is an array over all pages of all objects that lie between
/// the first and the last one referenced.
const PLACES: u64 = 2;

/// Data files of `refs` that a plan reads.
pub(crate) struct Files(BTreeMap<String, Arc<FileEntry>>);

impl Files {
    /// Those of `plan`.
    ///
    /// # Errors
    /// None of its own.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Self> {
        let mut files = BTreeMap::new();
        plan.apply(|node| {
            let scan = node
                .downcast_ref::<DataSourceExec>()
                .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
            let groups = scan.map_or(&[][..], |scan| &scan.file_groups);
            let found = groups.iter().flat_map(|group| group.iter());
            for entry in found.filter_map(|file| file.extension::<Arc<FileEntry>>()) {
                if entry.seq.is_some() {
                    files.insert(entry.path.clone(), Arc::clone(entry));
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Self(files))
    }

    fn rows(&self) -> u64 {
        self.0.values().map(|file| file.rows).sum()
    }

    /// The capture of all rows, if there is but one.
    pub(crate) fn capture(&self) -> Option<&str> {
        let mut captures = self.0.values().map(|file| &file.capture_id);
        let first = captures.next().filter(|id| !id.is_empty())?;
        captures.all(|other| other == first).then_some(first)
    }

    /// Where each of up to `most` stretches of about equal length ends, the last one excepted.
    pub(crate) fn cuts(&self, most: usize) -> Vec<u64> {
        let spans = self.0.values().filter_map(|file| file.seq);
        let whole = spans.reduce(|a, b| Span {
            min: a.min.min(b.min),
            max: a.max.max(b.max),
        });
        let Some(whole) = whole.filter(|_| self.capture().is_some()) else {
            return Vec::new();
        };
        let count = (self.rows() / LEAST).clamp(1, most as u64);
        let step = (whole.max - whole.min) / count;
        (1..count).map(|i| whole.min + i * step).collect()
    }

    /// Where the pages lie; empty: the manifest does not say, or far apart.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        let mut extents: BTreeMap<u64, Extent> = BTreeMap::new();
        for file in self.0.values() {
            if file.objects.is_empty() {
                return Vec::new();
            }
            for object in &file.objects {
                let extent = Extent {
                    object_id: object.object_id,
                    first: object.min_page,
                    last: object.max_page,
                };
                let known = extents.entry(object.object_id).or_insert(extent);
                known.first = known.first.min(extent.first);
                known.last = known.last.max(extent.last);
            }
        }
        let pages = extents
            .values()
            .fold(0u64, |sum, extent| sum.saturating_add(extent.pages()));
        if pages > self.rows().saturating_mul(PLACES) {
            return Vec::new();
        }
        extents.into_values().collect()
    }
}
