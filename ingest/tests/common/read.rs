//! A dataset read back by the parquet crate, column by column, into plain rows.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Int32Type, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::manifest::{FileEntry, Manifest};
use pgtrace_ingest::schema::Table;

/// A row of `refs`, all columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefRow {
    pub capture_id: String,
    pub seq: u64,
    pub ts: i64,
    pub cpu: u16,
    pub uid: u32,
    pub pid: u32,
    pub tid: u32,
    pub upid: u64,
    pub comm: Option<String>,
    pub path: Option<String>,
    pub object_kind: Option<String>,
    pub event: String,
    pub access: Option<String>,
    pub major: Option<bool>,
    pub addr: Option<u64>,
    pub ip: Option<u64>,
    pub object_id: u64,
    pub page: u64,
    pub page_order: u8,
}

pub fn manifest(dataset: &Path) -> Manifest {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = runtime.block_on(Dataset::open(dataset.to_str().unwrap()));
    opened.unwrap().manifest().clone()
}

/// The batches of one file.
pub fn file(dataset: &Path, entry: &FileEntry) -> Vec<RecordBatch> {
    let file = std::fs::File::open(dataset.join(&entry.path)).unwrap();
    assert_eq!(
        file.metadata().unwrap().len(),
        entry.bytes,
        "{}",
        entry.path
    );
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// All batches of a table, checked against its schema.
pub fn table(dataset: &Path, table: Table) -> Vec<RecordBatch> {
    let manifest = manifest(dataset);
    let files = manifest.files(table).iter();
    let batches: Vec<RecordBatch> = files.flat_map(|f| file(dataset, f)).collect();
    for batch in &batches {
        assert_eq!(batch.schema().fields(), table.arrow_schema().fields());
    }
    batches
}

/// All references, in order of `seq`.
pub fn refs(dataset: &Path) -> Vec<RefRow> {
    let mut rows: Vec<RefRow> = table(dataset, Table::Refs)
        .iter()
        .flat_map(rows_of)
        .collect();
    rows.sort_by(|a, b| (&a.capture_id, a.seq).cmp(&(&b.capture_id, b.seq)));
    rows
}

/// All rows of all tables, as text but for `refs`.
pub fn everything(dataset: &Path) -> (Vec<RefRow>, Vec<String>) {
    let others = Table::ALL.into_iter().filter(|t| *t != Table::Refs);
    let mut rows: Vec<String> = others.flat_map(|t| texts(dataset, t)).collect();
    rows.sort();
    (refs(dataset), rows)
}

/// The rows of a table as text.
pub fn texts(dataset: &Path, of: Table) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in table(dataset, of) {
        for i in 0..batch.num_rows() {
            let cells = batch
                .schema()
                .fields()
                .iter()
                .map(|f| {
                    let mut column = batch.column_by_name(f.name()).unwrap().clone();
                    if matches!(f.data_type(), DataType::Timestamp(..)) {
                        column = arrow::compute::cast(&column, &DataType::Int64).unwrap();
                    }
                    let column = arrow::util::display::array_value_to_string(&column, i);
                    format!("{}={}", f.name(), column.unwrap())
                })
                .collect::<Vec<_>>();
            rows.push(format!("{of}: {}", cells.join(" ")));
        }
    }
    rows
}

/// The rows of a batch of `refs`.
pub fn rows_of(batch: &RecordBatch) -> Vec<RefRow> {
    (0..batch.num_rows())
        .map(|i| RefRow {
            capture_id: text(batch, "capture_id", i).unwrap(),
            seq: number(batch, "seq", i).unwrap(),
            ts: time(batch, "ts", i).unwrap(),
            cpu: number(batch, "cpu", i).unwrap() as u16,
            uid: number(batch, "uid", i).unwrap() as u32,
            pid: number(batch, "pid", i).unwrap() as u32,
            tid: number(batch, "tid", i).unwrap() as u32,
            upid: number(batch, "upid", i).unwrap(),
            comm: text(batch, "comm", i),
            path: text(batch, "path", i),
            object_kind: text(batch, "object_kind", i),
            event: text(batch, "event", i).unwrap(),
            access: text(batch, "access", i),
            major: flag(batch, "major", i),
            addr: number(batch, "addr", i),
            ip: number(batch, "ip", i),
            object_id: number(batch, "object_id", i).unwrap(),
            page: number(batch, "page", i).unwrap(),
            page_order: number(batch, "page_order", i).unwrap() as u8,
        })
        .collect()
}

/// Losses as (cpu, count, cause, channel).
pub fn losses(dataset: &Path) -> Vec<(u64, Option<u64>, String, String)> {
    let row = |batch: &RecordBatch, i| {
        (
            number(batch, "cpu", i).unwrap(),
            number(batch, "count", i),
            text(batch, "cause", i).unwrap(),
            text(batch, "channel", i).unwrap(),
        )
    };
    table(dataset, Table::Losses)
        .iter()
        .flat_map(|b| (0..b.num_rows()).map(|i| row(b, i)).collect::<Vec<_>>())
        .collect()
}

/// Marks as they stand in their file: kind, and every column that is not null as `name=value`; times in ms since `zero_ns`.
pub fn marks(dataset: &Path, zero_ns: i64) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in table(dataset, Table::Marks) {
        for i in 0..batch.num_rows() {
            let mut row = text(&batch, "kind", i).unwrap();
            for field in batch.schema().fields() {
                let name = field.name();
                if name == "kind" || name == "capture_id" || cell(&batch, name, i).is_none() {
                    continue;
                }
                row += &match field.data_type() {
                    DataType::Timestamp(..) => {
                        let ns = time(&batch, name, i).unwrap() - zero_ns;
                        format!(" {name}={}", ns as f64 / 1e6)
                    }
                    DataType::Boolean => format!(" {name}={}", flag(&batch, name, i).unwrap()),
                    DataType::Dictionary(..) => {
                        format!(" {name}={}", text(&batch, name, i).unwrap())
                    }
                    _ => format!(" {name}={}", number(&batch, name, i).unwrap()),
                };
            }
            rows.push(row);
        }
    }
    rows
}

/// References lost, as far as counted; those given up on purpose are not.
pub fn lost_refs(dataset: &Path) -> u64 {
    let losses = losses(dataset);
    let refs = losses
        .iter()
        .filter(|l| l.3 == "refs" && l.2 != "overwritten");
    refs.filter_map(|l| l.1).sum()
}

fn cell<'a>(batch: &'a RecordBatch, name: &str, i: usize) -> Option<&'a dyn Array> {
    let column = batch.column_by_name(name).unwrap();
    (!column.is_null(i)).then_some(column.as_ref())
}

pub fn text(batch: &RecordBatch, name: &str, i: usize) -> Option<String> {
    let cell = cell(batch, name, i)?;
    Some(match cell.data_type() {
        DataType::Utf8 => cell.as_string::<i32>().value(i).into(),
        _ => {
            let dictionary = cell.as_dictionary::<Int32Type>();
            let key = dictionary.keys().value(i) as usize;
            dictionary.values().as_string::<i32>().value(key).into()
        }
    })
}

pub fn number(batch: &RecordBatch, name: &str, i: usize) -> Option<u64> {
    let cell = cell(batch, name, i)?;
    Some(match cell.data_type() {
        DataType::UInt8 => cell.as_primitive::<UInt8Type>().value(i).into(),
        DataType::UInt16 => cell.as_primitive::<UInt16Type>().value(i).into(),
        DataType::UInt32 => cell.as_primitive::<UInt32Type>().value(i).into(),
        _ => cell.as_primitive::<UInt64Type>().value(i),
    })
}

pub fn time(batch: &RecordBatch, name: &str, i: usize) -> Option<i64> {
    let cell = cell(batch, name, i)?;
    Some(cell.as_primitive::<TimestampNanosecondType>().value(i))
}

pub fn flag(batch: &RecordBatch, name: &str, i: usize) -> Option<bool> {
    Some(cell(batch, name, i)?.as_boolean().value(i))
}
