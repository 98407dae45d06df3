//! One Parquet file, by itself: what its footer, the manifest and its folder say of it, held against its rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, DictionaryArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Fields, Int32Type, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use futures::StreamExt;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use pgtrace_capture::units::show_count;
use tokio::runtime::Handle;

use super::small::Facts;
use crate::compact::read::Reader as StoredFile;
use crate::dataset::Dataset;
use crate::guard::guarded;
use crate::manifest::{FileEntry, Manifest, PartitionKey, Span};
use crate::older;
use crate::schema::{ADDED, Column, SCHEMA_VERSION, Table};
use crate::verify::report::Rule;

/// A file's footer, read.
pub(super) type Opened = ParquetRecordBatchStreamBuilder<StoredFile>;

/// Rows and page-cache events that were found of a capture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rows {
    pub(super) refs: u64,
    pub(super) cache_events: u64,
}

/// The rules that one file can break by itself.
pub(super) struct FileRules {
    pub(super) footers: Rule,
    pub(super) sorted: Rule,
    pub(super) ranges: Rule,
    pub(super) folders: Rule,
    pub(super) names: Rule,
    rows: BTreeMap<String, Rows>,
    nameless: u64,
}

impl FileRules {
    pub(super) fn new() -> Self {
        Self {
            footers: Rule::new(
                "files",
                "files, each readable, with the columns, capture and rows it should have",
            ),
            sorted: Rule::new("sorted", "rows of refs, in order of seq in their file"),
            ranges: Rule::new(
                "ranges",
                "rows of refs, within what the manifest says of their file",
            ),
            folders: Rule::new(
                "folders",
                "rows of refs, in the folder of their uid, pid or slice",
            ),
            names: Rule::new(
                "names",
                "rows of refs, whose object and process have a row each",
            ),
            rows: BTreeMap::new(),
            nameless: 0,
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.footers.merge(other.footers);
        self.sorted.merge(other.sorted);
        self.ranges.merge(other.ranges);
        self.folders.merge(other.folders);
        self.names.merge(other.names);
        self.nameless += other.nameless;
        for (capture, rows) in other.rows {
            let sum = self.rows.entry(capture).or_default();
            sum.refs += rows.refs;
            sum.cache_events += rows.cache_events;
        }
    }

    /// Tells what was counted in all files.
    pub(super) fn tell(&mut self) {
        if self.nameless > 0 {
            let count = show_count(self.nameless);
            self.names
                .note(format!("{count} rows have no name: names were lost"));
        }
    }

    pub(super) fn rows(&self, capture_id: &str) -> Rows {
        self.rows.get(capture_id).copied().unwrap_or_default()
    }
}

/// Reads files of a dataset, from any thread that is none of the runtime's.
pub(super) struct Reader<'a> {
    dataset: &'a Dataset,
    runtime: Handle,
}

impl<'a> Reader<'a> {
    pub(super) fn new(dataset: &'a Dataset, runtime: Handle) -> Self {
        Self { dataset, runtime }
    }

    /// Reads a file's footer, and gives the file to `read`. The text says why it cannot be read: the library may even
    /// give up altogether on bytes that are not Parquet.
    pub(super) fn with<T>(
        &self,
        file: &FileEntry,
        read: impl AsyncFnOnce(Opened) -> Result<T, String>,
    ) -> Result<T, String> {
        let object = StoredFile::of(self.dataset, file);
        let work = async {
            let opened = Opened::new(object).await.map_err(text)?;
            read(opened).await
        };
        guarded(|| self.runtime.block_on(work))
    }

    /// Checks a file of `refs`.
    pub(super) fn refs(
        &self,
        file: &FileEntry,
        manifest: &Manifest,
        facts: Option<&Facts>,
    ) -> FileRules {
        let mut rules = FileRules::new();
        let mut check = RefsCheck::new(file, manifest, facts, &mut rules);
        // Files that two datasets share say what the whole recording lost.
        let lost = facts
            .and_then(|f| f.lost)
            .filter(|_| manifest.derived.is_none());
        let read = self.each_batch(Table::Refs, file, lost, |batch| check.batch(batch));
        check.finish(read);
        rules
    }

    /// Reads all batches of a file whose footer is as it should be; gives what is wrong with it.
    pub(super) fn each_batch(
        &self,
        table: Table,
        file: &FileEntry,
        lost: Option<u64>,
        mut see: impl FnMut(&RecordBatch) -> Result<(), String>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let read = self.with(file, async |opened| {
            let (version, told) = footer(table, file, lost, &opened);
            wrong.extend(told);
            if !has_columns(table, opened.schema().fields(), version) {
                return Err(format!("expected the columns of {table}, found others"));
            }
            let mut batches = opened.build().map_err(text)?;
            let mut rows = 0;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(text)?;
                rows += batch.num_rows() as u64;
                let several = may_be_of_several(table, file);
                let other = other_text(&batch, "capture_id", &file.capture_id)?;
                if let Some(other) = other.filter(|_| !several) {
                    return Err(format!(
                        "expected rows of capture {}, found one of {other}",
                        file.capture_id
                    ));
                }
                see(&older::adapt(table, &batch).map_err(|e| e.to_string())?)?;
            }
            match rows == file.rows {
                true => Ok(()),
                false => Err(format!("expected {} rows, found {rows}", file.rows)),
            }
        });
        wrong.extend(read.err());
        wrong
    }
}

pub(super) fn text(e: ParquetError) -> String {
    e.to_string()
}

/// Whether the rows of a file need not be of one capture: `compact` merged it.
pub(super) fn may_be_of_several(table: Table, file: &FileEntry) -> bool {
    file.capture_id.is_empty() && table != Table::Refs
}

/// Whether a file of that schema version has the columns it should have: today's, less those that came later.
fn has_columns(table: Table, found: &Fields, version: u32) -> bool {
    let today = table.arrow_schema();
    let older = version < SCHEMA_VERSION;
    let lacks = |c: &&Column| found.find(c.name).is_none();
    let came_later = |c: &Column| {
        let mut added = ADDED
            .iter()
            .filter(|a| (a.table, a.column) == (table, c.name));
        added.any(|a| version <= a.since) || older && c.nullable
    };
    let known = |f: &Arc<Field>| match today.fields().find(f.name()) {
        Some((_, today)) => older || today == f,
        None => false,
    };
    table.columns().iter().filter(lacks).all(came_later) && found.iter().all(known)
}

/// The schema version a footer tells, and what it says that it should not.
fn footer(
    table: Table,
    file: &FileEntry,
    lost: Option<u64>,
    opened: &Opened,
) -> (u32, Vec<String>) {
    let metadata = opened.metadata().file_metadata();
    let mut wrong = Vec::new();
    if metadata.num_rows() != i64::try_from(file.rows).unwrap_or(-1) {
        let found = metadata.num_rows();
        wrong.push(format!(
            "expected {} rows, its footer says {found}",
            file.rows
        ));
    }
    let pairs = metadata.key_value_metadata().map_or(&[][..], |v| v);
    let mut expect = |key: &str, expected: String| {
        let found = pairs.iter().find(|p| p.key == key);
        let found = found.and_then(|p| p.value.as_deref()).unwrap_or("nothing");
        if found != expected {
            wrong.push(format!(
                "{key}: expected {expected} in the footer, found {found}"
            ));
        }
    };
    if !may_be_of_several(table, file) {
        expect("pgtrace.capture_id", file.capture_id.clone());
    }
    if let (Some(lost), true) = (lost, table == Table::Refs) {
        expect("pgtrace.lost", lost.to_string());
    }
    let version = pairs.iter().find(|p| p.key == "pgtrace.schema_version");
    let version = version.and_then(|p| p.value.as_deref());
    let known = version.and_then(|v| v.parse().ok());
    let known = known.filter(|v| (1..=SCHEMA_VERSION).contains(v));
    if known.is_none() {
        let found = version.unwrap_or("nothing");
        wrong.push(format!(
            "pgtrace.schema_version: expected {SCHEMA_VERSION} in the footer, found {found}"
        ));
    }
    (known.unwrap_or(SCHEMA_VERSION), wrong)
}

/// The values of a column that is there, of that type, without nulls: the schema was checked.
pub(super) fn values<'b, T: ArrowPrimitiveType>(
    batch: &'b RecordBatch,
    name: &str,
) -> Result<&'b PrimitiveArray<T>, String> {
    let column = batch.column_by_name(name);
    column
        .and_then(|c| c.as_primitive_opt::<T>())
        .ok_or_else(|| format!("no column {name} of the expected type"))
}

pub(super) fn dictionary<'b>(
    batch: &'b RecordBatch,
    name: &str,
) -> Result<&'b DictionaryArray<Int32Type>, String> {
    let column = batch.column_by_name(name);
    column
        .and_then(|c| c.as_dictionary_opt::<Int32Type>())
        .ok_or_else(|| format!("no column {name} of the expected type"))
}

/// Of a dictionary's texts, those that `wanted` wants, by key.
pub(super) fn wanted(
    dictionary: &DictionaryArray<Int32Type>,
    wanted: impl Fn(&str) -> bool,
) -> Vec<bool> {
    let texts = dictionary.values().as_string_opt::<i32>();
    texts.map_or_else(Vec::new, |texts| {
        texts.iter().map(|t| t.is_some_and(&wanted)).collect()
    })
}

/// A row's text that is not `expected`.
fn other_text(batch: &RecordBatch, name: &str, expected: &str) -> Result<Option<String>, String> {
    let column = dictionary(batch, name)?;
    let good = wanted(column, |t| t == expected);
    let is_good = |key: Option<i32>| {
        let key = key.and_then(|k| usize::try_from(k).ok());
        key.and_then(|k| good.get(k)).copied().unwrap_or(false)
    };
    let bad = column.keys().iter().find(|key| !is_good(*key));
    Ok(bad.map(|key| {
        let texts = column.values().as_string_opt::<i32>();
        let key = key.and_then(|k| usize::try_from(k).ok());
        let text = key.and_then(|k| {
            texts
                .filter(|t| k < t.len())
                .map(|t| t.value(k).to_string())
        });
        text.unwrap_or_else(|| "nothing".into())
    }))
}

/// The rows of one file of `refs`, one after the other.
struct RefsCheck<'a> {
    file: &'a FileEntry,
    rules: &'a mut FileRules,
    facts: Option<&'a Facts>,
    slice_rows: u64,
    /// What the folders say each row's key is.
    keys: Vec<(PartitionKey, u64)>,
    extents: HashMap<u64, Span<u64>>,
    last_extent: Option<(u64, Span<u64>)>,
    last_seq: Option<u64>,
    rows: Rows,
}

impl<'a> RefsCheck<'a> {
    fn new(
        file: &'a FileEntry,
        manifest: &Manifest,
        facts: Option<&'a Facts>,
        rules: &'a mut FileRules,
    ) -> Self {
        let keys = folder_keys(file, manifest);
        if let Err(wrong) = &keys {
            rules
                .folders
                .violation(|| format!("{}: {wrong}", file.path));
        }
        let extents = file.objects.iter().map(|o| {
            let span = Span {
                min: o.min_page,
                max: o.max_page,
            };
            (o.object_id, span)
        });
        Self {
            file,
            rules,
            facts,
            slice_rows: manifest.slice_rows.max(1),
            keys: keys.unwrap_or_default(),
            extents: extents.collect(),
            last_extent: None,
            last_seq: None,
            rows: Rows::default(),
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let seq = values::<UInt64Type>(batch, "seq")?.values();
        let ts = values::<TimestampNanosecondType>(batch, "ts")?.values();
        let uid = values::<UInt32Type>(batch, "uid")?.values();
        let pid = values::<UInt32Type>(batch, "pid")?.values();
        let upid = values::<UInt64Type>(batch, "upid")?.values();
        let object = values::<UInt64Type>(batch, "object_id")?.values();
        let page = values::<UInt64Type>(batch, "page")?.values();
        let events = dictionary(batch, "event")?;
        let cache = wanted(events, |e| e == "insert" || e == "evict");
        self.events(events);
        let is_cache =
            |key: &i32| usize::try_from(*key).ok().and_then(|k| cache.get(k)) == Some(&true);
        self.rows.refs += batch.num_rows() as u64;
        self.rows.cache_events += events
            .keys()
            .values()
            .iter()
            .filter(|k| is_cache(k))
            .count() as u64;

        let columns = seq
            .iter()
            .zip(ts)
            .zip(uid)
            .zip(pid)
            .zip(upid)
            .zip(object)
            .zip(page);
        for ((((((&seq, &ts), &uid), &pid), &upid), &object), &page) in columns {
            self.order(seq);
            self.range(seq, ts, uid, pid);
            self.extent(seq, object, page);
            self.folder(seq, uid, pid);
            self.name(seq, pid, upid, object);
        }
        Ok(())
    }

    fn order(&mut self, seq: u64) {
        self.rules.sorted.check(1);
        if let Some(last) = self.last_seq.filter(|last| *last >= seq) {
            let path = &self.file.path;
            self.rules
                .sorted
                .violation(|| format!("{path}: seq {seq} stands behind seq {last}"));
        }
        self.last_seq = Some(seq);
    }

    fn range(&mut self, seq: u64, ts: i64, uid: u32, pid: u32) {
        let f = self.file;
        let rule = &mut self.rules.ranges;
        rule.check(1);
        let mut hold = |name: &str, inside: Option<bool>, value: String| {
            if inside == Some(false) {
                let path = &f.path;
                rule.violation(|| {
                    format!("{path}: seq {seq}: {name} {value} is out of the range of its file")
                });
            }
        };
        hold("seq", f.seq.map(|s| s.contains(seq)), String::new());
        hold("ts", f.ts.map(|s| s.contains(ts)), format_if(f.ts, ts));
        hold("uid", f.uid.map(|s| s.contains(uid)), format_if(f.uid, uid));
        hold("pid", f.pid.map(|s| s.contains(pid)), format_if(f.pid, pid));
    }

    fn extent(&mut self, seq: u64, object: u64, page: u64) {
        // Not recorded, or references to one object in a row.
        if self.extents.is_empty() {
            return;
        }
        let span = match self.last_extent {
            Some((last, span)) if last == object => Some(span),
            _ => self.extents.get(&object).copied(),
        };
        self.last_extent = span.map(|span| (object, span));
        if !span.is_some_and(|span| span.contains(page)) {
            let path = &self.file.path;
            self.rules.ranges.violation(|| {
                format!("{path}: seq {seq}: page {page} of object {object} is not among the pages of its file")
            });
        }
    }

    fn events(&mut self, events: &DictionaryArray<Int32Type>) {
        let (file, texts) = (self.file, events.values().as_string_opt::<i32>());
        if file.events.is_empty() {
            return; // not recorded
        }
        let used = events.occupancy();
        for (text, _) in texts
            .into_iter()
            .flatten()
            .zip(&used)
            .filter(|(_, used)| *used)
        {
            self.rules.ranges.check(1);
            if !file.events.iter().any(|known| Some(known.as_str()) == text) {
                self.rules.ranges.violation(|| {
                    let (path, found) = (&file.path, text.unwrap_or("null"));
                    format!("{path}: event {found} is not among the events of its file")
                });
            }
        }
    }

    fn folder(&mut self, seq: u64, uid: u32, pid: u32) {
        self.rules.folders.check(1);
        for &(key, expected) in &self.keys {
            let found = match key {
                PartitionKey::Uid => u64::from(uid),
                PartitionKey::Pid => u64::from(pid),
                PartitionKey::Slice => seq / self.slice_rows,
            };
            if found != expected {
                let (path, name) = (&self.file.path, key.name());
                self.rules.folders.violation(|| {
                    format!("{path}: seq {seq}: expected {name} {expected}, found {found}")
                });
            }
        }
    }

    fn name(&mut self, seq: u64, pid: u32, upid: u64, object: u64) {
        self.rules.names.check(1);
        let Some(facts) = self.facts else { return };
        let known_object = facts.objects.contains(&object);
        // Pid 0 is nobody who was traced.
        if known_object && (pid == 0 || facts.processes.contains(&upid)) {
            return;
        }
        if facts.names_lost() {
            self.rules.nameless += 1;
            return;
        }
        let path = &self.file.path;
        self.rules.names.violation(|| {
            let what = match known_object {
                false => format!("object {object} is not in objects"),
                true => format!("process {upid} (pid {pid}) is not in processes"),
            };
            format!("{path}: seq {seq}: {what}")
        });
    }

    fn finish(self, wrong: Vec<String>) {
        let Self {
            file, rules, rows, ..
        } = self;
        rules.footers.check(1);
        for wrong in wrong {
            rules
                .footers
                .violation(|| format!("{}: {wrong}", file.path));
        }
        rules.rows.insert(file.capture_id.clone(), rows);
    }
}

/// A value with the range it should lie in.
fn format_if<T: std::fmt::Display + Copy + Ord>(span: Option<Span<T>>, value: T) -> String {
    match span {
        Some(span) if !span.contains(value) => {
            format!("{value} ({} to {})", span.min, span.max)
        }
        _ => String::new(),
    }
}

/// The keys that a file's folders name, in the order of the layout.
fn folder_keys(file: &FileEntry, manifest: &Manifest) -> Result<Vec<(PartitionKey, u64)>, String> {
    let parts: Vec<&str> = file.path.split('/').collect();
    let folders = parts
        .get(1..parts.len().saturating_sub(1))
        .unwrap_or_default();
    let layout = &manifest.partition_by;
    let key = |(key, folder): (&PartitionKey, &&str)| {
        let value = folder
            .strip_prefix(key.name())
            .and_then(|v| v.strip_prefix('='));
        let value = value.and_then(|v| v.parse::<u64>().ok());
        value
            .map(|value| (*key, value))
            .ok_or_else(|| format!("expected a folder {}=NUMBER, found {folder:?}", key.name()))
    };
    if folders.len() != layout.len() {
        return Err(format!(
            "expected {} folders below refs, found {}",
            layout.len(),
            folders.len()
        ));
    }
    layout.iter().zip(folders).map(key).collect()
}
