//! Leaves out data files by what the manifest says about them, before any is opened.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use pgtrace_ingest::manifest::FileEntry;

use crate::stats::bounds;

/// For each of `files`, whether it can hold a row for which `filter` is true.
///
/// # Errors
/// When the filter cannot be evaluated over the manifest's figures; it may then not be used to prune.
pub(crate) fn keep(
    filter: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
    files: &[FileEntry],
) -> Result<Vec<bool>> {
    let predicate = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(Arc::clone(filter))?;
    let containers = Containers::new(files, schema);
    let kept = predicate.prune(&containers)?;
    let mut keep = vec![false; files.len()];
    for (&(file, _), kept) in containers.rows.iter().zip(kept) {
        keep[file] |= kept;
    }
    Ok(keep)
}

/// What is pruned: each object's stretch of pages in each file, because `object_id = .. AND page < ..` prunes
/// best by that object's own pages. A file without the list of its objects is one container.
struct Containers<'a> {
    files: &'a [FileEntry],
    schema: &'a SchemaRef,
    /// Index of the file, and of the object in its list.
    rows: Vec<(usize, Option<usize>)>,
}

impl<'a> Containers<'a> {
    fn new(files: &'a [FileEntry], schema: &'a SchemaRef) -> Self {
        let mut rows = Vec::new();
        for (i, file) in files.iter().enumerate() {
            if file.objects.is_empty() {
                rows.push((i, None));
            }
            rows.extend((0..file.objects.len()).map(|object| (i, Some(object))));
        }
        Containers {
            files,
            schema,
            rows,
        }
    }

    /// Smallest and largest values of a column, one entry a container.
    fn bounds(&self, column: &Column) -> Option<(Vec<ScalarValue>, Vec<ScalarValue>)> {
        let unknown =
            ScalarValue::try_from(self.schema.field_with_name(&column.name).ok()?.data_type())
                .ok()?;
        let of_row = |&(file, object): &(usize, Option<usize>)| {
            let file = &self.files[file];
            let object = object.map(|o| &file.objects[o]);
            let found = match (column.name.as_str(), object) {
                ("object_id", Some(o)) => Some((o.object_id.into(), o.object_id.into())),
                ("page", Some(o)) => Some((o.min_page.into(), o.max_page.into())),
                _ => bounds(file, &column.name),
            };
            found.unwrap_or_else(|| (unknown.clone(), unknown.clone()))
        };
        Some(self.rows.iter().map(of_row).unzip())
    }
}

impl PruningStatistics for Containers<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        ScalarValue::iter_to_array(self.bounds(column)?.0).ok()
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        ScalarValue::iter_to_array(self.bounds(column)?.1).ok()
    }

    fn num_containers(&self) -> usize {
        self.rows.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nullable = self
            .schema
            .field_with_name(&column.name)
            .ok()?
            .is_nullable();
        (!nullable).then(|| Arc::new(UInt64Array::from(vec![0; self.rows.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        // Rows of the file: an upper bound for one object's, which is all that pruning needs.
        let rows = self.rows.iter().map(|&(file, _)| self.files[file].rows);
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
