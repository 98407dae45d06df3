//! `split`: all parts together are the whole, each is of one key, and opens by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use pgtrace_ingest::manifest::Span;
use pgtrace_ingest::schema::Table;
use serde_json::{Value, json};

use super::place::{Place, done, files, many, number, peak_of, read, same, text, verified};
use crate::common::{self, Fabricator, Row, START, pgtrace_sql, reference};

/// The lines of the list of parts.
fn list(to: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(to.join("parts.ndjson")).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// Splits; gives each key with its rows, after the parts were held against the rows that should be there.
fn split(
    place: &Place,
    name: &str,
    args: &[&str],
    asked: fn(&Row) -> bool,
    key: fn(&Row) -> Value,
) -> BTreeMap<String, Vec<Row>> {
    let to = place.at(name);
    let mut command = vec!["split"];
    command.extend(args);
    place.run(&command, &to);
    let mut expected: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in many().into_iter().filter(asked) {
        expected.entry(key(&row).to_string()).or_default().push(row);
    }
    let (mut found, mut folders) = (BTreeMap::new(), BTreeSet::new());
    for line in list(&to) {
        let folder = text(&line, "folder").to_owned();
        let part = to.join(&folder);
        let rows = read(&part, Table::Refs);
        assert_eq!(number(&line, "rows"), rows.len() as u64, "{line:?}");
        let lost: u64 = read(&part, Table::Losses)
            .iter()
            .map(|r| number(r, "count"))
            .sum();
        assert_eq!(number(&line, "lost"), lost, "{line:?}");
        let values: Vec<&Value> = line
            .iter()
            .filter(|(k, _)| !["folder", "rows", "lost"].contains(&k.as_str()))
            .map(|(_, v)| v)
            .collect();
        let value = match values.as_slice() {
            [one] => (*one).clone(),
            // In the order of their names.
            several => several.iter().map(|v| (*v).clone()).collect(),
        };
        assert!(
            rows.iter().all(|r| key(r) == value),
            "{line:?}: {:?}",
            rows.first().map(key)
        );
        place.check(&part, &rows, &format!("{args:?} {folder}"));
        assert!(folders.insert(folder));
        assert!(
            found.insert(value.to_string(), rows).is_none(),
            "{value} twice"
        );
    }
    let entries = std::fs::read_dir(&to)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = entries.filter(|n| n != "parts.ndjson").collect();
    assert_eq!(there, folders);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{args:?}"
    );
    for (key, rows) in &found {
        same(rows, &expected[key], key);
    }
    found
}

#[test]
fn all_parts_together_are_the_whole() {
    let place = Place::new();
    let all = |_: &Row| true;
    split(&place, "uid", &["--by", "uid"], all, |r| r["uid"].clone());
    split(&place, "tid", &["--by", "tid"], all, |r| r["tid"].clone());
    split(&place, "comm", &["--by", "comm"], all, |r| {
        r["comm"].clone()
    });
    split(&place, "path", &["--by", "path"], all, |r| {
        r["path"].clone()
    });
    split(&place, "slice", &["--by", "slice"], all, |r| {
        json!(number(r, "seq") / 100)
    });
    split(&place, "cwd", &["--by", "cwd"], all, |r| {
        json!(format!("/home/{}", r["pid"]))
    });
    split(&place, "cgroup", &["--by", "cgroup"], all, |_| Value::Null);
    split(&place, "object", &["--by", "object"], all, |r| {
        json!([r["capture_id"], r["object_id"]])
    });
    split(&place, "sql", &["--by", "page / 5"], all, |r| {
        json!(number(r, "page") / 5)
    });
    split(
        &place,
        "two",
        &["--by", "access", "--by", "pid"],
        all,
        |r| json!([r["access"], r["pid"]]),
    );
    // With filters, at the ends of whose ranges files are in part.
    let found = split(
        &place,
        "some",
        &[
            "--by",
            "pid",
            "--seq",
            "150..420",
            "--event",
            "fault,lookup",
        ],
        |r| {
            (150..420).contains(&number(r, "seq"))
                && ["fault", "lookup"].contains(&text(r, "event"))
        },
        |r| r["pid"].clone(),
    );
    assert_eq!(found.len(), 4);
    let none = split(
        &place,
        "none",
        &["--by", "pid", "--pid", "99"],
        |_| false,
        |r| r["pid"].clone(),
    );
    assert!(none.is_empty());
}

#[test]
fn files_of_one_key_are_shared() {
    let place = Place::new();
    let found = split(
        &place,
        "pid",
        &["--by", "pid"],
        |_| true,
        |r| r["pid"].clone(),
    );
    assert_eq!(found.len(), 4);
    let inodes = |root: &Path, below: &str| -> BTreeSet<u64> {
        let files = files(root).into_iter().filter(|p| p.contains(below));
        files
            .map(|p| std::fs::metadata(root.join(p)).unwrap().ino())
            .collect()
    };
    assert_eq!(
        inodes(&place.at("pid"), "refs/"),
        inodes(&place.data, "refs/")
    );
    // A key within a range: its files at the ends are written, those between are shared.
    split(
        &place,
        "part",
        &["--by", "pid", "--seq", "150.."],
        |r| number(r, "seq") >= 150,
        |r| r["pid"].clone(),
    );
    let (of_part, of_source) = (
        inodes(&place.at("part"), "refs/"),
        inodes(&place.data, "refs/"),
    );
    assert!(of_part.intersection(&of_source).count() > 30 && !of_part.is_subset(&of_source));
}

/// Rows of a file of [`scattered`].
const FILE: u64 = 1_000_000;

/// References whose pages are scattered over so many.
fn scattered(root: &Path, rows: u64, pages: u64) {
    let mut made = Fabricator::new(root);
    made.row_group = 1 << 17;
    let one = common::batch(
        Table::Refs,
        &[reference(&json!({"path": "/data/table", "addr": 4096}))],
    );
    let batch = |from: u64, to: u64| {
        let n = (to - from) as usize;
        let copies = arrow::array::UInt32Array::from(vec![0; n]);
        let many = arrow::compute::take_record_batch(&one, &copies).unwrap();
        let schema = many.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(many.columns())
            .map(|(f, c)| -> ArrayRef {
                let numbers = |of: &dyn Fn(u64) -> u64| {
                    Arc::new(UInt64Array::from_iter_values((from..to).map(of))) as ArrayRef
                };
                match f.name().as_str() {
                    "seq" => numbers(&|s| s),
                    "page" => numbers(&|s| s.wrapping_mul(0x9E37_79B9_7F4A_7C15) % pages),
                    "ip" => numbers(&|s| 0x40_0000 + (s.wrapping_mul(0xD1B5_4A32_D192_ED03) >> 52)),
                    "addr" => numbers(&|s| {
                        s.wrapping_mul(0x9E37_79B9_7F4A_7C15) % pages << 12
                            | s.wrapping_mul(0xD1B5_4A32_D192_ED03) >> 52
                    }),
                    "ts" => arrow::compute::cast(
                        &arrow::array::Int64Array::from_iter_values(
                            (from..to).map(|s| START + s as i64 * 500),
                        ),
                        f.data_type(),
                    )
                    .unwrap(),
                    _ => c.clone(),
                }
            });
        RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
    };
    for (slice, first) in (0..rows).step_by(FILE as usize).enumerate() {
        let behind = rows.min(first + FILE);
        let starts = (first..behind).step_by(50_000);
        let batches: Vec<_> = starts
            .map(|from| batch(from, behind.min(from + 50_000)))
            .collect();
        let entry = pgtrace_ingest::manifest::FileEntry {
            seq: Some(Span {
                min: first,
                max: behind - 1,
            }),
            ts: Some(Span {
                min: START + first as i64 * 500,
                max: START + (behind as i64 - 1) * 500,
            }),
            ..common::plain_entry("c1")
        };
        let path = format!("refs/uid=1000/pid=100/slice={slice:06}/c1-0.parquet");
        made.file(Table::Refs, &path, &batches, entry);
    }
    made.slice_rows(FILE);
    made.captures(&[reference(&json!({"path": "/data/table"}))], 7);
    made.commit();
}

/// Ten thousand datasets, 1024 open files at most, and far less memory than the rows take.
#[test]
fn ten_thousand_parts_under_the_limits() {
    const PARTS: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let (data, to) = (folder.path().join("data"), folder.path().join("parts"));
    scattered(&data, 1_000_000, PARTS);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 1024; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_pgtrace-sql"),
    ]);
    command
        .args([
            "split",
            "--by",
            "page",
            "--memory",
            "64MiB",
            "--threads",
            "2",
            "--to",
        ])
        .arg(&to)
        .arg(&data);
    let started = std::time::Instant::now();
    let peak = peak_of(&mut command);
    println!(
        "{PARTS} parts: peak {} MiB, {:.1} s",
        peak >> 20,
        started.elapsed().as_secs_f64()
    );
    assert!(peak < (64 << 20) + 200_000_000, "{peak}");
    let list = list(&to);
    assert_eq!(list.len() as u64, PARTS);
    assert_eq!(
        list.iter().map(|l| number(l, "rows")).sum::<u64>(),
        1_000_000
    );
    for line in list.iter().step_by(997) {
        let part = to.join(text(line, "folder"));
        let rows = read(&part, Table::Refs);
        assert_eq!(rows.len() as u64, number(line, "rows"));
        assert!(rows.iter().all(|r| r["page"] == line["page"]));
        verified(&part, "a part");
        assert!(
            std::fs::metadata(part.join("_pgtrace/manifest/00000000000000000001.json"))
                .unwrap()
                .len()
                < 4096
        );
    }
    done(
        pgtrace_sql()
            .arg(to.join("page=77"))
            .args(["-c", "SELECT * FROM page_irf"]),
    );
}

/// Bytes that a program reads, of whatever files.
fn bytes_read(args: &[&std::ffi::OsStr]) -> u64 {
    // What a child has read is its parent's, once it has ended.
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "\"$@\" >/dev/null 2>&1; cat /proc/$$/io",
            "sh",
            env!("CARGO_BIN_EXE_pgtrace-sql"),
        ])
        .args(args);
    let out = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    let read = out.lines().find_map(|l| l.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

#[test]
fn a_cut_of_a_hundredth_reads_two_hundredths_at_most() {
    const ROWS: u64 = 6_000_000;
    let folder = tempfile::tempdir().unwrap();
    let (made, data, to) = (
        folder.path().join("made"),
        folder.path().join("data"),
        folder.path().join("cut"),
    );
    scattered(&made, ROWS, 20_000);
    // Files as we write them: a row of each is left out, so that none is shared.
    let mut whole = pgtrace_sql();
    done(
        whole
            .args(["filter", "--where", "seq % 1000000 <> 7", "--to"])
            .arg(&data)
            .arg(&made),
    );
    let sizes = files(&data).into_iter().filter(|p| p.starts_with("refs/"));
    let all: u64 = sizes
        .map(|p| std::fs::metadata(data.join(p)).unwrap().len())
        .sum();
    // A reference comes every 500 ns: the 3 s that they take, and 30 ms in the middle of the third file.
    let args = ["cut", "--time", "1250ms..1280ms", "--to"].map(std::ffi::OsStr::new);
    let args = [&args[..], &[to.as_os_str(), data.as_os_str()]].concat();
    let (cut, nothing) = (bytes_read(&args), bytes_read(&["--help".as_ref()]));
    let rows = read(&to, Table::Refs);
    assert_eq!(rows.len() as u64, ROWS / 100);
    assert!(
        rows.iter()
            .all(|r| (2_500_000..2_560_000).contains(&number(r, "seq")))
    );
    let share = (cut - nothing) as f64 / all as f64;
    println!(
        "1 % of the time: {:.2} % of {} MiB read",
        share * 100.0,
        all >> 20
    );
    assert!(share <= 0.02, "{share}");
}
