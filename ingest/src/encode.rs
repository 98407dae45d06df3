//! Row groups: rows to encoded columns, and how each column is encoded.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;

use crate::manifest::{ObjectExtent, Span};
use crate::row::{Context, Rows};
use crate::schema::{SCHEMA_VERSION, Table};

/// Rows of a row group at most.
pub(crate) const ROW_GROUP_ROWS: usize = 1 << 20;

/// How files are encoded. `refs` columns were measured on a real capture (bytes
/// a reference, zstd): `seq` and `ts` as deltas 0.2 and 2.4, by dictionary 2.7
/// and 4.2; `page` split into byte streams 0.88, as deltas 1.09; `addr` split
/// 1.06, by dictionary 1.08 (and slower to read); `ip` by dictionary 0.34,
/// split 0.63. Everything else repeats: dictionaries.
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
            ("page", Encoding::BYTE_STREAM_SPLIT),
            ("addr", Encoding::BYTE_STREAM_SPLIT),
        ] {
            let column = ColumnPath::from(name);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, encoding);
        }
    }
    properties.build()
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
}

impl Encoder {
    pub(crate) fn new(context: Arc<Context>, lost: u64) -> Self {
        let footer = footer(&context.capture_id, lost, context.clocks.first());
        Self {
            schema: Table::Refs.arrow_schema(),
            properties: Arc::new(properties(Table::Refs, footer)),
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

    /// Encodes a row group for `file`, column by column side by side.
    pub(crate) fn encode(
        &self,
        factory: &ArrowRowGroupWriterFactory,
        index: usize,
        rows: &Rows,
    ) -> Result<RowGroup> {
        let writers = factory.create_column_writers(index)?;
        let encode = || -> Result<Vec<ArrowColumnChunk>> {
            self.schema
                .fields()
                .iter()
                .zip(writers)
                .collect::<Vec<_>>()
                .into_par_iter()
                .map(|(field, mut writer)| {
                    let column = self.context.column(field.name(), rows).ok_or_else(|| {
                        ParquetError::General(format!("no values for column {}", field.name()))
                    })?;
                    for leaf in compute_leaves(field, &column)? {
                        writer.write(&leaf)?;
                    }
                    writer.close()
                })
                .collect()
        };
        let (chunks, facts) = rayon::join(encode, || self.facts(rows));
        Ok(RowGroup {
            chunks: chunks?,
            facts,
        })
    }

    /// A factory of column writers for `file`.
    pub(crate) fn factory(&self, file: &SerializedFileWriter<Sink>) -> ArrowRowGroupWriterFactory {
        ArrowRowGroupWriterFactory::new(file, self.schema.clone())
    }

    fn facts(&self, rows: &Rows) -> Facts {
        let mut facts = Facts::default();
        let all = rows.iter().flatten();
        let mut extent: Option<(u32, Span<u64>)> = None;
        for row in all {
            facts.rows += 1;
            include(&mut facts.seq, row.seq);
            include(&mut facts.ts, self.context.clocks.utc(row.time_ns));
            include(&mut facts.uid, row.uid);
            include(&mut facts.pid, row.tgid);
            // References to one object come in runs.
            match &mut extent {
                Some((object, span)) if *object == row.object => span.include(row.page),
                other => {
                    if let Some((object, span)) = other.take() {
                        facts.include_object(u64::from(object), span);
                    }
                    *other = Some((row.object, Span::of(row.page)));
                }
            }
        }
        if let Some((object, span)) = extent {
            facts.include_object(u64::from(object), span);
        }
        facts
    }
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

    fn include_object(&mut self, object: u64, span: Span<u64>) {
        let known = self.objects.entry(object).or_insert(span);
        known.include(span.min);
        known.include(span.max);
    }
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
