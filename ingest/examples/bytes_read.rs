//! How much of a dataset a question has to read: manifest, footers, and the pages that may hold its rows.
//!
//! The reader is parquet's own, told to prune by manifest, row-group statistics and page index; every byte it asks for is
//! counted. Once it reads all columns of the rows it finds, the most that a question can want, and once five of them. Writes
//! a JSON list of {metric, value, unit, peer, ratio}; ratio is the share of the bytes of all files of `refs`.
//!
//! ```text
//! cargo run --release -p pgtrace-ingest --example bytes_read -- DATASET
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{
    ArrayRef, AsArray, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, UInt64Type};
use clap::Parser;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pgtrace_ingest::manifest::{FileEntry, Manifest, Span};
use pgtrace_ingest::schema::Table;
use reading::{Answer, Between, Counted, ask};

/// Counts the bytes that questions read.
#[derive(Parser)]
struct Args {
    /// The dataset, a folder.
    dataset: PathBuf,
}

/// A question: what is looked for, and which files may have it.
struct Question {
    name: &'static str,
    what: String,
    between: Between,
    files: Box<dyn Fn(&FileEntry) -> bool>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = args.dataset.join("_pgtrace/manifest");
    let newest = std::fs::read_dir(&folder)?
        .filter_map(|e| Some(e.ok()?.path()))
        .max()
        .context("no manifest")?;
    let json = std::fs::read(&newest)?;
    let manifest = Manifest::from_json(&json)?;
    let files = manifest.files(Table::Refs);
    let rows = manifest.rows(Table::Refs);
    let total: u64 = files.iter().map(|f| f.bytes).sum();
    let mut lines = vec![serde_json::json!({
        "metric": "manifest", "value": json.len() as f64 / 1024.0, "unit": "KiB",
        "peer": format!("{} files of refs, {} KiB", files.len(), total >> 10),
        "ratio": json.len() as f64 / total as f64,
    })];
    for question in questions(&args.dataset, &manifest)? {
        for (kind, columns) in [("all columns", names()), ("5 columns", FEW.to_vec())] {
            let mut sum = Answer::default();
            let mut opened = 0;
            for entry in files.iter().filter(|f| (question.files)(f)) {
                let file = Counted::new(std::fs::read(args.dataset.join(&entry.path))?);
                sum += ask(&file, &columns, Some(&question.between))?;
                opened += 1;
            }
            ensure!(sum.rows > 0, "{}: no rows", question.what);
            let found = 100.0 * sum.rows as f64 / rows as f64;
            lines.push(serde_json::json!({
                "metric": format!("read for {}, {kind}", question.name),
                "value": sum.bytes as f64 / 1024.0,
                "unit": "KiB",
                "peer": format!(
                    "{} rows, {found:.2} % of all ({}); {opened} of {} files opened, {} KiB of footers and indexes",
                    sum.rows, question.what, files.len(), sum.footer >> 10
                ),
                "ratio": sum.bytes as f64 / total as f64,
            }));
        }
    }
    println!("{}", serde_json::to_string_pretty(&lines)?);
    Ok(())
}

/// Bits of an address within 256 KiB.
const PLACE: u64 = (256 << 10) - 1;
/// What a question commonly wants of the rows it finds.
const FEW: [&str; 5] = ["seq", "ts", "pid", "page", "access"];

fn names() -> Vec<&'static str> {
    let columns = Table::Refs.columns();
    columns.iter().map(|c| c.name).collect()
}

fn questions(dataset: &Path, manifest: &Manifest) -> Result<Vec<Question>> {
    let files = manifest.files(Table::Refs);
    // The pid with the median of rows.
    let mut pids: BTreeMap<u32, u64> = BTreeMap::new();
    for file in files {
        let pid = file.pid.context("no pids in the manifest")?;
        *pids.entry(pid.min).or_default() += file.rows;
    }
    let mut by_rows: Vec<(u64, u32)> = pids.into_iter().map(|(pid, rows)| (rows, pid)).collect();
    by_rows.sort_unstable();
    let pid = by_rows[by_rows.len() / 2].1;

    let mut time: Option<Span<i64>> = None;
    for ts in files.iter().filter_map(|f| f.ts) {
        let all = time.get_or_insert(ts);
        all.include(ts.min);
        all.include(ts.max);
    }
    let time = time.context("no times in the manifest")?;
    let length = time.max - time.min;
    let (from, to) = (time.min + length / 2, time.min + length / 2 + length / 100);

    let mut addrs: Vec<u64> = Vec::new();
    let mut paths: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        for batch in read(&dataset.join(&file.path), &["path", "addr"])? {
            let path = column(&batch, "path")?.as_dictionary::<Int32Type>();
            let texts = path.values().as_string::<i32>();
            for key in path.keys().iter().flatten() {
                match paths.get_mut(texts.value(key as usize)) {
                    Some(count) => *count += 1,
                    None => {
                        paths.insert(texts.value(key as usize).into(), 1);
                    }
                }
            }
            let addr = column(&batch, "addr")?.as_primitive::<UInt64Type>();
            addrs.extend(addr.iter().flatten());
        }
    }
    addrs.sort_unstable();
    let at = |percent: usize| addrs.get(addrs.len() * percent / 100).copied();
    let (low, high) = (at(60).context("no addr")?, at(61).context("no addr")?);
    let rows = manifest.rows(Table::Refs);
    // 256 KiB of address space that is seldom touched; addresses of several processes may fall into it.
    let places = addrs.chunk_by(|a, b| a | PLACE == b | PLACE);
    let place = places
        .min_by_key(|place| (place.len() as u64).abs_diff(rows / 10_000))
        .and_then(|place| place.first())
        .context("no addr")?
        & !PLACE;
    let path = paths
        .into_iter()
        .min_by_key(|(_, count)| count.abs_diff(rows / 100))
        .context("no path")?
        .0;
    let objects = objects_of(dataset, manifest, &path)?;

    let u32s = |n: u32| -> ArrayRef { Arc::new(UInt32Array::from(vec![n])) };
    let u64s = |n: u64| -> ArrayRef { Arc::new(UInt64Array::from(vec![n])) };
    let times = |ns: i64| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from(vec![ns]).with_timezone("UTC"))
    };
    let text: ArrayRef = Arc::new(StringArray::from(vec![path.clone()]));
    Ok(vec![
        Question {
            name: "one pid",
            what: format!("pid {pid}"),
            between: Between::new("pid", u32s(pid), u32s(pid)),
            files: Box::new(move |f| f.pid.is_some_and(|p| p.contains(pid))),
        },
        Question {
            name: "1 % of the time",
            what: format!("{:.3} s", (to - from) as f64 / 1e9),
            between: Between::new("ts", times(from), times(to)),
            files: Box::new(move |f| f.ts.is_some_and(|t| t.min <= to && from <= t.max)),
        },
        Question {
            name: "one path",
            what: path,
            between: Between::new("path", text.clone(), text),
            files: Box::new(move |f| f.objects.iter().any(|o| objects.contains(&o.object_id))),
        },
        Question {
            name: "addresses of 1 % of the references",
            what: format!("{low:#x} to {high:#x}"),
            between: Between::new("addr", u64s(low), u64s(high)),
            // The manifest says nothing of addresses.
            files: Box::new(|_| true),
        },
        Question {
            name: "a place that 1 in 10,000 references touch",
            what: format!("256 KiB from {place:#x}"),
            between: Between::new("addr", u64s(place), u64s(place | PLACE)),
            files: Box::new(|_| true),
        },
    ])
}

fn objects_of(dataset: &Path, manifest: &Manifest, path: &str) -> Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for file in manifest.files(Table::Objects) {
        for batch in read(&dataset.join(&file.path), &["object_id", "path"])? {
            let ids = column(&batch, "object_id")?.as_primitive::<UInt64Type>();
            let paths =
                arrow::compute::cast(column(&batch, "path")?, &arrow::datatypes::DataType::Utf8)?;
            let paths = paths.as_string::<i32>();
            let rows = ids.iter().zip(paths.iter());
            found.extend(
                rows.filter(|(_, p)| *p == Some(path))
                    .filter_map(|(id, _)| id),
            );
        }
    }
    Ok(found)
}

fn read(path: &Path, columns: &[&str]) -> Result<Vec<RecordBatch>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(1 << 16)
        .build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .with_context(|| format!("no column {name}"))
}
