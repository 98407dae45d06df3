//! How the column `page` of a row group is encoded: it is half of what analyses read.
//!
//! Which is best depends on how many pages there are, and on their order: few pages are a dictionary, scans are short
//! deltas, and streams of bytes repeat where a piece of the string does. The latter two are tried on some of the rows.
//! Figures are in bench/README.md.

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

const DELTAS: Encoding = Encoding::DELTA_BINARY_PACKED;
const SPLIT: Encoding = Encoding::BYTE_STREAM_SPLIT;

/// Makes the column writers of row groups.
#[derive(Debug)]
pub(crate) struct RowGroups {
    dictionary: ArrowRowGroupWriterFactory,
    deltas: Way,
    split: Way,
}

/// One way to encode pages that are no dictionary.
#[derive(Debug)]
struct Way {
    all: ArrowRowGroupWriterFactory,
    page: Trial,
}

/// Tries an encoding on the column `page` alone.
#[derive(Debug)]
struct Trial {
    schema: SchemaRef,
    factory: ArrowRowGroupWriterFactory,
}

impl RowGroups {
    /// For files of `schema`, with `properties` where pages are few.
    pub(crate) fn new(schema: &SchemaRef, properties: &WriterProperties) -> Result<Self> {
        let way = |encoding| {
            let properties = page_as(properties, encoding);
            Ok::<_, ParquetError>(Way {
                page: Trial::new(&properties)?,
                all: factory(schema, properties)?,
            })
        };
        Ok(Self {
            dictionary: factory(schema, properties.clone())?,
            deltas: way(DELTAS)?,
            split: way(SPLIT)?,
        })
    }

    /// Column writers for row group `number` of a file, which is to hold `rows`.
    pub(crate) fn writers(&self, number: usize, rows: &Rows) -> Result<Vec<ArrowColumnWriter>> {
        let factory = match self.choose(rows)? {
            Encoded::Dictionary => &self.dictionary,
            Encoded::Deltas => &self.deltas.all,
            Encoded::Split => &self.split.all,
        };
        factory.create_column_writers(number)
    }

    fn choose(&self, rows: &Rows) -> Result<Encoded> {
        let pages = Pages::count(rows.iter().flatten().map(|row| row.page));
        let middle = rows
            .iter()
            .flatten()
            .skip((pages.refs - pages.refs.min(TRIED)) / 2);
        let tried = middle.take(TRIED).map(|row| row.page);
        let tried: ArrayRef = Arc::new(UInt64Array::from_iter_values(tried));
        let deltas = self.deltas.page.bytes(&tried)?;
        pages.choose(tried.len(), deltas, || self.split.page.bytes(&tried))
    }
}

/// How `page` is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoded {
    Dictionary,
    Deltas,
    Split,
}

/// References and the pages they go to.
struct Pages {
    refs: usize,
    /// References to a sixteenth of the pages, and these pages: they stand for all.
    sampled_refs: usize,
    sampled: usize,
}

impl Pages {
    fn count(pages: impl Iterator<Item = u64>) -> Self {
        let (mut seen, mut refs, mut sampled_refs) = (HashSet::new(), 0, 0);
        for page in pages {
            refs += 1;
            if page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60 == 0 {
                seen.insert(page);
                sampled_refs += 1;
            }
        }
        Self {
            refs,
            sampled_refs,
            sampled: seen.len(),
        }
    }

    /// Whether there are fewer than [`REFS_A_PAGE`] references to a page.
    fn are_many(&self) -> bool {
        self.sampled * REFS_A_PAGE > self.sampled_refs
    }

    /// Bytes a reference that a dictionary takes where references follow no order, as measured: the number of bits that
    /// its indexes need, and a byte and a half for each page in it. Where they follow one it takes less.
    fn dictionary(&self) -> f64 {
        let pages = (self.sampled * 16).max(2) as f64;
        pages.log2().ceil() / 8.0 + 1.5 * pages / self.refs.max(1) as f64
    }

    /// The encoding of a row group of these references, where deltas of `tried` of them take so many bytes, and byte
    /// streams what `split` says. Deltas are read in a third of the time of the others: they may take an eighth more than
    /// streams; a dictionary is left for them only if they are smaller by more than the rule above may be wrong.
    fn choose(
        &self,
        tried: usize,
        deltas: u64,
        split: impl FnOnce() -> Result<u64>,
    ) -> Result<Encoded> {
        let (better, otherwise) = match self.are_many() {
            true => (deltas <= split()? / 8 * 9, Encoded::Split),
            false => (self.beats_dictionary(deltas, tried), Encoded::Dictionary),
        };
        Ok(if better { Encoded::Deltas } else { otherwise })
    }

    fn beats_dictionary(&self, deltas: u64, tried: usize) -> bool {
        (deltas as f64) < 0.9 * self.dictionary() * tried as f64
    }
}

impl Trial {
    fn new(properties: &WriterProperties) -> Result<Self> {
        let page = Field::new("page", DataType::UInt64, false);
        let schema = Arc::new(Schema::new(vec![page]));
        Ok(Self {
            factory: factory(&schema, properties.clone())?,
            schema,
        })
    }

    /// Bytes that pages take, as the only column of a file.
    fn bytes(&self, pages: &ArrayRef) -> Result<u64> {
        let mut bytes = 0;
        let writers = self.factory.create_column_writers(0)?;
        for (mut writer, field) in writers.into_iter().zip(self.schema.fields()) {
            for leaf in compute_leaves(field, pages)? {
                writer.write(&leaf)?;
            }
            bytes += writer.close()?.close().bytes_written;
        }
        Ok(bytes)
    }
}

/// `properties` for a file of `refs` that begins with `batch`: deltas where they are better than what these properties
/// say, a dictionary that gives way to byte streams when it is full. A batch is less than a row group: pages that are
/// many in it may be few in that. So a dictionary has to be beaten in any case.
pub(crate) fn of_batch(
    properties: &WriterProperties,
    batch: &RecordBatch,
) -> Result<WriterProperties> {
    let column = batch.column_by_name("page");
    let pages = column.and_then(|c| c.as_primitive_opt::<UInt64Type>());
    let Some(pages) = pages.filter(|pages| pages.len() >= LEAST) else {
        return Ok(properties.clone());
    };
    let tried: ArrayRef = Arc::new(pages.slice(0, pages.len().min(TRIED)));
    let all = Pages::count(pages.values().iter().copied());
    let as_deltas = page_as(properties, DELTAS);
    let deltas = Trial::new(&as_deltas)?.bytes(&tried)?;
    let split = || Trial::new(&page_as(properties, SPLIT))?.bytes(&tried);
    let better = all.beats_dictionary(deltas, tried.len())
        && all.choose(tried.len(), deltas, split)? == Encoded::Deltas;
    Ok(if better {
        as_deltas
    } else {
        properties.clone()
    })
}

fn page_as(properties: &WriterProperties, encoding: Encoding) -> WriterProperties {
    encoded(properties.clone().into_builder(), "page", encoding).build()
}

/// A factory of column writers takes its schema and properties from a file: this one comes to nothing.
fn factory(schema: &SchemaRef, properties: WriterProperties) -> Result<ArrowRowGroupWriterFactory> {
    let root = ArrowSchemaConverter::new()
        .convert(schema)?
        .root_schema_ptr();
    let file = SerializedFileWriter::new(std::io::sink(), root, Arc::new(properties))?;
    Ok(ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema)))
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

    /// SplitMix64.
    fn hash(i: u64) -> u64 {
        let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    #[test]
    fn few_pages_are_told_from_many() {
        let many = |pages: u64| {
            Pages::count((0..20_000u64).map(move |i| i.wrapping_mul(7919) % pages)).are_many()
        };
        assert!(!many(1));
        assert!(!many(500));
        assert!(!many(4000));
        assert!(many(7000));
        assert!(many(1 << 40));
        assert!(!Pages::count(std::iter::empty()).are_many());
    }

    #[test]
    fn each_encoding_has_its_strings() {
        let properties = properties(Table::Refs, Vec::new());
        let groups = RowGroups::new(&Table::Refs.arrow_schema(), &properties).unwrap();
        let choose = |rows: &Rows| groups.choose(rows).unwrap();
        // Scans, of few pages or many; any pages of an object.
        assert_eq!(choose(&rows(40_000, |i| i)), Encoded::Deltas);
        assert_eq!(choose(&rows(40_000, |i| i % 3_000)), Encoded::Deltas);
        assert_eq!(
            choose(&rows(40_000, |i| hash(i) % 5_000_000)),
            Encoded::Deltas
        );
        // Few pages, far apart or not.
        let few = rows(40_000, |i| hash(hash(i) % 3_000) >> 20);
        assert_eq!(choose(&few), Encoded::Dictionary);
        assert_eq!(
            choose(&rows(40_000, |i| hash(i) % 300)),
            Encoded::Dictionary
        );
        // Far pages that come in groups, again and again; each time another one before them.
        let seldom = |i: u64| match i % 8 {
            0 => hash(i),
            k => hash(i / 8 % 4_000 * 8 + k) >> 20,
        };
        assert_eq!(choose(&rows(40_000, seldom)), Encoded::Split);
        assert_eq!(choose(&[]), Encoded::Dictionary);
    }

    /// Pages that are many in a batch and few in a row group stay a dictionary; others are what a row group says.
    #[test]
    fn a_first_batch_is_no_row_group() {
        let given = properties(Table::Refs, Vec::new());
        let deltas = |page: &dyn Fn(u64) -> u64| {
            let pages = UInt64Array::from_iter_values((0..8_192).map(page));
            let batch = RecordBatch::try_from_iter([("page", Arc::new(pages) as ArrayRef)]);
            let chosen = of_batch(&given, &batch.unwrap()).unwrap();
            chosen.encoding(&"page".into()) == Some(Encoding::DELTA_BINARY_PACKED)
        };
        assert!(!deltas(&|i| hash(hash(i) % 3_000) >> 20));
        assert!(deltas(&|i| i));
        assert!(deltas(&|i| hash(i) % 65_536));
    }
}
