//! The tables beside `refs`, dealt out to many datasets.
//!
//! A row goes to every dataset whose references need it. Rows are numbered by dataset and sorted by that number, as those
//! of `refs` are by key; so one file is open at a time. What belongs to no process - losses, marks of the recorder - is
//! the same for all datasets of a recording: written once, and linked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{filter_record_batch, is_null, partition, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::col;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt};
use pgtrace_ingest::manifest::FileEntry;
use pgtrace_ingest::schema::Table;

use super::super::DeriveError;
use super::super::held::{Held, Of};
use super::super::recordings::{Recordings, texts};
use super::super::rules::{self, Kept, Rules, Window};
use super::super::source::Source;
use super::super::tables::{all_columns, plain, with_totals};
use super::parts::Parts;

/// Number of the dataset, and of the row, while rows are sorted.
const PART: &str = "__part";
const ROW: &str = "__row";
/// Rows that are dealt out at a time.
const DEAL: usize = 8192;

/// Which datasets need what, of one recording.
#[derive(Debug, Default)]
struct Needed {
    window: Window,
    /// By processes that references name, by processes with a row, by objects: numbers of datasets, in order.
    by_process: HashMap<u64, Vec<u32>>,
    by_row: HashMap<u64, Vec<u32>>,
    by_object: HashMap<u64, Vec<u32>>,
}

/// The same, by recording.
type ByCapture = BTreeMap<String, Needed>;

/// Writes the tables beside `refs` of all datasets.
pub(super) async fn write(
    source: &Source,
    recordings: &Recordings,
    windows: &BTreeMap<String, Window>,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    let mut needed = ByCapture::new();
    for (number, part) in (0u32..).zip(&parts.parts) {
        for of in &part.needs {
            let id = of.capture_id.to_string();
            let window = windows.get(&id).copied().unwrap_or_default();
            let kept = recordings.of(&id).kin.kept(&of.processes, &of.objects);
            let to = needed.entry(id).or_default();
            to.window = window;
            for (map, ids) in [
                (&mut to.by_process, &of.processes),
                (&mut to.by_object, &of.objects),
            ] {
                ids.iter()
                    .for_each(|&id| map.entry(id).or_default().push(number));
            }
            kept.into_iter()
                .for_each(|id| to.by_row.entry(id).or_default().push(number));
        }
    }
    let needed = Arc::new(needed);
    for table in [
        Table::Processes,
        Table::Objects,
        Table::Mappings,
        Table::Marks,
    ] {
        own(source, recordings, table, &needed, parts).await?;
    }
    for table in [Table::Losses, Table::Marks] {
        in_common(source, recordings, table, &needed, parts).await?;
    }
    captures(source, recordings, parts).await
}

/// Rows that belong to a process or an object.
async fn own(
    source: &Source,
    recordings: &Recordings,
    table: Table,
    needed: &Arc<ByCapture>,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    let files = source.dataset().manifest().files(table).to_vec();
    if files.is_empty() {
        return Ok(());
    }
    let dealt = Arc::new(Dealt {
        source: source.clone(),
        table,
        files,
        needed: Arc::clone(needed),
        schema: dealt_schema(table),
    });
    let schema = Arc::clone(&dealt.schema);
    let rows = StreamingTable::try_new(schema, vec![dealt])?;
    let frame = source.context().read_table(Arc::new(rows))?;
    let order = [PART, ROW].map(|name| col(name).sort(true, true));
    let mut batches = frame.sort(order.to_vec())?.execute_stream().await?;
    let width = table.columns().len();
    let mut open = None;
    let mut last = None;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let (columns, numbers) = batch.columns().split_at(width);
        let rows = RecordBatch::try_new(table.arrow_schema(), columns.to_vec())?;
        let captures: ArrayRef = Arc::new(texts(&rows, "capture_id")?);
        let of_part = numbers
            .first()
            .and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let Some(of_part) = of_part else {
            return Err(DataFusionError::Internal("no number of a dataset".into()).into());
        };
        let runs = partition(&[Arc::new(of_part.clone()) as ArrayRef, Arc::clone(&captures)])?;
        for run in runs.ranges() {
            let capture = captures.as_string::<i32>().value(run.start);
            let now = (of_part.value(run.start), capture.to_owned());
            if last.as_ref() != Some(&now) {
                end(&mut open, last.take(), table, parts).await?;
                if let Some(part) = usize::try_from(now.0)
                    .ok()
                    .and_then(|n| parts.parts.get_mut(n))
                {
                    let path = part.output.path(table.name());
                    let origin = recordings.origin(capture);
                    open = Some(part.output.writer(table, path, &origin, false)?);
                }
                last = Some(now);
            }
            if let Some(writer) = &mut open {
                writer.write(&rows.slice(run.start, run.len())).await?;
            }
        }
    }
    end(&mut open, last, table, parts).await
}

async fn end(
    open: &mut Option<pgtrace_ingest::derive::FileWriter>,
    of: Option<(u32, String)>,
    table: Table,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    if let (Some(writer), Some((part, _))) = (open.take(), of) {
        let file = writer.finish().await?;
        if let Some(part) = usize::try_from(part)
            .ok()
            .and_then(|n| parts.parts.get_mut(n))
        {
            parts.sharing.written(&mut part.output, table, file);
        }
    }
    Ok(())
}

/// Rows that belong to no process: one file a recording, which all its datasets have.
async fn in_common(
    source: &Source,
    recordings: &Recordings,
    table: Table,
    needed: &ByCapture,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    for (id, of) in needed {
        let kept = Kept {
            window: of.window,
            ..Kept::default()
        };
        let rules: Rules = [(id.clone(), kept)].into();
        let mut numbers = (0..parts.parts.len()).filter(|&n| {
            parts
                .parts
                .get(n)
                .is_some_and(|part| part.needs.iter().any(|of| *of.capture_id == **id))
        });
        let Some(first) = numbers.next() else {
            continue;
        };
        let others: Vec<usize> = numbers.collect();
        let Some(part) = parts.parts.get_mut(first) else {
            continue;
        };
        let path = part.output.path(table.name());
        let mut writer = part
            .output
            .writer(table, path, &recordings.origin(id), false)?;
        for file in source.dataset().manifest().files(table) {
            if !file.capture_id.is_empty() && file.capture_id != *id {
                continue;
            }
            let mut rows = source.rows(table, file, &all_columns(table))?;
            while let Some(batch) = rows.next().await {
                let batch = plain(table, &batch?)?;
                let batch = match table {
                    Table::Losses => {
                        rules::add_losses(&rules, &batch, &mut parts.lost)?;
                        batch
                    }
                    _ => filter_record_batch(&batch, &is_null(column(&batch, "upid")?)?)?,
                };
                let kept = rules::kept(&rules, table, &batch)?;
                writer.write(&filter_record_batch(&batch, &kept)?).await?;
            }
        }
        if writer.rows() == 0 {
            continue;
        }
        let file = writer.finish().await?;
        let from = part.output.dataset().clone();
        parts.sharing.written(&mut part.output, table, file.clone());
        for number in others {
            if let Some(part) = parts.parts.get_mut(number) {
                let path = part.output.path(table.name());
                parts
                    .sharing
                    .again(&from, table, &file, path, &mut part.output)
                    .await?;
            }
        }
    }
    Ok(())
}

/// `captures`, with the totals that hold in each dataset.
async fn captures(
    source: &Source,
    recordings: &Recordings,
    parts: &mut Parts<'_>,
) -> Result<(), DeriveError> {
    let mut rows: BTreeMap<String, RecordBatch> = BTreeMap::new();
    for file in source.dataset().manifest().files(Table::Captures) {
        let mut batches = source.rows(Table::Captures, file, &all_columns(Table::Captures))?;
        while let Some(batch) = batches.next().await {
            let batch = plain(Table::Captures, &batch?)?;
            let ids = texts(&batch, "capture_id")?;
            for row in 0..batch.num_rows() {
                rows.insert(ids.value(row).to_owned(), batch.slice(row, 1));
            }
        }
    }
    for part in &mut parts.parts {
        for of in &part.needs {
            let id = of.capture_id.to_string();
            let Some(row) = rows.get(&id) else {
                continue;
            };
            let totals = Of {
                rows: of.rows,
                cache_events: of.cache_events,
                ..Of::default()
            };
            let held = Held([(id.clone(), totals)].into());
            let lost = [(id.clone(), parts.lost.get(&id).copied().unwrap_or(0))].into();
            let path = part.output.path(Table::Captures.name());
            let mut writer =
                part.output
                    .writer(Table::Captures, path, &recordings.origin(&id), false)?;
            writer.write(&with_totals(row, &held, &lost)?).await?;
            let file = writer.finish().await?;
            parts
                .sharing
                .written(&mut part.output, Table::Captures, file);
        }
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    match batch.column_by_name(name) {
        Some(column) => Ok(column),
        None => internal_err!("no column {name}"),
    }
}

fn dealt_schema(table: Table) -> SchemaRef {
    let fields = table
        .arrow_schema()
        .fields()
        .iter()
        .cloned()
        .collect::<Vec<_>>();
    let numbers = [
        Field::new(PART, DataType::UInt32, false),
        Field::new(ROW, DataType::UInt64, false),
    ];
    let fields = fields.into_iter().chain(numbers.map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Rows of a table, each once for every dataset that needs it.
#[derive(Debug)]
struct Dealt {
    source: Source,
    table: Table,
    files: Vec<FileEntry>,
    needed: Arc<ByCapture>,
    schema: SchemaRef,
}

impl PartitionStream for Dealt {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (source, table, needed) = (self.source.clone(), self.table, Arc::clone(&self.needed));
        let schema = Arc::clone(&self.schema);
        let files = futures::stream::iter(self.files.clone());
        let batches = files
            .map(move |file| source.rows(table, &file, &all_columns(table)))
            .try_flatten();
        let mut row = 0u64;
        let dealt = batches.and_then(move |batch| {
            let first = row;
            row += batch.num_rows() as u64;
            let dealt = deal(table, &batch, first, &needed, &schema);
            std::future::ready(dealt.map(|d| futures::stream::iter(d.into_iter().map(Ok))))
        });
        let dealt = dealt.try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            dealt,
        ))
    }
}

/// The rows of a batch, each once for every dataset that needs it; `first`: the number of its first row.
fn deal(
    table: Table,
    batch: &RecordBatch,
    first: u64,
    needed: &ByCapture,
    schema: &SchemaRef,
) -> Result<Vec<RecordBatch>> {
    let ids = texts(batch, "capture_id")?;
    let numbers = |name: &str| {
        let column = batch.column_by_name(name);
        column.and_then(|c| c.as_primitive_opt::<UInt64Type>())
    };
    let (upids, objects) = (numbers("upid"), numbers("object_id"));
    let windows: Rules = match table {
        Table::Marks => needed
            .iter()
            .map(|(id, of)| {
                let kept = Kept {
                    window: of.window,
                    all_marks: true,
                    ..Kept::default()
                };
                (id.clone(), kept)
            })
            .collect(),
        _ => Rules::new(),
    };
    let in_time = match table {
        Table::Marks => Some(rules::kept(&windows, table, batch)?),
        _ => None,
    };
    let value = |column: Option<&UInt64Array>, row: usize| {
        column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
    };
    let (mut rows, mut parts) = (Vec::new(), Vec::new());
    let mut dealt = Vec::new();
    for (row, id) in ids.iter().enumerate() {
        if in_time.as_ref().is_some_and(|kept| !kept.value(row)) {
            continue;
        }
        let Some(of) = needed.get(id.unwrap_or_default()) else {
            continue;
        };
        let (upid, object) = (value(upids, row), value(objects, row));
        let by = |map: &HashMap<u64, Vec<u32>>, id: Option<u64>| -> Vec<u32> {
            id.and_then(|id| map.get(&id)).cloned().unwrap_or_default()
        };
        let to = match (table, upid, object) {
            (Table::Processes, ..) => by(&of.by_row, upid),
            (Table::Objects, ..) => by(&of.by_object, object),
            // Those of no process are in common.
            (_, None, _) => Vec::new(),
            (_, upid, None) => by(&of.by_process, upid),
            (_, upid, object) => both(&by(&of.by_process, upid), &by(&of.by_object, object)),
        };
        let number = u32::try_from(row).unwrap_or(u32::MAX);
        for part in to {
            rows.push(number);
            parts.push(part);
            if rows.len() >= DEAL {
                dealt.push(numbered(
                    batch,
                    std::mem::take(&mut rows),
                    std::mem::take(&mut parts),
                    first,
                    schema,
                )?);
            }
        }
    }
    if !rows.is_empty() {
        dealt.push(numbered(batch, rows, parts, first, schema)?);
    }
    Ok(dealt)
}

fn numbered(
    batch: &RecordBatch,
    rows: Vec<u32>,
    parts: Vec<u32>,
    first: u64,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let places = rows.iter().map(|row| first + u64::from(*row));
    let places = UInt64Array::from_iter_values(places);
    let taken = take_record_batch(batch, &UInt32Array::from(rows))?;
    let mut columns = taken.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from(parts)));
    columns.push(Arc::new(places));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// What stands in both of two lists that are in order.
fn both(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let there = |n: &&u32| long.binary_search(n).is_ok();
    short.iter().filter(there).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_have() {
        assert_eq!(both(&[1, 3, 5], &[0, 1, 2, 5, 9]), [1, 5]);
        assert_eq!(both(&[0, 1, 2], &[]), [0u32; 0]);
    }
}
