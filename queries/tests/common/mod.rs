//! Fabricates small datasets for tests: real Parquet, real manifest, rows from JSON.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::ReaderBuilder;
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use pgtrace_ingest::manifest::{
    CaptureEntry, FileEntry, Manifest, ObjectExtent, PartitionKey, Span,
};
use pgtrace_ingest::schema::Table;
use pgtrace_sql::session::{Options, Session};
use serde_json::{Map, Value, json};

/// A row as JSON: column name to value.
pub type Row = Map<String, Value>;

/// Start of all fabricated captures, ns since 1970.
pub const START: i64 = 1_700_000_000_000_000_000;

/// A row of `refs`: `given` and, for what it leaves out, something sensible. `ts` counts from [`START`].
pub fn reference(given: &Value) -> Row {
    let mut row = json!({
        "capture_id": "c1", "seq": 0, "cpu": 0, "uid": 1000, "pid": 100, "comm": "work", "path": null,
        "object_kind": "file", "event": "fault", "access": null, "major": null, "addr": 4096, "ip": null,
        "object_id": 1, "page": 0, "page_order": 0,
    });
    let row = row.as_object_mut().unwrap();
    row.extend(given.as_object().unwrap().clone());
    let seq = row["seq"].as_i64().unwrap();
    let ts = START + row.get("ts").map_or(seq * 1000, |ts| ts.as_i64().unwrap());
    row.insert("ts".into(), ts.into());
    let pid = row["pid"].clone();
    for same in ["tid", "upid"] {
        row.entry(same).or_insert(pid.clone());
    }
    row.clone()
}

/// Rows as a batch of `table`'s own types. Missing nullable columns are null.
pub fn batch(table: Table, rows: &[Row]) -> RecordBatch {
    let schema = table.arrow_schema();
    let plain = |t: &DataType| match t {
        DataType::Dictionary(_, value) => (**value).clone(),
        DataType::Timestamp(..) => DataType::Int64,
        other => other.clone(),
    };
    let fields = schema.fields().iter();
    let fields: Vec<Field> = fields
        .map(|f| Field::new(f.name(), plain(f.data_type()), f.is_nullable()))
        .collect();
    let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_batch_size(rows.len().max(1))
        .build_decoder()
        .unwrap();
    decoder.serialize(rows).unwrap();
    let Some(read) = decoder.flush().unwrap() else {
        return RecordBatch::new_empty(schema);
    };
    let columns = read.columns().iter().zip(schema.fields());
    let columns: Vec<ArrayRef> = columns
        .map(|(c, f)| cast(c, f.data_type()).unwrap())
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Writes a dataset to be opened.
pub struct Fabricator {
    root: PathBuf,
    manifest: Manifest,
    /// Rows of a row group.
    pub row_group: usize,
}

impl Fabricator {
    pub fn new(root: &Path) -> Self {
        fs::create_dir_all(root).unwrap();
        let layout = vec![PartitionKey::Uid, PartitionKey::Pid, PartitionKey::Slice];
        Fabricator {
            root: root.to_owned(),
            manifest: Manifest::new(layout, 1 << 24).next(),
            row_group: 1 << 20,
        }
    }

    /// Writes one file and names it in the manifest; its columns are those of the batches.
    pub fn file(&mut self, table: Table, path: &str, batches: &[RecordBatch], entry: FileEntry) {
        let full = self.root.join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(self.row_group))
            .build();
        let mut writer = ArrowWriter::try_new(
            File::create(&full).unwrap(),
            batches.first().map_or(table.arrow_schema(), |b| b.schema()),
            Some(properties),
        )
        .unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        writer.close().unwrap();
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let bytes = fs::metadata(&full).unwrap().len();
        let entry = FileEntry {
            path: path.into(),
            rows,
            bytes,
            ..entry
        };
        self.manifest.tables.entry(table).or_default().push(entry);
    }

    /// Writes `rows` of `refs`, a file for each capture, uid, pid and slice of `slice` rows.
    pub fn refs(&mut self, rows: &[Row], slice: u64) {
        let mut files: BTreeMap<(String, u64, u64, u64), Vec<Row>> = BTreeMap::new();
        for row in rows {
            let number = |name: &str| row[name].as_u64().unwrap();
            let key = (
                row["capture_id"].as_str().unwrap().to_owned(),
                number("uid"),
                number("pid"),
                number("seq") / slice,
            );
            files.entry(key).or_default().push(row.clone());
        }
        for ((capture, uid, pid, slice), mut rows) in files {
            rows.sort_by_key(|r| r["seq"].as_u64());
            let path = format!("refs/uid={uid}/pid={pid}/slice={slice:06}/{capture}-0.parquet");
            let entry = refs_entry(&capture, &rows);
            self.file(Table::Refs, &path, &[batch(Table::Refs, &rows)], entry);
        }
    }

    /// Writes a small table, a file for each capture.
    pub fn small(&mut self, table: Table, rows: &[Row]) {
        let captures: BTreeSet<&str> = rows
            .iter()
            .map(|r| r["capture_id"].as_str().unwrap())
            .collect();
        for capture in captures {
            let its = rows.iter().filter(|r| r["capture_id"] == capture);
            let its: Vec<Row> = its.cloned().collect();
            let path = format!("{table}/{capture}.parquet");
            self.file(table, &path, &[batch(table, &its)], plain_entry(capture));
        }
    }

    /// Adds a capture with what its `rows` imply about processes and objects, and `lost` references.
    pub fn captures(&mut self, rows: &[Row], lost: u64) {
        let mut by_capture: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            by_capture
                .entry(row["capture_id"].as_str().unwrap().to_owned())
                .or_default()
                .push(row);
        }
        let cache_event = |row: &&&Row| row["event"] == "insert" || row["event"] == "evict";
        let mut captures = Vec::new();
        let (mut processes, mut objects, mut losses) = (Vec::new(), Vec::new(), Vec::new());
        for (id, rows) in by_capture {
            let times = || rows.iter().map(|r| r["ts"].as_i64().unwrap());
            let (start, end) = (times().min().unwrap(), times().max().unwrap());
            captures.push(object(json!({
                "capture_id": id, "boot_id": "b1", "kernel": "6.12.0", "page_size": 4096, "cpus": 1,
                "level": "full", "settings": "{}", "start_ts": start, "end_ts": end,
                "refs": rows.len(), "cache_events": rows.iter().filter(cache_event).count(), "lost": lost, "chunks": 1, "raw_bytes": 64 * rows.len(),
                "clock_monotonic_ns": 0, "clock_utc_ns": START,
            })));
            let mut seen = BTreeSet::new();
            for row in &rows {
                if seen.insert(("process", row["upid"].to_string())) {
                    processes.push(object(json!({
                        "capture_id": id, "upid": row["upid"], "pid": row["pid"], "ppid": 1,
                        "uid": row["uid"], "comm": row["comm"], "start_ts": start,
                    })));
                }
                if seen.insert(("object", row["object_id"].to_string())) {
                    objects.push(object(json!({
                        "capture_id": id, "object_id": row["object_id"], "object_kind": row["object_kind"],
                        "path": row["path"], "deleted": false, "path_truncated": false,
                        "pid": row["pid"], "upid": row["upid"],
                    })));
                }
            }
            if lost > 0 {
                losses.push(object(json!({
                    "capture_id": id, "cpu": 0, "from_ts": start, "to_ts": end, "count": lost,
                    "cause": "buffer_full", "channel": "refs",
                })));
            }
            let refs = rows.len() as u64;
            self.manifest.captures.push(CaptureEntry {
                capture_id: id,
                chunks: vec![],
                refs,
                lost,
                state: None,
                offsets: Default::default(),
            });
        }
        self.small(Table::Captures, &captures);
        self.small(Table::Processes, &processes);
        self.small(Table::Objects, &objects);
        if !losses.is_empty() {
            self.small(Table::Losses, &losses);
        }
    }

    /// Takes back what was written of a table.
    pub fn forget(&mut self, table: Table) {
        for file in self.manifest.tables.remove(&table).unwrap_or_default() {
            fs::remove_file(self.root.join(file.path)).unwrap();
        }
    }

    /// Says how many references a slice has.
    pub fn slice_rows(&mut self, rows: u64) {
        self.manifest.slice_rows = rows;
    }

    /// Names a capture in the manifest.
    pub fn capture(&mut self, entry: CaptureEntry) {
        self.manifest.captures.push(entry);
    }

    /// Commits what was written.
    pub fn commit(self) {
        let folder = self.root.join("_pgtrace/manifest");
        fs::create_dir_all(&folder).unwrap();
        let name = Manifest::file_name(self.manifest.version);
        fs::write(folder.join(name), self.manifest.to_json().unwrap()).unwrap();
    }
}

fn object(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

/// What the manifest says of a file apart from path and size, when it says little.
pub fn plain_entry(capture: &str) -> FileEntry {
    FileEntry {
        capture_id: capture.into(),
        ..FileEntry::at(String::new())
    }
}

fn refs_entry(capture: &str, rows: &[Row]) -> FileEntry {
    fn span<T: Copy + Ord>(mut values: impl Iterator<Item = T>) -> Option<Span<T>> {
        let mut span = Span::of(values.next()?);
        values.for_each(|v| span.include(v));
        Some(span)
    }
    let u64s = |name: &'static str| rows.iter().map(move |r| r[name].as_u64().unwrap());
    let u32s = |name: &'static str| u64s(name).map(|v| u32::try_from(v).unwrap());
    let mut objects: BTreeMap<u64, Span<u64>> = BTreeMap::new();
    for (object, page) in u64s("object_id").zip(u64s("page")) {
        objects
            .entry(object)
            .or_insert(Span::of(page))
            .include(page);
    }
    let events: BTreeSet<&str> = rows.iter().map(|r| r["event"].as_str().unwrap()).collect();
    let extent = |(object_id, pages): (u64, Span<u64>)| ObjectExtent {
        object_id,
        min_page: pages.min,
        max_page: pages.max,
    };
    FileEntry {
        seq: span(u64s("seq")),
        ts: span(rows.iter().map(|r| r["ts"].as_i64().unwrap())),
        uid: span(u32s("uid")),
        pid: span(u32s("pid")),
        objects: objects.into_iter().map(extent).collect(),
        events: events.into_iter().map(str::to_owned).collect(),
        ..plain_entry(capture)
    }
}

/// A dataset with these rows of `refs` and all they imply.
pub fn dataset(root: &Path, rows: &[Row], lost: u64) {
    let mut made = Fabricator::new(root);
    made.refs(rows, 1 << 24);
    made.captures(rows, lost);
    made.commit();
}

/// Rows of `refs` from CSV: a header with column names, empty fields are null.
pub fn rows_from_csv(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let value = |field: &str| match field.parse::<u64>() {
        Ok(number) => Value::from(number),
        Err(_) if field.is_empty() => Value::Null,
        Err(_) => Value::from(field),
    };
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(
            fields.len(),
            header.len(),
            "{line:?} has another number of fields than the header"
        );
        let row: Row = header
            .iter()
            .zip(fields)
            .map(|(name, f)| ((*name).to_owned(), value(f)))
            .collect();
        reference(&Value::Object(row))
    };
    lines.map(row).collect()
}

pub async fn open(root: &Path) -> Session {
    open_with(root, &Options::default()).await
}

pub async fn open_with(root: &Path, options: &Options) -> Session {
    Session::open(root.to_str().unwrap(), options)
        .await
        .unwrap()
}

/// All batches of a statement's result.
pub async fn batches(session: &Session, sql: &str) -> Vec<RecordBatch> {
    let stream = session
        .query(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}\n{e}"));
    stream
        .try_collect()
        .await
        .unwrap_or_else(|e| panic!("{sql}\n{e}"))
}

/// All rows of a statement's result as text; null is `NULL`.
pub async fn rows(session: &Session, sql: &str) -> Vec<Vec<String>> {
    text_rows(&batches(session, sql).await)
}

pub fn text_rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
            .collect();
        for i in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(i).to_string()).collect());
        }
    }
    rows
}

/// A column of numbers, whatever their type; null is NaN.
pub fn numbers(batches: &[RecordBatch], column: &str) -> Vec<f64> {
    let mut all = Vec::new();
    for batch in batches {
        let column = cast(batch.column_by_name(column).unwrap(), &DataType::Float64).unwrap();
        let column = column
            .as_any()
            .downcast_ref::<arrow::array::Float64Array>()
            .unwrap()
            .clone();
        all.extend((0..column.len()).map(|i| {
            if column.is_null(i) {
                f64::NAN
            } else {
                column.value(i)
            }
        }));
    }
    all
}

/// The binary under test.
pub fn pgtrace_sql() -> assert_cmd::Command {
    assert_cmd::Command::new(env!("CARGO_BIN_EXE_pgtrace-sql"))
}
