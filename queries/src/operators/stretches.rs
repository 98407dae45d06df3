//! What the manifest says of the files that an operator reads: where to divide them, and where their pages lie.
//!
//! Files that follow one another in `seq` are divided by their bytes, which costs no reader a row or a comparison, and
//! whose order no reader need look at. Others are divided by a value of `seq`.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
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

    /// How many stretches are worth while: up to `most`.
    pub(crate) fn count(&self, most: usize) -> usize {
        (self.rows() / LEAST).clamp(1, most as u64) as usize
    }

    /// The files in order of `seq`, if they are of one capture and none begins before another ends.
    fn in_a_row(&self) -> Option<Vec<&FileEntry>> {
        self.capture()?;
        let mut files: Vec<&FileEntry> = self.0.values().map(Arc::as_ref).collect();
        files.sort_by_key(|file| file.seq.map(|seq| seq.min));
        let apart = |pair: &[&FileEntry]| {
            let (a, b) = (pair[0].seq?, pair[1].seq?);
            Some(a.max < b.min)
        };
        let all = files.windows(2).all(|pair| apart(pair) == Some(true));
        all.then_some(files)
    }

    /// `plan`, which does nothing but read these files, as `count` plans that follow one another, each of one partition in
    /// order of `seq`. `None`: it does something else, or the files do not lie one behind the other.
    ///
    /// # Errors
    /// None of its own.
    pub(crate) fn divide(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        count: usize,
    ) -> Result<Option<Vec<Arc<dyn ExecutionPlan>>>> {
        let config = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
        let (Some(config), Some(order)) = (config, self.in_a_row()) else {
            return Ok(None);
        };
        if config.limit.is_some() {
            return Ok(None);
        }
        // One file may be there in several pieces: the whole of it is meant.
        let mut known: BTreeMap<&str, &PartitionedFile> = BTreeMap::new();
        for file in config.file_groups.iter().flat_map(|group| group.iter()) {
            if let Some(entry) = file.extension::<Arc<FileEntry>>() {
                known.insert(&entry.path, file);
            }
        }
        let files: Option<Vec<&PartitionedFile>> = order
            .iter()
            .map(|entry| known.get(entry.path.as_str()).copied())
            .collect();
        let Some(files) = files else {
            return Ok(None);
        };
        let bytes: u64 = files.iter().map(|file| file.object_meta.size).sum();
        let end = |i: usize| (u128::from(bytes) * i as u128 / count as u128) as u64;
        let part = |i: usize| {
            let group = FileGroup::new(between(&files, end(i), end(i + 1)));
            // Divided once and for all: the planner is to leave files and their order as they are.
            let part = FileScanConfigBuilder::from(config.clone())
                .with_file_groups(vec![group])
                .with_output_partitioning(Some(Partitioning::UnknownPartitioning(1)))
                .with_preserve_order(true);
            DataSourceExec::from_data_source(part.build()) as Arc<dyn ExecutionPlan>
        };
        Ok(Some((0..count).map(part).collect()))
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
        let count = self.count(most) as u64;
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

/// The pieces of `files`, one behind the other, that lie between two of their bytes. A row group is read with the piece
/// that its first byte lies in.
fn between(files: &[&PartitionedFile], from: u64, to: u64) -> Vec<PartitionedFile> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    for file in files {
        let size = file.object_meta.size;
        let at = |byte: u64| byte.clamp(begin, begin + size) - begin;
        let (from, to) = (at(from), at(to));
        begin += size;
        let mut piece = PartitionedFile::clone(file);
        piece.range = ((from, to) != (0, size)).then_some(FileRange {
            start: from as i64,
            end: to as i64,
        });
        if from < to {
            pieces.push(piece);
        }
    }
    pieces
}
