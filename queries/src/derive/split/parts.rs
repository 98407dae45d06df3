//! The datasets that are being made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::derive::{FileWriter, Output, Place};
use pgtrace_ingest::manifest::{Derived, FileEntry, Manifest};
use pgtrace_ingest::schema::Table;
use serde_json::{Map, Value};

use super::super::filter::Filter;
use super::super::held::{Held, Needs};
use super::super::recordings::Recordings;
use super::super::refs::learn;
use super::super::report::Report;
use super::super::source::Source;
use super::super::{DeriveError, Options, Sharing};
use super::key::{Key, Keys};

/// Name of the list of all datasets, a line each.
pub(super) const LIST: &str = "parts.ndjson";

/// One of the datasets.
pub(super) struct Part {
    key: Key,
    folder: String,
    pub(super) output: Output,
    /// What its rows need, once all are there.
    pub(super) needs: Box<[Needs]>,
}

/// A file that is being written.
struct Open {
    capture_id: String,
    writer: FileWriter,
}

/// All of them.
pub(super) struct Parts<'a> {
    from: &'a Arc<Dataset>,
    keys: &'a Keys,
    filter: &'a Filter,
    command: &'static str,
    max: u64,
    pub(super) parts: Vec<Part>,
    pub(super) lost: std::collections::BTreeMap<String, u64>,
    pub(super) sharing: Sharing,
    /// Files of one key, that are shared.
    files: HashMap<Key, Vec<FileEntry>>,
    open: Option<Open>,
    /// What the rows of the last one need.
    held: Held,
    ids: BTreeSet<Arc<str>>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        from: &'a Arc<Dataset>,
        keys: &'a Keys,
        filter: &'a Filter,
        max: u64,
        options: &Options,
    ) -> Self {
        Self {
            from,
            keys,
            filter,
            command: options.command,
            max,
            parts: Vec::new(),
            lost: Default::default(),
            sharing: Sharing {
                copy: options.copy,
                report: Report::default(),
            },
            files: HashMap::new(),
            open: None,
            held: Held::default(),
            ids: BTreeSet::new(),
        }
    }

    /// A file whose rows are all of one key.
    pub(super) fn have(&mut self, key: Key, file: FileEntry) -> Result<(), DeriveError> {
        self.files.entry(key).or_default().push(file);
        self.not_too_many(self.files.len())
    }

    fn not_too_many(&self, parts: usize) -> Result<(), DeriveError> {
        match parts as u64 > self.max {
            true => Err(DeriveError::TooMany {
                by: self.keys.by().into(),
                max: self.max,
            }),
            false => Ok(()),
        }
    }

    fn begin(&mut self, key: Key, layout: Manifest, place: &Place) -> Result<(), DeriveError> {
        self.not_too_many(self.parts.len() + 1)?;
        let folder = self.keys.folder(&key);
        let output = place.output(Some(&folder), layout)?;
        self.parts.push(Part {
            key,
            folder,
            output,
            needs: Box::default(),
        });
        Ok(())
    }

    /// Appends rows of one key and one capture; keys come in order, each once, and so do its captures.
    pub(super) async fn write(
        &mut self,
        key: Key,
        capture_id: &str,
        rows: &RecordBatch,
        source: &Source,
        recordings: &Recordings,
        place: &Place,
    ) -> Result<(), DeriveError> {
        if self.parts.last().is_none_or(|part| part.key != key) {
            self.end_part(source, recordings).await?;
            // Rows of a key are few as a rule: no folders.
            let layout = Manifest::new(Vec::new(), self.from.manifest().slice_rows);
            self.begin(key, layout, place)?;
        }
        let full = |open: &Open| open.writer.rows() >= self.from.manifest().slice_rows;
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.capture_id != capture_id || full(open))
        {
            self.close().await?;
            self.open(capture_id, recordings)?;
        }
        if let Some(open) = &mut self.open {
            open.writer.write(rows).await?;
            let of = self.held.of(capture_id);
            of.rows += rows.num_rows() as u64;
            of.learn(rows)?;
        }
        Ok(())
    }

    fn open(&mut self, capture_id: &str, recordings: &Recordings) -> Result<(), DeriveError> {
        if let Some(part) = self.parts.last_mut() {
            let path = part.output.path(Table::Refs.name());
            let origin = recordings.origin(capture_id);
            self.open = Some(Open {
                capture_id: capture_id.into(),
                writer: part.output.writer(Table::Refs, path, &origin, false)?,
            });
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), DeriveError> {
        if let (Some(open), Some(part)) = (self.open.take(), self.parts.last_mut()) {
            let file = open.writer.finish().await?;
            self.sharing.written(&mut part.output, Table::Refs, file);
        }
        Ok(())
    }

    /// All rows of a key have come: the files of the same key join them.
    pub(super) async fn end_part(
        &mut self,
        source: &Source,
        recordings: &Recordings,
    ) -> Result<(), DeriveError> {
        self.close().await?;
        if let Some(part) = self.parts.last_mut() {
            for file in self.files.remove(&part.key).unwrap_or_default() {
                let path = part.output.path(Table::Refs.name());
                add(
                    source,
                    recordings,
                    part,
                    &mut self.held,
                    &mut self.sharing,
                    file,
                    path,
                )
                .await?;
            }
            part.needs = self.held.needs(&mut self.ids);
            self.held = Held::default();
        }
        Ok(())
    }

    /// The datasets of which no row was written: their files keep their folders.
    pub(super) async fn of_shared_files_only(
        &mut self,
        source: &Source,
        recordings: &Recordings,
        place: &Place,
    ) -> Result<(), DeriveError> {
        let mut files: Vec<_> = std::mem::take(&mut self.files).into_iter().collect();
        // Where a key stands does not depend on chance.
        files.sort_by(|(_, a), (_, b)| {
            let first = |files: &[FileEntry]| files.first().map(|f| f.path.clone());
            first(a).cmp(&first(b))
        });
        for (key, files) in files {
            let old = self.from.manifest();
            let layout = Manifest::new(old.partition_by.clone(), old.slice_rows);
            self.begin(key, layout, place)?;
            if let Some(part) = self.parts.last_mut() {
                for file in files {
                    let path = file.path.clone();
                    add(
                        source,
                        recordings,
                        part,
                        &mut self.held,
                        &mut self.sharing,
                        file,
                        path,
                    )
                    .await?;
                }
            }
            self.end_part(source, recordings).await?;
        }
        Ok(())
    }

    /// Ends all datasets, and writes the list of them.
    pub(super) async fn commit(mut self, place: &mut Place) -> Result<Report, DeriveError> {
        let mut list = Vec::new();
        let mut report = self.sharing.report;
        for part in std::mem::take(&mut self.parts) {
            let Part {
                key,
                folder,
                mut output,
                needs,
            } = part;
            let (mut rows, mut lost) = (0, 0);
            for of in &needs {
                let of_capture = self.lost.get(&*of.capture_id).copied().unwrap_or(0);
                output.capture(&of.capture_id, of.rows, of_capture);
                rows += of.rows;
                lost += of_capture;
            }
            let words = self
                .keys
                .titles()
                .zip(&key.0)
                .map(|(name, value)| format!("{name} = {value}"));
            output.derived(Derived {
                command: self.command.into(),
                rows: format!(
                    "{}, {}",
                    words.collect::<Vec<_>>().join(", "),
                    self.filter.words()
                ),
            });
            place.commit(output).await?;
            report.datasets += 1;
            report.rows += rows;
            let mut line = Map::new();
            for (name, value) in self.keys.titles().zip(&key.0) {
                line.insert(name.into(), json(value));
            }
            line.insert("folder".into(), folder.into());
            line.insert("rows".into(), rows.into());
            line.insert("lost".into(), lost.into());
            list.extend_from_slice(Value::Object(line).to_string().as_bytes());
            list.push(b'\n');
        }
        report.lost = self.lost.values().sum();
        place.write(LIST, &list)?;
        Ok(report)
    }
}

/// A value as JSON: numbers and truth as such, nothing as null, all others as text.
fn json(value: &ScalarValue) -> Value {
    let text = value.to_string();
    match value.data_type() {
        _ if value.is_null() => Value::Null,
        t if t.is_numeric() || t == arrow::datatypes::DataType::Boolean => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        _ => Value::String(text),
    }
}

async fn add(
    source: &Source,
    recordings: &Recordings,
    part: &mut Part,
    held: &mut Held,
    sharing: &mut Sharing,
    file: FileEntry,
    path: String,
) -> Result<(), DeriveError> {
    let of = learn(source, recordings.of(&file.capture_id), &file).await?;
    held.merge(Held([(file.capture_id.clone(), of)].into()));
    sharing
        .share_at(source.dataset(), Table::Refs, &file, path, &mut part.output)
        .await
}
