//! Files of an older schema, read as if they were of today's.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::error::ArrowError;

use crate::schema::{Column, Fill, Table, fill};

/// A batch of a file of `table`, with today's columns: those that the file lacks are null, or what
/// [`crate::schema::ADDED`] says; those of a narrower type are widened.
///
/// # Errors
/// A column is missing that every version had, or is of a type that cannot be read as today's.
pub fn adapt(table: Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = table.arrow_schema();
    if batch.schema_ref().fields() == schema.fields() {
        return RecordBatch::try_new(schema, batch.columns().to_vec());
    }
    let columns = table
        .columns()
        .iter()
        .map(|column| match batch.column_by_name(column.name) {
            Some(found) if *found.data_type() == column.data_type() => Ok(found.clone()),
            Some(found) => cast(found, &column.data_type()),
            None => missing(table, column, batch.num_rows()),
        });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns)
}

/// What stands in for a column that a file lacks, so many rows of it.
///
/// # Errors
/// Every version had that column: the file is no file of this table.
pub fn missing(table: Table, column: &Column, rows: usize) -> Result<ArrayRef, ArrowError> {
    match fill(table, column.name) {
        Some(fill) => cast(&fill.array(rows), &column.data_type()),
        None if column.nullable => Ok(new_null_array(&column.data_type(), rows)),
        None => Err(ArrowError::SchemaError(format!(
            "expected column {} of {table}, found none; every version of the schema has it",
            column.name
        ))),
    }
}

impl Fill {
    fn array(self, rows: usize) -> ArrayRef {
        match self {
            Self::Number(n) => Arc::new(UInt64Array::from(vec![n; rows])),
            Self::Flag(flag) => Arc::new(BooleanArray::from(vec![flag; rows])),
            Self::Text(text) => Arc::new(StringArray::from(vec![text; rows])),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schema::{ADDED, SCHEMA_VERSION};
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::UInt64Type;

    #[test]
    fn every_default_fits_its_column() {
        for added in ADDED {
            let columns = added.table.columns();
            let column = columns.iter().find(|c| c.name == added.column).unwrap();
            assert!(
                !column.nullable,
                "a nullable column is null without a default"
            );
            assert!((1..=SCHEMA_VERSION).contains(&added.since));
            let array = missing(added.table, column, 3).unwrap();
            assert_eq!((array.len(), array.null_count()), (3, 0));
            assert_eq!(*array.data_type(), column.data_type());
        }
    }

    #[test]
    fn what_is_missing_is_null_or_its_default_or_an_error() {
        let whole = RecordBatch::try_new(
            Table::Captures.arrow_schema(),
            Table::Captures
                .columns()
                .iter()
                .map(|c| {
                    // Text that is no time would be null where arrow knows time zones.
                    let number = Fill::Number(7).array(2);
                    let text = |_| cast(&number, &arrow::datatypes::DataType::Utf8);
                    cast(&number, &c.data_type())
                        .or_else(|e| text(e).and_then(|a| cast(&a, &c.data_type())))
                        .unwrap()
                })
                .collect(),
        )
        .unwrap();
        let without = |name: &str| {
            let mut batch = whole.clone();
            batch.remove_column(whole.schema().index_of(name).unwrap());
            adapt(Table::Captures, &batch)
        };
        assert_eq!(adapt(Table::Captures, &whole).unwrap(), whole);
        let events = without("cache_events").unwrap();
        let events = events.column_by_name("cache_events").unwrap();
        assert_eq!(events.as_primitive::<UInt64Type>().values(), &[0, 0]);
        let emitted = without("emitted").unwrap();
        assert_eq!(emitted.column_by_name("emitted").unwrap().null_count(), 2);
        let error = without("boot_id").unwrap_err().to_string();
        assert!(
            error.contains("boot_id") && error.contains("captures"),
            "{error}"
        );
    }
}
