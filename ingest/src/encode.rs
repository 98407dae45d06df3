//! Row groups: rows to encoded columns, and how each column is encoded.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterPropertiesPtr,
};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use pgtrace_capture::record::Event;

use crate::chosen_encoding::{self, REFS_A_PAGE, TRIED};
use crate::manifest::{ObjectExtent, Span};
use crate::row::{Context, Row, Rows, Tile};
use crate::schema::{SCHEMA_VERSION, Table};

/// Rows of a row group at most: 8 MB while they wait. (Larger ones are hardly smaller on disk: see bench/README.md.)
pub(crate) const ROW_GROUP_ROWS: usize = 1 << 17;

/// Rows that are encoded at a time: 256 KiB.
const TILE: usize = 4096;

/// How files are encoded; what was tried is in bench/README.md, "Physical layout tried". `seq` and `ts` are deltas;
/// `addr` is plain, which zstd makes smaller than anything else; `page` is a dictionary, and split into byte streams when
/// that is full, unless the string asks for something else (`chosen_encoding`); `uid` and `page_order`, nearly always the
/// same, are deltas because no row is looked up then. Everything else repeats: dictionaries.
pub(crate) fn properties(table: Table, footer: Vec<KeyValue>) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("pgtrace ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(footer))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_compression(Compression::ZSTD(ZstdLevel::default()));
    if table == Table::Refs {
        for (name, encoding) in [
            ("seq", Encoding::DELTA_BINARY_PACKED),
            ("ts", Encoding::DELTA_BINARY_PACKED),
            ("addr", Encoding::PLAIN),
            ("uid", Encoding::DELTA_BINARY_PACKED),
            ("page_order", Encoding::DELTA_BINARY_PACKED),
        ] {
            properties = encoded(properties, name, encoding);
        }
        let page = ColumnPath::from("page");
        let limit = ROW_GROUP_ROWS / REFS_A_PAGE * size_of::<u64>();
        properties = properties
            .set_column_dictionary_page_size_limit(page.clone(), limit)
            .set_column_encoding(page, Encoding::BYTE_STREAM_SPLIT);
        // The same in the whole file, as its folder and the manifest say: comparing it value by value tells nothing.
        let one = ColumnPath::from("capture_id");
        properties = properties.set_column_statistics_enabled(one, EnabledStatistics::None);
    }
    properties.build()
}

/// The same for files of one process each: what is the same in every row is cheapest as a delta, no row is looked up.
pub(crate) fn one_process(properties: WriterProperties) -> WriterProperties {
    let mut properties = properties.into_builder();
    for name in ["pid", "upid"] {
        properties = encoded(properties, name, Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

pub(crate) fn encoded(
    properties: WriterPropertiesBuilder,
    name: &str,
    encoding: Encoding,
) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(name);
    properties
        .set_column_dictionary_enabled(column.clone(), false)
        .set_column_encoding(column, encoding)
}

/// What every file says about itself in its footer.
pub(crate) fn footer(capture_id: &str, lost: u64, clock: (u64, u64)) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("pgtrace.{key}"), value);
    vec![
        pair("schema_version", SCHEMA_VERSION.to_string()),
        pair("capture_id", capture_id.into()),
        pair("lost", lost.to_string()),
        pair(
            "clock",
            format!("monotonic_ns={} utc_ns={}", clock.0, clock.1),
        ),
    ]
}

/// Collects what the file writer writes until somebody carries it away. The
/// writer keeps it, and so do we: hence the shared pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// All bytes since the last call.
    pub(crate) fn carry_away(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Begins `refs` files, and encodes their row groups.
pub(crate) struct Encoder {
    schema: SchemaRef,
    properties: WriterPropertiesPtr,
    context: Arc<Context>,
}

/// An encoded row group and what is in it.
pub(crate) struct RowGroup {
    chunks: Vec<ArrowColumnChunk>,
    pub(crate) facts: Facts,
}

/// What the manifest says about rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) rows: u64,
    pub(crate) seq: Option<Span<u64>>,
    pub(crate) ts: Option<Span<i64>>,
    pub(crate) uid: Option<Span<u32>>,
    pub(crate) pid: Option<Span<u32>>,
    pub(crate) objects: BTreeMap<u64, Span<u64>>,
    /// Kinds of events, in order of their names.
    pub(crate) events: BTreeSet<&'static str>,
}

impl Encoder {
    /// `by_pid`: each file holds one process.
    pub(crate) fn new(context: Arc<Context>, lost: u64, by_pid: bool) -> Self {
        let footer = footer(&context.capture_id, lost, context.clocks.first());
        let mut properties = properties(Table::Refs, footer);
        if by_pid {
            properties = one_process(properties);
        }
        Self {
            properties: Arc::new(properties),
            schema: Table::Refs.arrow_schema(),
            context,
        }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Begins a file; its bytes go to `sink`.
    pub(crate) fn begin(&self, sink: Sink) -> Result<SerializedFileWriter<Sink>> {
        let schema = ArrowSchemaConverter::new().convert(&self.schema)?;
        let mut properties = WriterProperties::clone(&self.properties);
        // The arrow schema in the footer is what makes dictionaries and UTC survive.
        parquet::arrow::add_encoded_arrow_schema_to_metadata(&self.schema, &mut properties);
        SerializedFileWriter::new(sink, schema.root_schema_ptr(), Arc::new(properties))
    }

    /// Encodes row group `number` of a file. A few thousand rows at a time, column by column: they stay in the
    /// processor's cache meanwhile.
    pub(crate) fn encode(&self, number: usize, rows: &Rows) -> Result<RowGroup> {
        // Made here: writers take memory, and only as many as there are threads are needed at a time.
        let mut writers = self.writers(number, rows)?;
        let mut facts = Facts::default();
        for rows in rows.iter().flat_map(|stretch| stretch.chunks(TILE)) {
            let tile = self.context.tile(rows);
            for (field, writer) in self.schema.fields().iter().zip(&mut writers) {
                let column = self.column(field.name(), &tile)?;
                for leaf in compute_leaves(field, &column)? {
                    writer.write(&leaf)?;
                }
            }
            facts.add(rows, &tile.utc);
        }
        let chunks = writers.into_iter().map(ArrowColumnWriter::close);
        Ok(RowGroup {
            chunks: chunks.collect::<Result<_>>()?,
            facts,
        })
    }

    fn writers(&self, number: usize, rows: &Rows) -> Result<Vec<ArrowColumnWriter>> {
        let some = middle(rows, TRIED);
        let some = some.iter().flat_map(|rows| rows.chunks(TILE));
        let some: Vec<Tile<'_>> = some.map(|rows| self.context.tile(rows)).collect();
        let pages = rows.iter().flatten().map(|row| row.page);
        let properties = chosen_encoding::of_row_group(&self.properties, pages, |name| {
            some.iter().map(|tile| self.column(name, tile)).collect()
        })?;
        chosen_encoding::writers(&self.schema, properties, number)
    }

    fn column(&self, name: &str, tile: &Tile<'_>) -> Result<ArrayRef> {
        let none = || ParquetError::General(format!("no values for column {name}"));
        self.context.column(name, tile).ok_or_else(none)
    }
}

/// The `count` rows in the middle, or all if they are fewer.
fn middle(rows: &Rows, count: usize) -> Vec<&[Row]> {
    let all: usize = rows.iter().map(Vec::len).sum();
    let (mut skip, mut left) = ((all - all.min(count)) / 2, count);
    let mut parts = Vec::new();
    for stretch in rows {
        let from = skip.min(stretch.len());
        let to = stretch.len().min(from + left);
        parts.extend(stretch.get(from..to));
        skip -= from;
        left -= to - from;
    }
    parts
}

impl RowGroup {
    /// Appends the row group to its file.
    pub(crate) fn append_to(self, file: &mut SerializedFileWriter<Sink>) -> Result<()> {
        let mut group = file.next_row_group()?;
        for chunk in self.chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        // The bytes must be with us, not in the writer's own buffer.
        file.flush().map_err(|e| ParquetError::External(e.into()))
    }
}

impl Facts {
    /// Adds rows, which are in order of `seq`, and their times.
    fn add(&mut self, rows: &[Row], utc: &[i64]) {
        self.rows += rows.len() as u64;
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            include(&mut self.seq, first.seq);
            include(&mut self.seq, last.seq);
        }
        for span in [utc.iter().min(), utc.iter().max()].into_iter().flatten() {
            include(&mut self.ts, *span);
        }
        for run in rows.chunk_by(|a, b| a.event() == b.event()) {
            self.events
                .extend(run.first().map(|row| row.event().as_str()));
        }
        // The others come in runs.
        for run in rows.chunk_by(|a, b| (a.uid, a.tgid, a.object) == (b.uid, b.tgid, b.object)) {
            let Some(first) = run.first() else {
                continue;
            };
            include(&mut self.uid, first.uid);
            include(&mut self.pid, first.tgid);
            let mut span = Span::of(first.page);
            for row in run {
                span.include(row.page);
            }
            self.include_object(u64::from(first.object), span);
        }
    }

    /// Adds rows given by their columns, in order of `seq`: uids and pids, objects and pages, events.
    pub(crate) fn add_columns(
        &mut self,
        seq: &[u64],
        ts: &[i64],
        (uids, pids): (&[u32], &[u32]),
        (objects, pages): (&[u64], &[u64]),
        events: impl Iterator<Item = Event>,
    ) {
        self.events.extend(events.map(Event::as_str));
        self.rows += seq.len() as u64;
        merge(&mut self.seq, ends(seq));
        merge(&mut self.ts, extremes(ts));
        merge(&mut self.uid, extremes(uids));
        merge(&mut self.pid, extremes(pids));
        let mut at = 0;
        for run in objects.chunk_by(|a, b| a == b) {
            let span = pages.get(at..at + run.len()).and_then(extremes);
            if let (Some(&object), Some(span)) = (run.first(), span) {
                self.include_object(object, span);
            }
            at += run.len();
        }
    }

    /// Adds what another row group holds.
    pub(crate) fn merge(&mut self, other: Facts) {
        self.rows += other.rows;
        merge(&mut self.seq, other.seq);
        merge(&mut self.ts, other.ts);
        merge(&mut self.uid, other.uid);
        merge(&mut self.pid, other.pid);
        for (object, span) in other.objects {
            self.include_object(object, span);
        }
        self.events.extend(other.events);
    }

    /// The objects as the manifest lists them.
    pub(crate) fn extents(&self) -> Vec<ObjectExtent> {
        let extent = |(&object_id, span): (&u64, &Span<u64>)| ObjectExtent {
            object_id,
            min_page: span.min,
            max_page: span.max,
        };
        self.objects.iter().map(extent).collect()
    }

    /// The events as the manifest lists them.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.iter().map(|&event| event.to_owned()).collect()
    }

    fn include_object(&mut self, object: u64, span: Span<u64>) {
        let known = self.objects.entry(object).or_insert(span);
        known.include(span.min);
        known.include(span.max);
    }
}

fn ends<T: Copy>(sorted: &[T]) -> Option<Span<T>> {
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    Some(Span { min, max })
}

fn extremes<T: Copy + Ord>(values: &[T]) -> Option<Span<T>> {
    let (min, max) = (values.iter().copied().min()?, values.iter().copied().max()?);
    Some(Span { min, max })
}

fn include<T: Copy + Ord>(span: &mut Option<Span<T>>, value: T) {
    span.get_or_insert(Span::of(value)).include(value);
}

fn merge<T: Copy + Ord>(span: &mut Option<Span<T>>, other: Option<Span<T>>) {
    if let Some(other) = other {
        include(span, other.min);
        include(span, other.max);
    }
}
