//! How the column `page` of a row group is encoded: it is half of what analyses read.
//!
//! Where pages are few, as a dictionary. What many pages are best encoded as depends on their order: scans are short
//! deltas, and streams of bytes repeat where a piece of the string does. Both are tried on some of the rows. Figures are
//! in bench/README.md.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Encoding;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use crate::encode::encoded;
use crate::row::Rows;

/// References of a row group to each of its pages, at least, for a dictionary of the pages to be worth while: where there
/// are fewer, the dictionary is most of the column, and takes more room and more time to read than deltas or indexes
/// split into byte streams.
pub(crate) const REFS_A_PAGE: usize = 4;

/// Rows that deltas and byte streams are tried on: most of what is compressed at a time.
const TRIED: usize = 1 << 14;

/// Rows of a first batch for which it is worth while.
const LEAST: usize = 1 << 8;

/// Makes the column writers of row groups.
#[derive(Debug)]
pub(crate) struct RowGroups {
    few: ArrowRowGroupWriterFactory,
    deltas: Way,
    split: Way,
}

/// One way to encode many pages.
#[derive(Debug)]
struct Way {
    all: ArrowRowGroupWriterFactory,
    /// The schema of the column `page` alone, and its writer.
    schema: SchemaRef,
    page: ArrowRowGroupWriterFactory,
}

impl RowGroups {
    /// For files of `schema`, with `properties` where pages are few.
    pub(crate) fn new(schema: &SchemaRef, properties: &WriterProperties) -> Result<Self> {
        let page = Arc::new(schema.project(&[schema.index_of("page")?])?);
        let way = |encoding| {
            let properties = || encoded(properties.clone().into_builder(), "page", encoding);
            Ok::<_, ParquetError>(Way {
                all: factory(schema, properties().build())?,
                page: factory(&page, properties().build())?,
                schema: Arc::clone(&page),
            })
        };
        Ok(Self {
            few: factory(schema, properties.clone())?,
            deltas: way(Encoding::DELTA_BINARY_PACKED)?,
            split: way(Encoding::BYTE_STREAM_SPLIT)?,
        })
    }

    /// Column writers for row group `number` of a file, which is to hold `rows`.
    pub(crate) fn writers(&self, number: usize, rows: &Rows) -> Result<Vec<ArrowColumnWriter>> {
        let factory = if !has_many_pages(rows) {
            &self.few
        } else if self.deltas_are_better(rows)? {
            &self.deltas.all
        } else {
            &self.split.all
        };
        factory.create_column_writers(number)
    }

    /// Tries both on some of the rows.
    fn deltas_are_better(&self, rows: &Rows) -> Result<bool> {
        let all: usize = rows.iter().map(Vec::len).sum();
        let middle = rows.iter().flatten().skip((all - all.min(TRIED)) / 2);
        let pages = middle.take(TRIED).map(|row| row.page);
        let pages: ArrayRef = Arc::new(UInt64Array::from_iter_values(pages));
        let bytes = |way: &Way| bytes(&way.page, &way.schema, &pages);
        Ok(is_better(bytes(&self.deltas)?, bytes(&self.split)?))
    }
}

/// Bytes that pages take, as the only column of a file.
fn bytes(page: &ArrowRowGroupWriterFactory, schema: &SchemaRef, pages: &ArrayRef) -> Result<u64> {
    let mut bytes = 0;
    let writers = page.create_column_writers(0)?;
    for (mut writer, field) in writers.into_iter().zip(schema.fields()) {
        for leaf in compute_leaves(field, pages)? {
            writer.write(&leaf)?;
        }
        bytes += writer.close()?.close().bytes_written;
    }
    Ok(bytes)
}

/// Whether deltas take less room than byte streams, or little more: they are read in a third of the time.
fn is_better(deltas: u64, split: u64) -> bool {
    deltas <= split / 8 * 9
}

/// `properties` for a file of `refs` that begins with `batch`: deltas where its pages are many, and deltas are better;
/// else unchanged.
pub(crate) fn of_batch(
    properties: &WriterProperties,
    batch: &RecordBatch,
) -> Result<WriterProperties> {
    let column = batch.column_by_name("page");
    let pages = column.and_then(|c| c.as_primitive_opt::<UInt64Type>());
    let Some(pages) = pages.filter(|pages| pages.len() >= LEAST && are_many(pages.values())) else {
        return Ok(properties.clone());
    };
    let schema = Arc::new(Schema::new(vec![Field::new(
        "page",
        DataType::UInt64,
        false,
    )]));
    let pages: ArrayRef = Arc::new(pages.slice(0, pages.len().min(TRIED)));
    let tried = |encoding| {
        let encoded = encoded(properties.clone().into_builder(), "page", encoding).build();
        let bytes = bytes(&factory(&schema, encoded.clone())?, &schema, &pages)?;
        Ok::<_, ParquetError>((encoded, bytes))
    };
    let (deltas, bytes) = tried(Encoding::DELTA_BINARY_PACKED)?;
    let (_, split) = tried(Encoding::BYTE_STREAM_SPLIT)?;
    Ok(if is_better(bytes, split) {
        deltas
    } else {
        properties.clone()
    })
}

/// A factory of column writers takes its schema and properties from a file: this one comes to nothing.
fn factory(schema: &SchemaRef, properties: WriterProperties) -> Result<ArrowRowGroupWriterFactory> {
    let root = ArrowSchemaConverter::new()
        .convert(schema)?
        .root_schema_ptr();
    let file = SerializedFileWriter::new(std::io::sink(), root, Arc::new(properties))?;
    Ok(ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema)))
}

fn has_many_pages(rows: &Rows) -> bool {
    are_many(rows.iter().flatten().map(|row| &row.page))
}

/// Whether there are fewer than [`REFS_A_PAGE`] references to a page: a sixteenth of the pages stands for all.
fn are_many<'a>(all: impl IntoIterator<Item = &'a u64>) -> bool {
    let mut pages = HashSet::new();
    let mut refs = 0;
    for &page in all {
        if page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 == 0 {
            pages.insert(page);
            refs += 1;
        }
    }
    pages.len() * REFS_A_PAGE > refs
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::properties;
    use crate::row::Row;
    use crate::schema::Table;

    fn rows(count: u64, page: impl Fn(u64) -> u64) -> Vec<Vec<Row>> {
        let row = |i| Row {
            page: page(i),
            ..Row::default()
        };
        let all: Vec<Row> = (0..count).map(row).collect();
        all.chunks(3000).map(<[Row]>::to_vec).collect()
    }

    fn hash(i: u64) -> u64 {
        i.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
    }

    #[test]
    fn few_pages_are_told_from_many() {
        let of = |pages: u64| rows(20_000, move |i| i.wrapping_mul(7919) % pages);
        assert!(!has_many_pages(&of(1)));
        assert!(!has_many_pages(&of(500)));
        assert!(!has_many_pages(&of(4000)));
        assert!(has_many_pages(&of(7000)));
        assert!(has_many_pages(&of(1 << 40)));
        assert!(!has_many_pages(&[]));
    }

    #[test]
    fn scans_are_deltas_and_repeated_pieces_are_split() {
        let properties = properties(Table::Refs, Vec::new());
        let groups = RowGroups::new(&Table::Refs.arrow_schema(), &properties).unwrap();
        let better = |rows: &Rows| groups.deltas_are_better(rows).unwrap();
        assert!(better(&rows(40_000, |i| i)));
        assert!(better(&rows(40_000, |i| hash(i) % 5_000_000)));
        // The same far pages in the same order, each time another one before them.
        let far = |i: u64| match i % 8 {
            0 => hash(i),
            k => hash(k) << 20,
        };
        assert!(!better(&rows(40_000, far)));
        assert!(better(&rows(3, |i| i)));
        assert!(better(&[]));
    }
}
