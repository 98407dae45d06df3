//! The tables besides `refs`: checked as files, and read for what they say of `refs`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, UInt32Type, UInt64Type};
use pgtrace_capture::chunk::Settings;

use super::file::{FileRules, Reader, Rows, dictionary, may_be_of_several, values, wanted};
use crate::losses::OVERWRITTEN;
use crate::manifest::{CaptureEntry, FileEntry};
use crate::schema::Table;
use crate::source::kind;
use crate::verify::report::Rule;

/// What the small tables say of a capture.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Rows of `captures`.
    captures: u64,
    emitted: Option<u64>,
    refs: u64,
    cache_events: u64,
    pub(super) lost: Option<u64>,
    /// More than one chunk a CPU: the clocks were read at the begin of each, which is told nowhere.
    pub(super) rotated: bool,
    /// Of a table: its rows stand in its own order, whatever their times.
    pub(super) translated: bool,
    /// Sum of the losses of refs that count as lost; of them, those that had no number.
    lost_told: u64,
    lost_unnumbered: u64,
    overwritten: u64,
    names_lost: bool,
    pub(super) processes: HashSet<u64>,
    pub(super) objects: HashSet<u64>,
    /// Readings of both clocks: monotonic, UTC.
    pub(super) anchors: Vec<(u64, u64)>,
}

impl Facts {
    /// A row may name a process or an object of which nothing is known.
    pub(super) fn names_lost(&self) -> bool {
        self.names_lost
    }
}

impl Reader<'_> {
    /// Checks a file of another table than `refs`, and adds to the facts of its capture.
    pub(super) fn small(
        &self,
        table: Table,
        file: &FileEntry,
        facts: &mut BTreeMap<String, Facts>,
        rules: &mut FileRules,
    ) {
        rules.footers.check(1);
        if may_be_of_several(table, file) {
            let wrong = self.each_batch(table, file, None, |batch| {
                for (id, rows) in by_capture(batch)? {
                    let facts = facts.get_mut(&id);
                    facts
                        .ok_or_else(|| format!("capture {id:?} is not in the manifest"))?
                        .learn(table, &rows)?;
                }
                Ok(())
            });
            for wrong in wrong {
                rules
                    .footers
                    .violation(|| format!("{}: {wrong}", file.path));
            }
            return;
        }
        let known = facts.contains_key(&file.capture_id);
        if !known {
            rules.footers.violation(|| {
                let (path, id) = (&file.path, &file.capture_id);
                format!("{path}: capture {id} is not in the manifest")
            });
        }
        let facts = facts.entry(file.capture_id.clone()).or_default();
        let wrong = self.each_batch(table, file, None, |batch| facts.learn(table, batch));
        for wrong in wrong {
            rules
                .footers
                .violation(|| format!("{}: {wrong}", file.path));
        }
    }
}

/// The rows of each capture.
fn by_capture(batch: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, String> {
    let ids = dictionary(batch, "capture_id")?;
    let texts = ids.values().as_string_opt::<i32>();
    let texts = texts.ok_or("capture_id: expected texts")?;
    let keys: BTreeSet<Option<i32>> = ids.keys().iter().collect();
    let rows = |key: Option<i32>| {
        let id = key.and_then(|k| usize::try_from(k).ok());
        let id = id.filter(|k| *k < texts.len()).map(|k| texts.value(k));
        let rows: BooleanArray = ids.keys().iter().map(|k| Some(k == key)).collect();
        let rows = filter_record_batch(batch, &rows).map_err(|e| e.to_string())?;
        Ok((id.unwrap_or_default().to_string(), rows))
    };
    keys.into_iter().map(rows).collect()
}

/// A column of 64-bit numbers, nulls as `None`.
fn numbers<'b>(
    batch: &'b RecordBatch,
    name: &str,
) -> Result<impl Iterator<Item = Option<u64>> + use<'b>, String> {
    Ok(values::<UInt64Type>(batch, name)?.iter())
}

fn first(batch: &RecordBatch, name: &str) -> Result<Option<u64>, String> {
    Ok(numbers(batch, name)?.next().flatten())
}

impl Facts {
    fn learn(&mut self, table: Table, batch: &RecordBatch) -> Result<(), String> {
        match table {
            Table::Captures => self.capture(batch),
            Table::Processes => {
                self.processes.extend(numbers(batch, "upid")?.flatten());
                Ok(())
            }
            Table::Objects => {
                self.objects.extend(numbers(batch, "object_id")?.flatten());
                Ok(())
            }
            Table::Losses => self.losses(batch),
            Table::Marks => {
                let both = numbers(batch, "monotonic_ns")?.zip(numbers(batch, "utc_ns")?);
                self.anchors.extend(both.filter_map(|(m, u)| m.zip(u)));
                Ok(())
            }
            Table::Refs | Table::Mappings => Ok(()),
        }
    }

    fn capture(&mut self, batch: &RecordBatch) -> Result<(), String> {
        self.captures += batch.num_rows() as u64;
        self.emitted = first(batch, "emitted")?;
        self.refs = first(batch, "refs")?.unwrap_or(0);
        self.cache_events = first(batch, "cache_events")?.unwrap_or(0);
        self.lost = first(batch, "lost")?;
        let count = |name| -> Result<u32, String> {
            let column = values::<UInt32Type>(batch, name)?;
            Ok(column.iter().next().flatten().unwrap_or(0))
        };
        self.rotated = count("chunks")? > count("cpus")?;
        let settings = batch.column_by_name("settings");
        let settings = settings.and_then(|c| c.as_string_opt::<i32>());
        let settings = settings.filter(|s| !s.is_empty()).map(|s| s.value(0));
        let settings: Option<Settings> = settings.and_then(|s| serde_json::from_str(s).ok());
        self.translated = settings.is_some_and(|s| kind::is_translated(&s.source));
        let clocks = first(batch, "clock_monotonic_ns")?.zip(first(batch, "clock_utc_ns")?);
        self.anchors.extend(clocks);
        Ok(())
    }

    fn losses(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let (causes, channels) = (dictionary(batch, "cause")?, dictionary(batch, "channel")?);
        let is = |column: &DictionaryArray<Int32Type>, row: usize, text: &str| {
            let key = column.keys().iter().nth(row).flatten();
            let key = key.and_then(|k| usize::try_from(k).ok());
            key.and_then(|k| wanted(column, |t| t == text).get(k).copied()) == Some(true)
        };
        for (row, count) in numbers(batch, "count")?.enumerate() {
            let overwritten = is(causes, row, OVERWRITTEN);
            let no_memory = is(causes, row, "no_memory");
            if !is(channels, row, "refs") {
                self.names_lost |= count != Some(0) && !overwritten;
                continue;
            }
            self.names_lost |= no_memory;
            let count = count.unwrap_or(0);
            if overwritten {
                self.overwritten = self.overwritten.saturating_add(count);
                continue;
            }
            self.lost_told = self.lost_told.saturating_add(count);
            if no_memory || is(causes, row, "probe_missed") {
                self.lost_unnumbered = self.lost_unnumbered.saturating_add(count);
            }
        }
        Ok(())
    }
}

/// What the manifest, `captures` and `losses` say of a capture, and what `refs` holds.
pub(super) fn check_capture(
    entry: &CaptureEntry,
    facts: Option<&Facts>,
    rows: Rows,
    rule: &mut Rule,
) {
    rule.check(1);
    let id = &entry.capture_id;
    let mut expect = |what: &str, expected: u64, found: u64| {
        if expected != found {
            rule.violation(|| format!("capture {id}: {what}: expected {expected}, found {found}"));
        }
    };
    expect("rows of refs, by the manifest", entry.refs, rows.refs);
    let Some(facts) = facts else { return };
    expect("rows of captures", 1, facts.captures);
    if facts.captures == 0 {
        return;
    }
    expect("rows of refs, by captures.refs", facts.refs, rows.refs);
    expect(
        "page-cache events, by captures.cache_events",
        facts.cache_events,
        rows.cache_events,
    );
    let lost = facts.lost.unwrap_or(0);
    expect("rows lost, by captures.lost", lost, facts.lost_told);
    expect("rows lost, by the manifest", entry.lost, facts.lost_told);
    // What a probe missed, or had no memory for, had no number, and is not in what was emitted.
    let numbered = facts.lost_told.saturating_sub(facts.lost_unnumbered);
    let sum = rows
        .refs
        .saturating_add(numbered)
        .saturating_add(facts.overwritten);
    match facts.emitted {
        Some(emitted) => expect("emitted: rows, lost and overwritten together", emitted, sum),
        None => rule.note(format!(
            "capture {id}: nobody knows how much was emitted: the recording was cut short"
        )),
    }
}
