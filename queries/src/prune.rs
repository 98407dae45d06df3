//! Leaves out data files by what the manifest says about them, before any is opened.

use std::collections::HashSet;
use std::ops::Not;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
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

/// Whether `filter` is true of every row of `files`, so that no row need be asked.
///
/// # Errors
/// As [`keep`].
pub(crate) fn always(filter: &Expr, schema: &SchemaRef, files: &[FileEntry]) -> Result<bool> {
    // What is null is neither true nor false: the figures say nothing of it.
    let nullable = |column: &Column| {
        let field = schema.field_with_name(&column.name);
        field.map_or(true, |field| field.is_nullable())
    };
    if filter.is_volatile() || filter.column_refs().iter().any(|c| nullable(c)) {
        return Ok(false);
    }
    let table = DFSchema::try_from(Arc::clone(schema))?;
    let simplify = SimplifyContext::builder()
        .with_schema(Arc::new(table.clone()))
        .build();
    let filter = unnormalize_col(filter.clone());
    let not = ExprSimplifier::new(simplify).simplify(filter.not())?;
    let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let not = create_physical_expr(&not, &table, &props, &context)?;
    Ok(keep(&not, schema, files)?.iter().all(|keep| !keep))
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

    /// For each container, whether all values of a column are among `values` (true), or none is (false).
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name != "event" {
            return None;
        }
        let texts: HashSet<&str> = values.iter().filter_map(|v| v.try_as_str()?).collect();
        let of_row = |&(file, _): &(usize, Option<usize>)| {
            let events = &self.files[file].events;
            let among = events.iter().filter(|e| texts.contains(e.as_str())).count();
            match among {
                0 => (!events.is_empty()).then_some(false),
                n => (n == events.len()).then_some(true),
            }
        };
        Some(self.rows.iter().map(of_row).collect())
    }
}
