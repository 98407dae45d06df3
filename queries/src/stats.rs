//! The manifest's figures about a file, as the planner wants them.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use pgtrace_ingest::manifest::{FileEntry, Span};

/// Smallest and largest value of a column in a file; `None`: the manifest does not say.
pub(crate) fn bounds(file: &FileEntry, column: &str) -> Option<(ScalarValue, ScalarValue)> {
    let pages = || file.objects.iter();
    match column {
        // Of several captures: which ones, the manifest does not say.
        "capture_id" if file.capture_id.is_empty() => None,
        "capture_id" => {
            let text = ScalarValue::from(file.capture_id.as_str());
            let id = ScalarValue::Dictionary(Box::new(DataType::Int32), Box::new(text));
            Some((id.clone(), id))
        }
        "seq" => span(file.seq?),
        "ts" => Some((time(file.ts?.min), time(file.ts?.max))),
        "uid" => span(file.uid?),
        "pid" => span(file.pid?),
        "object_id" => pair(
            pages().map(|o| o.object_id).min(),
            pages().map(|o| o.object_id).max(),
        ),
        "page" => pair(
            pages().map(|o| o.min_page).min(),
            pages().map(|o| o.max_page).max(),
        ),
        _ => None,
    }
}

fn span<T: Into<ScalarValue>>(span: Span<T>) -> Option<(ScalarValue, ScalarValue)> {
    Some((span.min.into(), span.max.into()))
}

fn pair<T: Into<ScalarValue>>(
    min: Option<T>,
    max: Option<T>,
) -> Option<(ScalarValue, ScalarValue)> {
    Some((min?.into(), max?.into()))
}

fn time(ns: i64) -> ScalarValue {
    ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into()))
}

/// Exact row count, and bounds where known, for all columns of `schema`.
pub(crate) fn statistics(file: &FileEntry, schema: &SchemaRef) -> Arc<Statistics> {
    let column = |name: &str| match bounds(file, name) {
        None => ColumnStatistics::new_unknown(),
        Some((min, max)) => ColumnStatistics {
            min_value: Precision::Exact(min),
            max_value: Precision::Exact(max),
            null_count: Precision::Exact(0), // only columns without nulls have bounds in the manifest
            ..ColumnStatistics::new_unknown()
        },
    };
    Arc::new(Statistics {
        num_rows: Precision::Exact(usize::try_from(file.rows).unwrap_or(usize::MAX)),
        total_byte_size: Precision::Absent,
        column_statistics: schema.fields().iter().map(|f| column(f.name())).collect(),
    })
}

/// The same over several files together.
///
/// # Errors
/// When the figures of the files do not fit together; they are all of one table, so they do.
pub(crate) fn merged(files: &[FileEntry], schema: &SchemaRef) -> Result<Statistics> {
    let each: Vec<_> = files.iter().map(|f| statistics(f, schema)).collect();
    Statistics::try_merge_iter(each.iter().map(Arc::as_ref), schema)
}
