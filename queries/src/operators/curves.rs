//! Rows of curves: a capture, a whole number, a real one, and what was counted.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;

use super::texts::Texts;
use super::{BATCH, Output};

/// The schema of a curve: `capture_id`, the named abscissa (uint64) and ordinate (double), and further counts.
pub(crate) fn schema(abscissa: &str, ordinate: &str, counts: &[&str]) -> SchemaRef {
    let mut fields = vec![
        Field::new("capture_id", DataType::Utf8View, false),
        Field::new(abscissa, DataType::UInt64, false),
        Field::new(ordinate, DataType::Float64, false),
    ];
    fields.extend(
        counts
            .iter()
            .map(|name| Field::new(*name, DataType::UInt64, false)),
    );
    Arc::new(Schema::new(fields))
}

/// Gives a curve's points, with the same `counts` in every row. `false`: no more is wanted.
///
/// # Errors
/// When points and schema do not fit together.
pub(crate) fn give(
    output: &mut Output,
    schema: &SchemaRef,
    capture: &str,
    points: &[(u64, f64)],
    counts: &[u64],
) -> Result<bool> {
    for part in points.chunks(BATCH) {
        let mut columns: Vec<ArrayRef> = vec![
            Texts::same(capture, part.len()),
            Arc::new(UInt64Array::from_iter_values(part.iter().map(|p| p.0))),
            Arc::new(Float64Array::from_iter_values(part.iter().map(|p| p.1))),
        ];
        columns.extend(
            counts
                .iter()
                .map(|n| Arc::new(UInt64Array::from(vec![*n; part.len()])) as ArrayRef),
        );
        if !output.give(RecordBatch::try_new(Arc::clone(schema), columns)?) {
            return Ok(false);
        }
    }
    Ok(true)
}
