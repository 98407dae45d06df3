//! What is kept of a chunk when its references are rows: everything else that was in it, and which numbers they had.
//!
//! With the skeletons of the chunks that are in a dataset already, later chunks of the same recording can be taken in as
//! if all had come at once: the account of losses, the names and the clocks are drawn up from skeletons and new chunks
//! together, in the order in which the recorder wrote them. The chunks themselves need not be there any more.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BinaryBuilder, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use pgtrace_capture::chunk::{ChunkHeader, Settings};
use pgtrace_capture::wire::ByteOrder;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::guard::guarded;

/// Rows of a batch of the file.
const BATCH: usize = 4096;

/// A chunk without its references.
#[derive(Clone, Debug)]
pub struct Skeleton {
    /// BLAKE3 of the chunk's content, in hex.
    pub id: String,
    /// Its file name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its header.
    pub header: ChunkHeader,
    /// What stood in it, in order.
    pub items: Vec<Item>,
}

/// Something that stood in a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// Records of the refs channel, numbered one after the other.
    Run(Run),
    /// Bytes that are kept as they were.
    Stored {
        /// What they are.
        what: Stored,
        /// The bytes, in the chunk's byte order.
        #[serde(skip)]
        data: Vec<u8>,
    },
    /// A record of the refs channel that this program does not know.
    Unknown {
        /// Its number.
        seq: u64,
        /// Its kind.
        kind: u8,
        /// Its wire version.
        version: u8,
    },
    /// Bytes that cannot be used.
    Damage {
        /// The refs channel may have lost something by it.
        refs: bool,
        /// The names channel may have.
        names: bool,
        /// The end of something is missing; otherwise it is not what was written.
        truncated: bool,
        /// File, byte offset, expected and found.
        detail: String,
    },
}

/// What is kept of a chunk as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// A block of the names channel, up to where it can be decoded.
    Names,
    /// A block of copies of names, likewise.
    Repeated,
    /// A record of the refs channel that is neither a reference nor a mark: it is counted in its run.
    InRefs,
    /// What the recorder says the recording came to.
    Totals,
}

/// Records of a refs channel with numbers that follow on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Number of the first.
    pub first: u64,
    /// How many there are.
    pub n: u64,
    /// Of them rows of `refs`.
    pub rows: u64,
    /// Of these page-cache events.
    pub cache_events: u64,
    /// Time of the first record, monotonic ns.
    pub first_ns: u64,
    /// Time of the last record.
    pub last_ns: u64,
    /// Latest time of them all.
    pub max_ns: u64,
}

impl Run {
    /// The number behind the last.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.n)
    }
}

impl Skeleton {
    /// Runs of records.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.items.iter().filter_map(|item| match item {
            Item::Run(run) => Some(run),
            _ => None,
        })
    }
}

/// A chunk's header and name as the file has them.
#[derive(Serialize, Deserialize)]
struct Head {
    id: String,
    name: String,
    bytes: u64,
    capture_id: String,
    boot_id: String,
    kernel: String,
    page_size: u32,
    big_endian: bool,
    cpu: u16,
    index: u32,
    monotonic_ns: u64,
    realtime_ns: u64,
    boottime_ns: u64,
    settings: Settings,
}

impl Head {
    fn of(s: &Skeleton) -> Self {
        let h = &s.header;
        Self {
            id: s.id.clone(),
            name: s.name.clone(),
            bytes: s.bytes,
            capture_id: h.capture_id.to_string(),
            boot_id: h.boot_id.to_string(),
            kernel: h.kernel.clone(),
            page_size: h.page_size,
            big_endian: h.byte_order == ByteOrder::Big,
            cpu: h.cpu,
            index: h.index,
            monotonic_ns: h.monotonic_ns,
            realtime_ns: h.realtime_ns,
            boottime_ns: h.boottime_ns,
            settings: h.settings.clone(),
        }
    }

    fn skeleton(self) -> Result<Skeleton> {
        let uuid = |text: &str| Uuid::parse_str(text).map_err(|e| damaged(&e.to_string()));
        Ok(Skeleton {
            header: ChunkHeader {
                capture_id: uuid(&self.capture_id)?,
                boot_id: uuid(&self.boot_id)?,
                kernel: self.kernel,
                page_size: self.page_size,
                byte_order: match self.big_endian {
                    true => ByteOrder::Big,
                    false => ByteOrder::Little,
                },
                cpu: self.cpu,
                index: self.index,
                monotonic_ns: self.monotonic_ns,
                realtime_ns: self.realtime_ns,
                boottime_ns: self.boottime_ns,
                settings: self.settings,
            },
            id: self.id,
            name: self.name,
            bytes: self.bytes,
            items: Vec::new(),
        })
    }
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(format!("not the chunks' skeletons: {what}"))
}

/// The file of a recording's skeletons: Parquet with a row for each chunk's head and for each item.
///
/// # Errors
/// None in practice: all of it has such a form.
pub fn to_file(skeletons: &[Skeleton]) -> Result<Vec<u8>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("chunk", DataType::UInt32, false),
        Field::new("item", DataType::Utf8, false),
        Field::new("data", DataType::Binary, true),
    ]));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
    let json = |e: serde_json::Error| damaged(&e.to_string());
    let (mut chunks, mut items, mut data) = (Vec::new(), Vec::new(), BinaryBuilder::new());
    for (number, skeleton) in skeletons.iter().enumerate() {
        chunks.push(number as u32);
        items.push(serde_json::to_string(&Head::of(skeleton)).map_err(json)?);
        data.append_null();
        for item in &skeleton.items {
            chunks.push(number as u32);
            items.push(serde_json::to_string(item).map_err(json)?);
            data.append_option(item.data());
            if chunks.len() >= BATCH {
                let columns = batch(&mut chunks, &mut items, &mut data);
                writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
            }
        }
    }
    let columns = batch(&mut chunks, &mut items, &mut data);
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.into_inner()
}

fn batch(
    chunks: &mut Vec<u32>,
    items: &mut Vec<String>,
    data: &mut BinaryBuilder,
) -> Vec<Arc<dyn Array>> {
    vec![
        Arc::new(UInt32Array::from(std::mem::take(chunks))),
        Arc::new(StringArray::from(std::mem::take(items))),
        Arc::new(data.finish()),
    ]
}

/// Reads what [`to_file`] wrote.
///
/// # Errors
/// Bytes that it did not write.
pub fn from_file(bytes: Bytes) -> Result<Vec<Skeleton>> {
    guarded(|| Ok::<_, String>(read(bytes))).map_err(ParquetError::General)?
}

fn read(bytes: Bytes) -> Result<Vec<Skeleton>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    let mut skeletons: Vec<Skeleton> = Vec::new();
    for batch in reader {
        let batch = batch?;
        let of = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| damaged(&format!("no column {name}")))
        };
        let (chunks, items, data) = (of("chunk")?, of("item")?, of("data")?);
        let columns = (
            chunks.as_any().downcast_ref::<UInt32Array>(),
            items.as_any().downcast_ref::<StringArray>(),
            data.as_any().downcast_ref::<BinaryArray>(),
        );
        let (Some(chunks), Some(items), Some(data)) = columns else {
            return Err(damaged("columns of other types"));
        };
        for row in 0..batch.num_rows() {
            let (text, json) = (items.value(row), |e: serde_json::Error| {
                damaged(&e.to_string())
            });
            if chunks.value(row) as usize >= skeletons.len() {
                let head: Head = serde_json::from_str(text).map_err(json)?;
                skeletons.push(head.skeleton()?);
                continue;
            }
            let mut item: Item = serde_json::from_str(text).map_err(json)?;
            if let Some(to) = item.data_mut() {
                *to = data.value(row).to_vec();
            }
            if let Some(skeleton) = skeletons.last_mut() {
                skeleton.items.push(item);
            }
        }
    }
    Ok(skeletons)
}

impl Item {
    /// Whether it has a number in the refs channel.
    pub fn is_of_refs(&self) -> bool {
        match self {
            Self::Run(_) | Self::Unknown { .. } => true,
            Self::Stored { what, .. } => *what == Stored::InRefs,
            Self::Damage { .. } => false,
        }
    }

    fn data(&self) -> Option<&[u8]> {
        match self {
            Self::Stored { data, .. } => Some(data),
            Self::Run(_) | Self::Unknown { .. } | Self::Damage { .. } => None,
        }
    }

    fn data_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Stored { data, .. } => Some(data),
            Self::Run(_) | Self::Unknown { .. } | Self::Damage { .. } => None,
        }
    }
}
