//! How columns of a row group are encoded, where that depends on what is in them.
//!
//! `page` is half of what analyses read. Which encoding is best for it depends on how many pages there are, and on their
//! order: few pages are a dictionary, scans are short deltas, and streams of bytes repeat where a piece of the string does.
//! The latter two are tried on some of the rows. And of the columns that most questions read, those stay as they are that
//! compression hardly makes smaller. Figures are in bench/README.md.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::encode::encoded;
use crate::schema::Table;

/// References of a row group to each of its pages, at least, for a dictionary of the pages to be worth while: where there
/// are fewer, the dictionary is most of the column, and takes more room and more time to read than deltas or indexes
/// split into byte streams.
pub(crate) const REFS_A_PAGE: usize = 4;

/// Rows that encodings and compression are tried on: most of what is compressed at a time.
pub(crate) const TRIED: usize = 1 << 14;

/// Rows of a first batch for which it is worth while.
const LEAST: usize = 1 << 8;

/// Columns that most questions read and that compression hardly makes smaller in some strings. (Nor does it `ts`; but the
/// fourteenth part that it takes off there is what keeps a recording below a tenth of its raw bytes.)
const HARDLY_SMALLER: [&str; 4] = ["page", "object_id", "path", "event"];

/// Rows of a first batch for which it is worth while to try those.
const LEAST_COMPRESSED: usize = 1 << 12;

const DELTAS: Encoding = Encoding::DELTA_BINARY_PACKED;
const SPLIT: Encoding = Encoding::BYTE_STREAM_SPLIT;

/// `properties` for a row group that holds references to `pages`. `some` gives of a column the values of some [`TRIED`]
/// of its rows.
pub(crate) fn of_row_group(
    properties: &WriterProperties,
    pages: impl Iterator<Item = u64>,
    some: impl Fn(&str) -> Result<Vec<ArrayRef>>,
) -> Result<WriterProperties> {
    let all = Pages::count(pages);
    let chosen = with_page(properties, &some("page")?, |deltas, split| {
        all.choose(deltas, split)
    })?;
    without_idle_compression(chosen, some)
}

/// `properties` for a file of `refs` that begins with `batch`: `page` as deltas where they are better than what these
/// properties say, a dictionary that gives way to byte streams when it is full. A batch is less than a row group: pages
/// that are many in it may be few in that. So a dictionary has to be beaten in any case.
pub(crate) fn of_batch(
    properties: &WriterProperties,
    batch: &RecordBatch,
) -> Result<WriterProperties> {
    let column = batch.column_by_name("page");
    let pages = column.and_then(|c| c.as_primitive_opt::<UInt64Type>());
    let Some(pages) = pages.filter(|pages| pages.len() >= LEAST) else {
        return Ok(properties.clone());
    };
    let all = Pages::count(pages.values().iter().copied());
    let rows = batch.slice(0, batch.num_rows().min(TRIED));
    let some = |name: &str| Ok(Vec::from_iter(rows.column_by_name(name).cloned()));
    let chosen = with_page(properties, &some("page")?, |deltas, split| {
        let better = all.beats_dictionary(deltas) && all.choose(deltas, split)? == Encoded::Deltas;
        Ok(match better {
            true => Encoded::Deltas,
            false => Encoded::Dictionary,
        })
    })?;
    match batch.num_rows() < LEAST_COMPRESSED {
        true => Ok(chosen),
        false => without_idle_compression(chosen, some),
    }
}

/// `properties` with `page` encoded as `choose` says, which is told how large the pages `tried` are as deltas, and as byte
/// streams if it asks.
fn with_page(
    properties: &WriterProperties,
    tried: &[ArrayRef],
    choose: impl FnOnce(Size, &dyn Fn() -> Result<Size>) -> Result<Encoded>,
) -> Result<WriterProperties> {
    let deltas = page_as(properties, DELTAS);
    let split = || Size::of("page", &page_as(properties, SPLIT), tried);
    Ok(match choose(Size::of("page", &deltas, tried)?, &split)? {
        Encoded::Dictionary => properties.clone(),
        Encoded::Deltas => deltas,
        Encoded::Split => page_as(properties, SPLIT),
    })
}

/// `properties` with the columns [`HARDLY_SMALLER`] as they are where compression hardly makes them smaller.
fn without_idle_compression(
    properties: WriterProperties,
    some: impl Fn(&str) -> Result<Vec<ArrayRef>>,
) -> Result<WriterProperties> {
    let mut chosen = properties.clone().into_builder();
    for name in HARDLY_SMALLER {
        if Size::of(name, &properties, &some(name)?)?.is_hardly_smaller() {
            let column = ColumnPath::from(name);
            chosen = chosen.set_column_compression(column, Compression::UNCOMPRESSED);
        }
    }
    Ok(chosen.build())
}

/// Column writers for row group `number` of a file of `schema`.
pub(crate) fn writers(
    schema: &SchemaRef,
    properties: WriterProperties,
    number: usize,
) -> Result<Vec<ArrowColumnWriter>> {
    let root = ArrowSchemaConverter::new()
        .convert(schema)?
        .root_schema_ptr();
    // A factory of column writers takes its schema and properties from a file: this one comes to nothing.
    let file = SerializedFileWriter::new(std::io::sink(), root, Arc::new(properties))?;
    ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema)).create_column_writers(number)
}

/// How large some values of a column are.
#[derive(Clone, Copy, Debug)]
struct Size {
    values: usize,
    /// Bytes, compressed as the properties say.
    compressed: u64,
    raw: u64,
}

impl Size {
    /// Of values that are the only column of a file.
    fn of(name: &str, properties: &WriterProperties, values: &[ArrayRef]) -> Result<Self> {
        let all = Table::Refs.arrow_schema();
        let field = all
            .field_with_name(name)
            .map_err(|e| ParquetError::General(e.to_string()))?;
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        let mut size = Self {
            values: values.iter().map(|part| part.len()).sum(),
            compressed: 0,
            raw: 0,
        };
        for mut writer in writers(&schema, properties.clone(), 0)? {
            for part in values {
                for leaf in compute_leaves(field, part)? {
                    writer.write(&leaf)?;
                }
            }
            let chunk = writer.close()?;
            let metadata = &chunk.close().metadata;
            size.compressed += u64::try_from(metadata.compressed_size()).unwrap_or_default();
            size.raw += u64::try_from(metadata.uncompressed_size()).unwrap_or_default();
        }
        Ok(size)
    }

    /// Whether compression takes off less than a quarter: undoing it then takes longer than reading what it saved, from
    /// whatever gives 250 MB/s a thread or more.
    fn is_hardly_smaller(self) -> bool {
        self.compressed > self.raw / 4 * 3
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

    /// The encoding of a row group of these references, where some of them have these sizes as deltas and as byte streams.
    /// Deltas are read in a third of the time of the others: they may take an eighth more than streams; a dictionary is
    /// left for them only if they are smaller by more than the rule above may be wrong.
    fn choose(&self, deltas: Size, split: impl FnOnce() -> Result<Size>) -> Result<Encoded> {
        let (better, otherwise) = match self.are_many() {
            true => (
                deltas.compressed <= split()?.compressed / 8 * 9,
                Encoded::Split,
            ),
            false => (self.beats_dictionary(deltas), Encoded::Dictionary),
        };
        Ok(if better { Encoded::Deltas } else { otherwise })
    }

    fn beats_dictionary(&self, deltas: Size) -> bool {
        (deltas.compressed as f64) < 0.9 * self.dictionary() * deltas.values as f64
    }
}

fn page_as(properties: &WriterProperties, encoding: Encoding) -> WriterProperties {
    encoded(properties.clone().into_builder(), "page", encoding).build()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use arrow::array::{DictionaryArray, UInt64Array};
    use arrow::datatypes::{DataType, Int32Type};

    use super::*;
    use crate::encode;

    fn given() -> WriterProperties {
        encode::properties(Table::Refs, Vec::new())
    }

    fn array(values: &[u64]) -> ArrayRef {
        Arc::new(UInt64Array::from(values.to_vec()))
    }

    /// How a row group of these pages is encoded, where every other column has as its values these numbers, or texts of them.
    fn of(pages: &[u64], others: &[u64]) -> WriterProperties {
        let from = (pages.len() - pages.len().min(TRIED)) / 2;
        let tried = &pages[from..pages.len().min(from + TRIED)];
        let some = |name: &str| {
            let fields = Table::Refs.arrow_schema();
            let values = match fields.field_with_name(name).unwrap().data_type() {
                _ if name == "page" => array(tried),
                DataType::Dictionary(..) => {
                    let texts: Vec<String> = others.iter().map(u64::to_string).collect();
                    let texts = texts.iter().map(|text| Some(text.as_str()));
                    Arc::new(texts.collect::<DictionaryArray<Int32Type>>())
                }
                kind => arrow::compute::cast(&array(others), kind).unwrap(),
            };
            Ok(vec![values])
        };
        of_row_group(&given(), pages.iter().copied(), some).unwrap()
    }

    fn encoding(chosen: &WriterProperties) -> Encoded {
        let page = ColumnPath::from("page");
        match (chosen.dictionary_enabled(&page), chosen.encoding(&page)) {
            (true, Some(SPLIT)) => Encoded::Dictionary,
            (false, Some(SPLIT)) => Encoded::Split,
            (false, Some(DELTAS)) => Encoded::Deltas,
            other => panic!("{other:?}"),
        }
    }

    fn is_raw(chosen: &WriterProperties, name: &str) -> bool {
        chosen.compression(&name.into()) == Compression::UNCOMPRESSED
    }

    /// SplitMix64.
    fn hash(i: u64) -> u64 {
        let x = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn values(count: u64, value: impl Fn(u64) -> u64) -> Vec<u64> {
        (0..count).map(value).collect()
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
        let choose = |pages: &[u64]| encoding(&of(pages, &[]));
        // Scans, of few pages or many; any pages of an object.
        assert_eq!(choose(&values(40_000, |i| i)), Encoded::Deltas);
        assert_eq!(choose(&values(40_000, |i| i % 3_000)), Encoded::Deltas);
        let any = values(40_000, |i| hash(i) % 5_000_000);
        assert_eq!(choose(&any), Encoded::Deltas);
        // Few pages, far apart or not.
        let few = values(40_000, |i| hash(hash(i) % 3_000) >> 20);
        assert_eq!(choose(&few), Encoded::Dictionary);
        let few = values(40_000, |i| hash(i) % 300);
        assert_eq!(choose(&few), Encoded::Dictionary);
        // Far pages that come in groups, again and again; each time another one before them.
        let seldom = |i: u64| match i % 8 {
            0 => hash(i),
            k => hash(i / 8 % 4_000 * 8 + k) >> 20,
        };
        assert_eq!(choose(&values(40_000, seldom)), Encoded::Split);
        assert_eq!(choose(&[]), Encoded::Dictionary);
    }

    /// Nothing can be taken off random bits; all of what repeats.
    #[test]
    fn what_compression_hardly_makes_smaller_stays_as_it_is() {
        let random = |i| hash(i) >> 1;
        let chosen = of(&values(40_000, random), &values(10_000, |i| random(i) % 61));
        for name in ["page", "object_id", "path", "event"] {
            assert!(is_raw(&chosen, name), "{name}");
        }
        assert!(!is_raw(&chosen, "ts") && !is_raw(&chosen, "addr"));
        let again = |i| random(i % 100) % 61;
        let chosen = of(&values(40_000, |i| i % 300), &values(10_000, again));
        for name in ["page", "object_id", "path", "event"] {
            assert!(!is_raw(&chosen, name), "{name}");
        }
    }

    /// Pages that are many in a batch and few in a row group stay a dictionary; others are what a row group says.
    #[test]
    fn a_first_batch_is_no_row_group() {
        let of_pages = |rows: u64, page: &dyn Fn(u64) -> u64| {
            let pages = array(&values(rows, page));
            let batch = RecordBatch::try_from_iter([("page", pages)]).unwrap();
            of_batch(&given(), &batch).unwrap()
        };
        let choose = |page: &dyn Fn(u64) -> u64| encoding(&of_pages(8_192, page));
        assert_eq!(
            choose(&|i| hash(hash(i) % 3_000) >> 20),
            Encoded::Dictionary
        );
        assert_eq!(choose(&|i| i), Encoded::Deltas);
        assert_eq!(choose(&|i| hash(i) % 65_536), Encoded::Deltas);
        assert!(is_raw(&of_pages(8_192, &hash), "page"));
        assert!(!is_raw(&of_pages(8_192, &|i| i), "page"));
        assert!(!is_raw(&of_pages(LEAST as u64, &hash), "page"));
    }
}
