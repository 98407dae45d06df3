//! A dataset to be taken apart, and what came of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgtrace_ingest::dataset::Dataset;
use pgtrace_ingest::manifest::{FileEntry, Manifest};
use pgtrace_ingest::schema::Table;
use pgtrace_ingest::verify;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Fabricator, Row, START, pgtrace_sql, reference};

/// Rows of a slice.
pub const SLICE: u64 = 100;

pub fn number(row: &Row, column: &str) -> u64 {
    row[column].as_u64().unwrap_or(u64::MAX)
}

pub fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or("")
}

/// Two recordings: 1000 references of four processes of two users to a dozen objects, and 150 of two others.
pub fn many() -> Vec<Row> {
    let mut rows = Vec::new();
    for (capture, count, start) in [("c1", 1000u64, 0u64), ("c2", 150, 50_000)] {
        for seq in 0..count {
            let mixed = (seq + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            let pid = 1 + mixed % 4;
            let object = 1 + mixed / 4 % 12;
            let path = match object {
                1..=4 => Some(format!("/data/a_{object}")),
                5..=7 => Some(format!("/lib/x{object}")),
                8 => Some("/data/a%b".to_owned()),
                9 => Some("/data/axb".to_owned()),
                _ => None,
            };
            let access =
                [Value::Null, "read".into(), "write".into()][(mixed / 512 % 3) as usize].clone();
            let event = ["fault", "retouch", "lookup", "insert"][(mixed / 64 % 4) as usize];
            rows.push(reference(&json!({
                "capture_id": capture, "seq": seq, "pid": pid, "upid": pid << 22 | 9, "tid": pid + mixed / 256 % 2,
                "uid": if pid < 3 { 1000 } else { 7 }, "ts": start + seq * 1000,
                "comm": if seq < 200 { "work" } else { "other" }, "path": path,
                "object_kind": if path.is_some() { "file" } else { "anon" }, "event": event,
                "access": access,
                "addr": if event == "lookup" || event == "insert" { Value::Null } else { json!(0x1000 * (mixed / 2048 % 12)) },
                "object_id": object, "page": mixed / 4096 % 20,
            })));
        }
    }
    rows
}

/// A place with the dataset of [`many`] in it.
pub struct Place {
    folder: TempDir,
    pub data: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut made = Fabricator::new(&data);
        made.refs(&many(), SLICE);
        made.captures(&many(), 19);
        let mut processes = Vec::new();
        let (mut losses, mut marks, mut mappings) = (Vec::new(), Vec::new(), Vec::new());
        let row = |value: Value| value.as_object().unwrap().clone();
        for (capture, start) in [("c1", START), ("c2", START + 50_000)] {
            for pid in 1..=5u64 {
                processes.push(row(json!({
                    "capture_id": capture, "upid": pid << 22 | 9, "pid": pid, "ppid": if pid == 3 { 5 } else { 77 },
                    "uid": if pid < 3 { 1000 } else { 7 }, "comm": "work", "cwd": format!("/home/{pid}"), "start_ts": start - 1,
                })));
                for object in 1..=12u64 {
                    mappings.push(row(json!({
                        "capture_id": capture, "upid": pid << 22 | 9, "pid": pid, "object_id": object, "start_addr": object << 20,
                        "end_addr": (object + 1) << 20, "page": 0, "read": true, "write": false, "exec": false,
                        "shared": false, "ts": start,
                    })));
                }
                for at in [0i64, 150_000, 400_000, 900_000] {
                    marks.push(row(json!({
                        "capture_id": capture, "ts": start + at, "cpu": 0, "kind": if at == 0 { "attach" } else { "mmap" },
                        "pid": pid, "upid": pid << 22 | 9, "object_id": if at == 0 { Value::Null } else { json!(pid) },
                    })));
                }
            }
            marks.push(row(json!({"capture_id": capture, "ts": start, "cpu": 0, "kind": "level", "level": "full"})));
            for (from, to, count) in [
                (Some(120_000), Some(130_000), 3),
                (Some(800_000), Some(800_001), 5),
                (None, None, 11),
            ] {
                losses.push(row(json!({
                    "capture_id": capture, "cpu": 0, "from_ts": from.map(|t: i64| start + t), "to_ts": to.map(|t: i64| start + t),
                    "count": count, "cause": "buffer_full", "channel": "refs",
                })));
            }
        }
        made.forget(Table::Processes);
        made.forget(Table::Losses);
        for (table, rows) in [
            (Table::Processes, processes),
            (Table::Losses, losses),
            (Table::Marks, marks),
            (Table::Mappings, mappings),
        ] {
            made.small(table, &rows);
        }
        made.slice_rows(SLICE);
        made.commit();
        Place { folder, data }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on the dataset; gives its exit code, which is 0 or 1, and what it said.
    pub fn run(&self, args: &[&str], to: &Path) -> (i32, String) {
        let mut command = pgtrace_sql();
        command.args(args).arg(&self.data).arg("--to").arg(to);
        let out = command.output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        let code = out.status.code().unwrap();
        assert!(code < 2, "{args:?}: {said}");
        assert!(out.stdout.is_empty());
        (code, said)
    }

    /// That what goes with the rows is there: names, parents, marks, losses, totals; and that `verify` agrees.
    pub fn check(&self, to: &Path, rows: &[Row], what: &str) {
        let key = |r: &Row, column: &str| (text(r, "capture_id").to_owned(), number(r, column));
        let set = |rows: &[Row], column: &str| -> BTreeSet<_> {
            rows.iter().map(|r| key(r, column)).collect()
        };
        let (processes, objects) = (read(to, Table::Processes), read(to, Table::Objects));
        assert!(
            set(&processes, "upid").is_superset(&set(rows, "upid")),
            "{what}"
        );
        assert!(
            set(&objects, "object_id").is_superset(&set(rows, "object_id")),
            "{what}"
        );
        assert!(
            set(&processes, "upid").is_superset(&set(&objects, "upid")),
            "{what}: owners"
        );
        for child in &processes {
            let parent = read(&self.data, Table::Processes).into_iter().find(|p| {
                text(p, "capture_id") == text(child, "capture_id") && p["pid"] == child["ppid"]
            });
            assert!(
                parent.is_none_or(|p| set(&processes, "upid").contains(&key(&p, "upid"))),
                "{what}: parents"
            );
        }
        for other in [read(to, Table::Mappings), read(to, Table::Marks)] {
            for row in &other {
                let is = |column: &str| !row[column].is_null();
                assert!(
                    !is("upid") || set(&processes, "upid").contains(&key(row, "upid")),
                    "{what}"
                );
                assert!(
                    !is("object_id") || set(&objects, "object_id").contains(&key(row, "object_id")),
                    "{what}"
                );
            }
        }
        let lost = read(to, Table::Losses);
        for capture in read(to, Table::Captures) {
            let of = |rows: &[Row]| -> Vec<Row> {
                rows.iter()
                    .filter(|r| r["capture_id"] == capture["capture_id"])
                    .cloned()
                    .collect()
            };
            assert_eq!(number(&capture, "refs"), of(rows).len() as u64, "{what}");
            let sum: u64 = of(&lost).iter().map(|r| number(r, "count")).sum();
            assert_eq!(number(&capture, "lost"), sum, "{what}");
        }
        verified(to, what);
    }
}

/// That `verify` finds nothing but what fabricated files lack.
pub fn verified(to: &Path, what: &str) {
    let report = verify::verify(
        &[to.to_str().unwrap().to_owned()],
        &verify::Options::default(),
    )
    .unwrap();
    for rule in report.subjects.iter().flat_map(|s| &s.rules) {
        // Fabricated files have no footer of ours.
        if rule.name != "files" {
            assert!(rule.holds(), "{what}: {report}");
        }
    }
}

/// Runs a command that must end well.
pub fn done(command: &mut assert_cmd::Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code().unwrap() < 2, "{said}");
    said
}

pub fn manifest(root: &Path) -> Manifest {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dataset = runtime.block_on(Dataset::open(root.to_str().unwrap()));
    dataset.unwrap().manifest().clone()
}

/// All rows of a table, read with nothing but parquet.
pub fn read(root: &Path, table: Table) -> Vec<Row> {
    let files = manifest(root);
    files
        .files(table)
        .iter()
        .flat_map(|f| read_file(root, f))
        .collect()
}

fn read_file(root: &Path, file: &FileEntry) -> Vec<Row> {
    let path = root.join(&file.path);
    let opened = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(
        opened.metadata().unwrap().len(),
        file.bytes,
        "{}",
        file.path
    );
    let batches = ParquetRecordBatchReaderBuilder::try_new(opened)
        .unwrap()
        .build()
        .unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(crate::place::json_rows(&batch.unwrap()));
    }
    assert_eq!(rows.len() as u64, file.rows, "{}", file.path);
    rows
}

pub fn json_rows(batch: &arrow::array::RecordBatch) -> Vec<Row> {
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Field, Schema};
    // Times as numbers.
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let to = match field.data_type() {
            DataType::Timestamp(..) => DataType::Int64,
            DataType::Dictionary(..) => DataType::Utf8,
            other => other.clone(),
        };
        columns.push(cast(column, &to).unwrap());
        fields.push(Field::new(field.name(), to, true));
    }
    let plain = arrow::array::RecordBatch::try_new(Schema::new(fields).into(), columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut bytes);
    writer.write(&plain).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// That two tables have the same rows, in whatever order.
pub fn same(found: &[Row], expected: &[Row], what: &str) {
    let sorted = |rows: &[Row]| -> Vec<String> {
        let rows = rows.iter().map(|r| r.iter().collect::<BTreeMap<_, _>>());
        let mut texts: Vec<String> = rows.map(|r| serde_json::to_string(&r).unwrap()).collect();
        texts.sort();
        texts
    };
    let (found, expected) = (sorted(found), sorted(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{what}");
    }
}

/// All files below a folder, relative to it.
pub fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                ),
            }
        }
    }
    found.sort();
    found
}

/// The most memory a program took, in bytes.
pub fn peak_of(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // Gone once it has ended, but for the line we want.
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kb = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            peak = peak.max(kb.unwrap_or(0) * 1024);
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.code().unwrap() < 2, "{status}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
