//! What is kept of a chunk when its references are rows: everything else that was in it, and which numbers they had.
//!
//! With the skeletons of the chunks that are in a dataset already, later chunks of the same recording can be taken in as
//! if all had come at once: the account of losses, the names and the clocks are drawn up from skeletons and new chunks
//! together, in the order in which the recorder wrote them. The chunks themselves need not be there any more.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BinaryBuilder, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use pgtrace_capture::chunk::{ChunkHeader, Settings};
use pgtrace_capture::wire::ByteOrder;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::compact::read::Reader;
use crate::error::IngestError;
use crate::guard::guarded_async;
use crate::spill::{Tape, TapeReader, TapeWriter, Temp};

/// Rows of a batch of the file when it is written, and their bytes, about.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;
/// Rows of a batch when it is read: a row may be a block of 1 MiB.
const READ: usize = 64;

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
    /// What stood in it.
    pub noted: Noted,
}

/// What stood in a chunk, in order; there may be more of it than fits in memory.
#[derive(Clone, Debug)]
pub struct Noted {
    items: Tape,
    /// Numbers of the refs channel in it, as stretches.
    pub(crate) numbers: Vec<(u64, u64)>,
    /// Latest time of a record of the refs channel.
    pub(crate) latest_ns: u64,
}

/// Takes note of what stands in a chunk.
#[derive(Debug)]
pub(crate) struct Notes {
    items: TapeWriter,
    numbers: Vec<(u64, u64)>,
    latest_ns: u64,
}

impl Notes {
    pub(crate) fn new(temp: &Temp) -> Self {
        Self {
            items: TapeWriter::new(temp),
            numbers: Vec::new(),
            latest_ns: 0,
        }
    }

    /// Adds what stands next.
    pub(crate) fn push(&mut self, item: &Item) {
        if let Item::Run(run) = item {
            self.latest_ns = self.latest_ns.max(run.max_ns);
            match self.numbers.last_mut() {
                Some(last) if last.1 == run.first => last.1 = run.end(),
                _ => self.numbers.push((run.first, run.end())),
            }
        }
        // All of it is numbers and text, which have such a form.
        let text = serde_json::to_string(item).unwrap_or_default();
        let length = (text.len() as u32).to_le_bytes();
        let data = item.data();
        let parts = [
            &[data.is_some().into()],
            &length[..],
            text.as_bytes(),
            data.unwrap_or_default(),
        ];
        self.items.push(&parts);
    }

    /// The chunk ends.
    pub(crate) fn finish(self) -> std::result::Result<Noted, IngestError> {
        Ok(Noted {
            items: self.items.finish()?,
            numbers: self.numbers,
            latest_ns: self.latest_ns,
        })
    }
}

impl Noted {
    /// Gives each item to `take`.
    pub(crate) fn each(&self, mut take: impl FnMut(Item)) -> std::result::Result<(), IngestError> {
        let mut pieces = self.items.read();
        while let Some(piece) = pieces.next_piece()? {
            let (text, data) = split(piece)?;
            let item = serde_json::from_str(text);
            let mut item: Item = item.map_err(|e| ArrowError::JsonError(e.to_string()))?;
            if let (Some(to), Some(data)) = (item.data_mut(), data) {
                *to = data.to_vec();
            }
            take(item);
        }
        Ok(())
    }
}

/// Text and bytes of an item as it was noted.
fn split(piece: &[u8]) -> std::result::Result<(&str, Option<&[u8]>), ArrowError> {
    let parts =
        piece
            .split_first_chunk()
            .and_then(|([has_data, length @ ..], rest): (&[u8; 5], _)| {
                let (text, data) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                let text = std::str::from_utf8(text).ok()?;
                Some((text, (*has_data != 0).then_some(data)))
            });
    parts.ok_or_else(|| ArrowError::ParseError("a note is not as it was written".into()))
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

    fn skeleton(self, noted: Noted) -> Result<Skeleton> {
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
            noted,
        })
    }
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(format!("not the chunks' skeletons: {what}"))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("chunk", DataType::UInt32, false),
        Field::new("item", DataType::Utf8, false),
        Field::new("data", DataType::Binary, true),
    ]))
}

/// What the file of a recording's skeletons is: Parquet with a row for each chunk's head and for each item.
pub(crate) fn file() -> (SchemaRef, WriterProperties) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // No two blocks are the same.
        .set_column_dictionary_enabled("data".into(), false)
        .set_column_statistics_enabled("data".into(), EnabledStatistics::None);
    (schema(), properties.build())
}

/// Rows of the file, some at a time.
pub(crate) struct Rows<'a> {
    skeletons: std::iter::Enumerate<std::slice::Iter<'a, Skeleton>>,
    open: Option<(u32, TapeReader)>,
}

impl<'a> Rows<'a> {
    /// All rows of these.
    pub(crate) fn of(skeletons: &'a [Skeleton]) -> Self {
        Self {
            skeletons: skeletons.iter().enumerate(),
            open: None,
        }
    }

    /// The next few of them; `None` at the end.
    fn some(&mut self) -> std::result::Result<Option<RecordBatch>, IngestError> {
        let json = |e: serde_json::Error| ArrowError::JsonError(e.to_string());
        let (mut chunks, mut items, mut data) = (Vec::new(), Vec::new(), BinaryBuilder::new());
        let mut bytes = 0;
        while chunks.len() < BATCH && bytes < BATCH_BYTES {
            let Some((number, reader)) = &mut self.open else {
                let Some((number, skeleton)) = self.skeletons.next() else {
                    break;
                };
                chunks.push(number as u32);
                items.push(serde_json::to_string(&Head::of(skeleton)).map_err(json)?);
                data.append_null();
                self.open = Some((number as u32, skeleton.noted.items.read()));
                continue;
            };
            let Some(piece) = reader.next_piece()? else {
                self.open = None;
                continue;
            };
            let (text, stored) = split(piece)?;
            bytes += piece.len();
            chunks.push(*number);
            items.push(text.into());
            data.append_option(stored);
        }
        if chunks.is_empty() {
            return Ok(None);
        }
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(UInt32Array::from(chunks)),
            Arc::new(StringArray::from(items)),
            Arc::new(data.finish()),
        ];
        Ok(Some(RecordBatch::try_new(schema(), columns)?))
    }
}

impl Iterator for Rows<'_> {
    type Item = std::result::Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.some().transpose()
    }
}

/// Reads the file that [`Rows`] made, whatever its size.
pub(crate) async fn read(
    reader: Reader,
    temp: &Temp,
) -> std::result::Result<Vec<Skeleton>, Unread> {
    let builder = guarded_async(ParquetRecordBatchStreamBuilder::new(reader)).await?;
    let mut batches = builder.with_batch_size(READ).build()?;
    let mut skeletons: Vec<Skeleton> = Vec::new();
    let mut open: Option<(Head, Notes)> = None;
    while let Some(batch) = guarded_async(batches.try_next()).await? {
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
            return Err(damaged("columns of other types").into());
        };
        for row in 0..batch.num_rows() {
            let json = |e: serde_json::Error| damaged(&e.to_string());
            let (chunk, text) = (chunks.value(row) as usize, items.value(row));
            match &mut open {
                Some((_, notes)) if chunk <= skeletons.len() => {
                    let mut item: Item = serde_json::from_str(text).map_err(json)?;
                    if let Some(to) = item.data_mut() {
                        *to = data.value(row).to_vec();
                    }
                    notes.push(&item);
                }
                _ => {
                    let head = serde_json::from_str(text).map_err(json)?;
                    if let Some((head, notes)) = open.replace((head, Notes::new(temp))) {
                        skeletons.push(head.skeleton(notes.finish()?)?);
                    }
                }
            }
        }
    }
    if let Some((head, notes)) = open {
        skeletons.push(head.skeleton(notes.finish()?)?);
    }
    Ok(skeletons)
}

/// Why skeletons cannot be read.
pub(crate) enum Unread {
    /// The file is not as it should be.
    File(ParquetError),
    /// The temporary file cannot be written.
    Temporary(IngestError),
}

impl From<ParquetError> for Unread {
    fn from(e: ParquetError) -> Self {
        Self::File(e)
    }
}

impl From<IngestError> for Unread {
    fn from(e: IngestError) -> Self {
        Self::Temporary(e)
    }
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
