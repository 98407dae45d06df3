//! Chunks of a recording that is in the dataset already: what of it has to be written anew, so that the rows are those of
//! one run over all its chunks.
//!
//! Rows are numbered across all CPUs, so rows that come in between move what is behind them. Slices that are before all
//! of that stay as they are; in the usual case, chunks that follow those that are known, that is all but the last one. A
//! name or a clock reading that was not known when rows were written makes their slice one to be written anew, too.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt64Array,
};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, TimestampNanosecondType, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use tokio::runtime::Runtime;

use crate::clocks::{Clocks, Offsets};
use crate::compact::read::Reader;
use crate::dataset::Dataset;
use crate::encode::{self, Sink};
use crate::error::IngestError;
use crate::guard::guarded_async;
use crate::manifest::{CaptureEntry, FileEntry};
use crate::merge::Input;
use crate::names::Names;
use crate::older;
use crate::schema::Table;
use crate::source::skeleton::{self, Skeleton, Unread};
use crate::source::{Recording, Seen};
use crate::spill::{Room, Temp};
use crate::store::patiently;
use crate::survey::{Survey, survey_with};
use crate::upload::{PART, Upload};

/// Folder of what is kept of chunks within the dataset.
pub(crate) const STATE: &str = "_pgtrace/state";

/// Where the skeletons of a recording's chunks are kept.
pub(crate) fn state_path(name: &str) -> String {
    format!("{STATE}/{name}.parquet")
}

/// A recording that the dataset holds some chunks of.
pub(crate) struct Known {
    /// As the manifest has it.
    pub(crate) entry: CaptureEntry,
    pub(crate) skeletons: Vec<Skeleton>,
    /// What was drawn up from them when their rows were written.
    pub(crate) survey: Survey,
}

impl Known {
    /// What the dataset knows of a recording; `None`: nothing.
    pub(crate) fn load(
        dataset: &Dataset,
        runtime: &Runtime,
        recording: &Recording,
        room: &Room,
    ) -> Result<Option<Self>, IngestError> {
        let Some(entry) = dataset.manifest().capture(&recording.capture_id) else {
            return Ok(None);
        };
        let Some(path) = &entry.state else {
            let unknown = |id: &str| entry.chunks.iter().all(|c| c.id != id);
            let new: Vec<_> = recording.chunks().filter(|c| unknown(&c.id)).collect();
            return Err(IngestError::PartlyIngested {
                location: dataset.location().into(),
                capture_id: recording.capture_id.clone(),
                new: new.len(),
                first: new.first().map(|c| c.name()).unwrap_or_default(),
            });
        };
        let at = dataset.path(path);
        let failed = |cause| IngestError::Read {
            location: dataset.location().into(),
            path: path.clone(),
            cause,
        };
        let head = runtime.block_on(patiently(|| dataset.store().head(&at)));
        let reader = Reader {
            store: dataset.store().clone(),
            bytes: head
                .map_err(|e| failed(ParquetError::External(Box::new(e))))?
                .size,
            path: at.clone(),
        };
        let read = runtime.block_on(skeleton::read(reader, &Temp::new(room)));
        let skeletons = read.map_err(|e| match e {
            Unread::File(cause) => failed(cause),
            Unread::Temporary(e) => e,
        })?;
        let nothing = Recording {
            capture_id: recording.capture_id.clone(),
            cpus: BTreeMap::new(),
        };
        Ok(Some(Self {
            entry: entry.clone(),
            survey: survey_with(&nothing, &skeletons, room, &|_| {})?,
            skeletons,
        }))
    }
}

/// The chunks that are to be read, CPU by CPU.
pub(crate) fn inputs<'a>(recording: &'a Recording, known: &[Skeleton]) -> Vec<Input<'a>> {
    let ids: HashSet<&str> = known.iter().map(|s| s.id.as_str()).collect();
    let input = |(cpu, chunks): (&u16, &'a Vec<crate::source::Chunk>)| {
        let of_cpu = || known.iter().filter(|s| s.header.cpu == *cpu);
        let latest_before = |index: u32| {
            let before = of_cpu().filter(|s| s.header.index <= index);
            before.map(|s| s.noted.latest_ns).max().unwrap_or(0)
        };
        let new = chunks.iter().filter(|c| !ids.contains(c.id.as_str()));
        Input {
            cpu: *cpu,
            chunks: new.map(|c| (c, latest_before(c.header.index))).collect(),
            seen: Seen::of(of_cpu()),
        }
    };
    recording.cpus.iter().map(input).collect()
}

/// What has to be written anew.
pub(crate) struct Plan {
    /// Number of the first row.
    pub(crate) first: u64,
    /// Files of `refs` whose rows are to be read back.
    pub(crate) stored: Vec<FileEntry>,
    /// How their times were made.
    pub(crate) offsets: Offsets,
    /// Clocks that times of marks were told by.
    clocks: Clocks,
    /// Names or times of marks have changed.
    patch_marks: bool,
}

impl Plan {
    /// Compares what is known by now with what was; `known`: `None` for a recording that is new.
    pub(crate) fn new(dataset: &Dataset, known: Option<&Known>, now: &Survey) -> Self {
        let Some(known) = known else {
            return Self {
                first: 0,
                stored: Vec::new(),
                offsets: Offsets::default(),
                clocks: Clocks::default(),
                patch_marks: false,
            };
        };
        let (old, manifest) = (&known.survey, dataset.manifest());
        let changes = [
            old.clocks.differ_from(&now.clocks),
            old.names.differ_from(&now.names),
        ];
        let changed = changes.into_iter().flatten().min();
        let from = changed.into_iter().chain(now.fresh_ns).min();
        let objects = old.names.other_objects(&now.names);
        let concerns = |f: &&FileEntry| {
            let last = f.ts.zip(f.seq).map_or(u64::MAX, |(ts, seq)| {
                known.entry.offsets.latest(seq.min, seq.max, ts.max)
            });
            let is_late = from.is_some_and(|from| last >= from);
            is_late || f.objects.iter().any(|o| objects.contains(&o.object_id))
        };
        let capture = &known.entry.capture_id;
        let files = manifest.files(Table::Refs).iter();
        let files: Vec<&FileEntry> = files.filter(|f| f.capture_id == *capture).collect();
        let slice = |f: &FileEntry| f.seq.map_or(0, |s| s.min / manifest.slice_rows);
        let by_slice = manifest
            .partition_by
            .contains(&crate::manifest::PartitionKey::Slice);
        let dirty = files.iter().copied().filter(concerns).map(slice).min();
        let first = match dirty {
            _ if !by_slice => 0,
            // All that is stored is before what is new: rows are added to the last slice, or behind it.
            None => known.entry.refs / manifest.slice_rows,
            Some(slice) => slice,
        };
        Self {
            first: first * manifest.slice_rows,
            stored: files
                .into_iter()
                .filter(|f| slice(f) >= first)
                .cloned()
                .collect(),
            offsets: known.entry.offsets.clone(),
            clocks: old.clocks.clone(),
            patch_marks: changed.is_some(),
        }
    }
}

/// Files that are replaced, and files in their place for the rows in them that stay.
#[derive(Default)]
pub(crate) struct Replaced {
    pub(crate) gone: BTreeMap<Table, Vec<FileEntry>>,
    pub(crate) files: BTreeMap<Table, Vec<FileEntry>>,
}

/// Takes the recording's rows out of the tables besides `refs`, but for its marks, which are mended where names or
/// clocks have changed. `name` makes names of files.
pub(crate) fn replace_tables(
    dataset: &Dataset,
    runtime: &Runtime,
    known: &Known,
    plan: &Plan,
    (names, clocks): (&Names, &Clocks),
    name: &dyn Fn() -> String,
) -> Result<Replaced, IngestError> {
    let capture = known.entry.capture_id.as_str();
    let mut replaced = Replaced::default();
    replaced.gone.insert(Table::Refs, plan.stored.clone());
    for table in Table::ALL.into_iter().filter(|t| *t != Table::Refs) {
        for file in dataset.manifest().files(table) {
            let change: &dyn Fn(RecordBatch) -> Result<RecordBatch, ArrowError> = match table {
                _ if file.capture_id != capture && !file.capture_id.is_empty() => continue,
                Table::Marks if !plan.patch_marks => continue,
                Table::Marks => &|batch| mend_marks(&batch, capture, &plan.clocks, names, clocks),
                _ if file.capture_id == capture => {
                    replaced.gone.entry(table).or_default().push(file.clone());
                    continue;
                }
                _ => &|batch| {
                    let others: BooleanArray = is_of(&batch, capture)?
                        .into_iter()
                        .map(|ours| Some(!ours))
                        .collect();
                    filter_record_batch(&batch, &others)
                },
            };
            let path = format!("{table}/{}.parquet", name());
            let rewritten = runtime.block_on(rewrite(dataset, table, file, path, change))?;
            replaced.gone.entry(table).or_default().push(file.clone());
            replaced.files.entry(table).or_default().extend(rewritten);
        }
    }
    Ok(replaced)
}

/// Which rows are of a recording.
fn is_of(batch: &RecordBatch, capture: &str) -> Result<Vec<bool>, ArrowError> {
    let no = || ArrowError::SchemaError("no column capture_id".into());
    let texts = cast(
        batch.column_by_name("capture_id").ok_or_else(no)?,
        &DataType::Utf8,
    )?;
    let texts = texts.as_string::<i32>();
    Ok((0..texts.len())
        .map(|i| texts.is_valid(i) && texts.value(i) == capture)
        .collect())
}

/// Times by the clocks, and incarnations by the names that are known now.
fn mend_marks(
    batch: &RecordBatch,
    capture: &str,
    old: &Clocks,
    names: &Names,
    clocks: &Clocks,
) -> Result<RecordBatch, ArrowError> {
    let ours = is_of(batch, capture)?;
    let no = |name: &str| ArrowError::SchemaError(format!("no such column {name}"));
    let of = |name: &str| batch.column_by_name(name).ok_or_else(|| no(name));
    let (mut last, mut monotonic) = (0, vec![None; batch.num_rows()]);
    let times = |column: &ArrayRef, last: &mut u64, known: Option<&mut Vec<Option<u64>>>| {
        let ts = column.as_primitive::<TimestampNanosecondType>();
        let mut found = vec![None; ts.len()];
        for (i, found) in found
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| ts.is_valid(*i))
        {
            for time in old.monotonic(ts.value(i)) {
                *found = Some(time);
                if time >= *last {
                    break;
                }
            }
            *last = (*last).max(found.unwrap_or(0));
        }
        let mended = found.iter().enumerate().map(|(i, time)| match time {
            Some(time) if ours.get(i) == Some(&true) => Some(clocks.utc(*time)),
            _ => ts.is_valid(i).then(|| ts.value(i)),
        });
        let array = mended
            .collect::<TimestampNanosecondArray>()
            .with_timezone("UTC");
        if let Some(known) = known {
            *known = found;
        }
        std::sync::Arc::new(array) as ArrayRef
    };
    let ts = times(of("ts")?, &mut last, Some(&mut monotonic));
    let since = times(of("since_ts")?, &mut 0, None);
    let kinds = cast(of("kind")?, &DataType::Utf8)?;
    let kinds = kinds.as_string::<i32>();
    let (pids, upids) = (
        of("pid")?.as_primitive::<UInt32Type>(),
        of("upid")?.as_primitive::<UInt64Type>(),
    );
    let upid = (0..batch.num_rows()).map(|i| {
        let told = upids.is_valid(i).then(|| upids.value(i));
        // These records say it themselves.
        let itself = matches!(kinds.value(i), "attach" | "fork" | "exec" | "detach");
        match monotonic.get(i).copied().flatten() {
            Some(time) if ours.get(i) == Some(&true) && !itself && pids.is_valid(i) => {
                Some(names.upid_at(pids.value(i), time))
            }
            _ => told,
        }
    });
    let upid: ArrayRef = std::sync::Arc::new(upid.collect::<UInt64Array>());
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| match field.name().as_str() {
            "ts" => ts.clone(),
            "since_ts" => since.clone(),
            "upid" => upid.clone(),
            _ => column.clone(),
        });
    RecordBatch::try_new(schema.clone(), columns.collect())
}

/// Copies a file of a small table with its rows changed; `None`: no row is left.
async fn rewrite(
    dataset: &Dataset,
    table: Table,
    file: &FileEntry,
    path: String,
    change: &dyn Fn(RecordBatch) -> Result<RecordBatch, ArrowError>,
) -> Result<Option<FileEntry>, IngestError> {
    let encoded = |cause| IngestError::not_encoded(&file.path, cause);
    let stored = |cause| IngestError::Store {
        location: dataset.location().into(),
        path: path.clone(),
        cause,
    };
    let reader = Reader::of(dataset, file);
    let builder = guarded_async(ParquetRecordBatchStreamBuilder::new(reader))
        .await
        .map_err(encoded)?;
    let footer = builder.metadata().file_metadata().key_value_metadata();
    let footer = footer
        .into_iter()
        .flatten()
        .filter(|kv| kv.key != "ARROW:schema");
    let properties = encode::properties(table, footer.cloned().collect());
    let mut batches = builder.build().map_err(encoded)?;
    let sink = Sink::default();
    let mut writer = ArrowWriter::try_new(sink.clone(), table.arrow_schema(), Some(properties))
        .map_err(encoded)?;
    let part = if dataset.is_local() { 1 } else { PART };
    let mut upload = Upload::new(dataset.store().clone(), dataset.path(&path), part);
    let mut rows = 0;
    while let Some(batch) = guarded_async(batches.try_next()).await.map_err(encoded)? {
        let batch = older::adapt(table, &batch).and_then(change)?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(encoded)?;
        upload.append(sink.carry_away()).await.map_err(stored)?;
    }
    writer.finish().map_err(encoded)?;
    if rows == 0 {
        upload.abort().await;
        return Ok(None);
    }
    upload.append(sink.carry_away()).await.map_err(stored)?;
    Ok(Some(FileEntry {
        bytes: upload.finish().await.map_err(stored)?,
        path,
        rows,
        ..file.clone()
    }))
}
