//! Trials of the physical layout of `refs`: the same rows, written in many ways, and read back.
//!
//! For every way: bytes a row, rows a second written by one core (columns are there already), and what three questions
//! take: all of three columns; the rows of one path (five columns); the rows of one in a hundred addresses (the same).
//! Prints a table in Markdown. Times are processor time.
//!
//! ```text
//! cargo run --release -p pgtrace-ingest --example layout -- DATASET/refs/.../*.parquet
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod reading;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Int32Type, UInt64Type};
use clap::Parser;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;
use reading::{Answer, Between, Counted, ask};

/// Tries layouts of refs.
#[derive(Parser)]
struct Args {
    /// Parquet files of refs; each is written anew as one file.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only ways whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only ways from this one on.
    #[arg(long, default_value = "")]
    from: String,
    /// The best of so many runs counts.
    #[arg(long, default_value_t = 2)]
    runs: u32,
}

type Set = fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder;

/// As ingest writes it (encode.rs).
fn base() -> WriterPropertiesBuilder {
    let b = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1 << 20))
        .set_compression(Compression::ZSTD(ZstdLevel::default()));
    let b = encode(b, "seq", Encoding::DELTA_BINARY_PACKED);
    let b = encode(b, "ts", Encoding::DELTA_BINARY_PACKED);
    let b = encode(b, "page", Encoding::BYTE_STREAM_SPLIT);
    encode(b, "addr", Encoding::BYTE_STREAM_SPLIT)
}

fn encode(b: WriterPropertiesBuilder, name: &str, e: Encoding) -> WriterPropertiesBuilder {
    b.set_column_dictionary_enabled(name.into(), false)
        .set_column_encoding(name.into(), e)
}

fn dictionary(b: WriterPropertiesBuilder, name: &str) -> WriterPropertiesBuilder {
    // A page of 8 MiB holds a million different numbers: it never gives up.
    b.set_column_dictionary_enabled(name.into(), true)
        .set_column_dictionary_page_size_limit(name.into(), 8 << 20)
}

fn zstd(b: WriterPropertiesBuilder, level: i32) -> WriterPropertiesBuilder {
    b.set_compression(Compression::ZSTD(ZstdLevel::try_new(level).unwrap()))
}

const DELTA: Encoding = Encoding::DELTA_BINARY_PACKED;
const SPLIT: Encoding = Encoding::BYTE_STREAM_SPLIT;
const PLAIN: Encoding = Encoding::PLAIN;

/// The ways, by name.
const WAYS: &[(&str, Set)] = &[
    ("as ingest writes it", |b| b),
    ("no compression", |b| {
        b.set_compression(Compression::UNCOMPRESSED)
    }),
    ("zstd 3", |b| zstd(b, 3)),
    ("zstd 6", |b| zstd(b, 6)),
    ("seq: split", |b| encode(b, "seq", SPLIT)),
    ("seq: plain", |b| encode(b, "seq", PLAIN)),
    ("ts: split", |b| encode(b, "ts", SPLIT)),
    ("ts: dictionary", |b| dictionary(b, "ts")),
    ("ts: plain", |b| encode(b, "ts", PLAIN)),
    ("addr: delta", |b| encode(b, "addr", DELTA)),
    ("addr: dictionary", |b| dictionary(b, "addr")),
    ("addr: plain", |b| encode(b, "addr", PLAIN)),
    ("page: delta", |b| encode(b, "page", DELTA)),
    ("page: dictionary", |b| dictionary(b, "page")),
    ("page: plain", |b| encode(b, "page", PLAIN)),
    ("ip: split", |b| encode(b, "ip", SPLIT)),
    ("ip: delta", |b| encode(b, "ip", DELTA)),
    ("ip: plain", |b| encode(b, "ip", PLAIN)),
    ("object_id: delta", |b| encode(b, "object_id", DELTA)),
    ("object_id: split", |b| encode(b, "object_id", SPLIT)),
    ("object_id: plain", |b| encode(b, "object_id", PLAIN)),
    ("pid, tid, uid, upid: delta", |b| {
        ["pid", "tid", "uid", "upid"]
            .into_iter()
            .fold(b, |b, c| encode(b, c, DELTA))
    }),
    ("pid, tid, uid, upid: plain", |b| {
        ["pid", "tid", "uid", "upid"]
            .into_iter()
            .fold(b, |b, c| encode(b, c, PLAIN))
    }),
    ("cpu, page_order: plain", |b| {
        ["cpu", "page_order"]
            .into_iter()
            .fold(b, |b, c| encode(b, c, PLAIN))
    }),
    ("row groups of 64k", |b| {
        b.set_max_row_group_row_count(Some(64 << 10))
    }),
    ("row groups of 128k", |b| {
        b.set_max_row_group_row_count(Some(128 << 10))
    }),
    ("row groups of 256k", |b| {
        b.set_max_row_group_row_count(Some(256 << 10))
    }),
    ("row groups of 4M", |b| {
        b.set_max_row_group_row_count(Some(4 << 20))
    }),
    ("pages of 2,000 rows", |b| {
        b.set_data_page_row_count_limit(2_000)
    }),
    ("pages of 5,000 rows", |b| {
        b.set_data_page_row_count_limit(5_000)
    }),
    ("pages of 10,000 rows", |b| {
        b.set_data_page_row_count_limit(10_000)
    }),
    ("pages of 50,000 rows", |b| {
        b.set_data_page_row_count_limit(50_000)
    }),
    ("pages of 1 MiB, any rows", |b| {
        b.set_data_page_row_count_limit(usize::MAX)
    }),
    ("batches of 8192", |b| b.set_write_batch_size(8192)),
    ("version 2", |b| {
        b.set_writer_version(WriterVersion::PARQUET_2_0)
    }),
    ("statistics of row groups only", |b| {
        b.set_statistics_enabled(EnabledStatistics::Chunk)
    }),
    (
        "statistics of pages for seq, ts, addr, page, object_id, pid, path only",
        |b| {
            let b = b.set_statistics_enabled(EnabledStatistics::Chunk);
            ["seq", "ts", "addr", "page", "object_id", "pid", "path"]
                .into_iter()
                .fold(b, |b, c| {
                    b.set_column_statistics_enabled(c.into(), EnabledStatistics::Page)
                })
        },
    ),
    ("no statistics", |b| {
        b.set_statistics_enabled(EnabledStatistics::None)
    }),
    ("Bloom filter on path", |b| bloom(b, "path", 1000)),
    ("Bloom filter on object_id", |b| bloom(b, "object_id", 1000)),
    ("Bloom filter on addr", |b| bloom(b, "addr", 1 << 20)),
    ("Bloom filter on page", |b| bloom(b, "page", 1 << 17)),
    ("page: dictionary up to 1 MiB, then split", small_dictionary),
    (
        "addr: plain, page: dictionary up to 1 MiB, then split, row groups of 128k",
        |b| small_dictionary(encode(b, "addr", PLAIN)).set_max_row_group_row_count(Some(128 << 10)),
    ),
    (
        "addr: plain, page: dictionary up to 1 MiB, then split, row groups of 256k",
        |b| small_dictionary(encode(b, "addr", PLAIN)).set_max_row_group_row_count(Some(256 << 10)),
    ),
    ("addr: plain, page: dictionary", plain_addr),
    ("addr: plain, page: dictionary, zstd 3", |b| {
        zstd(plain_addr(b), 3)
    }),
    ("addr: plain, page: dictionary, pages of 50,000 rows", |b| {
        plain_addr(b).set_data_page_row_count_limit(50_000)
    }),
    ("addr: plain, page: dictionary, row groups of 128k", |b| {
        plain_addr(b).set_max_row_group_row_count(Some(128 << 10))
    }),
    (
        "addr: plain, page: dictionary, pages of 30,000 rows, zstd 3",
        |b| zstd(plain_addr(b), 3).set_data_page_row_count_limit(30_000),
    ),
];

fn small_dictionary(b: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    // The encoding that is set is for when the dictionary is full.
    b.set_column_dictionary_enabled("page".into(), true)
        .set_column_dictionary_page_size_limit("page".into(), 1 << 20)
}

fn plain_addr(b: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    dictionary(encode(b, "addr", PLAIN), "page")
}

fn bloom(b: WriterPropertiesBuilder, name: &str, different: u64) -> WriterPropertiesBuilder {
    b.set_column_bloom_filter_enabled(name.into(), true)
        .set_column_bloom_filter_max_ndv(ColumnPath::from(name), different)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let files: Vec<Vec<RecordBatch>> = args.files.iter().map(load).collect::<Result<_>>()?;
    let questions = Questions::new(&files)?;
    let rows: usize = files.iter().flatten().map(RecordBatch::num_rows).sum();
    println!(
        "{rows} rows in {} files; path {} ({} rows), addresses {:#x} to {:#x}\n",
        files.len(),
        questions.path_name,
        questions.path_rows,
        questions.low,
        questions.high
    );
    println!(
        "| way | B a row | M rows/s written | 3 columns, s | path: KiB, ms | addresses: KiB, ms |"
    );
    println!("|---|---|---|---|---|---|");
    let first = WAYS.iter().position(|(name, _)| name.contains(&args.from));
    for (name, set) in WAYS.iter().skip(first.unwrap_or(0)) {
        if name.contains(&args.only) {
            trial(name, &set(base()).build(), &files, &questions, args.runs)?;
        }
    }
    // The other orders: what sorting would give, were seq order not the contract.
    for (name, order) in [
        (
            "rows by (object_id, page, seq)",
            &["object_id", "page", "seq"][..],
        ),
        ("rows by (object_id, seq)", &["object_id", "seq"]),
        ("rows by (pid, seq)", &["pid", "seq"]),
    ] {
        if name.contains(&args.only) {
            let sorted = files
                .iter()
                .map(|f| sort(f, order))
                .collect::<Result<Vec<_>>>()?;
            trial(name, &base().build(), &sorted, &questions, args.runs)?;
        }
    }
    if args.only.is_empty() {
        columns(&files)?;
    }
    Ok(())
}

/// What each column takes, as ingest writes it.
fn columns(files: &[Vec<RecordBatch>]) -> Result<()> {
    let mut sizes: Vec<(String, i64)> = Vec::new();
    let mut rows = 0;
    for file in files {
        let written = write(file, &base().build())?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(written))?;
        for group in reader.metadata().row_groups() {
            rows += group.num_rows();
            for column in group.columns() {
                let name = column.column_path().string();
                match sizes.iter_mut().find(|(n, _)| *n == name) {
                    Some((_, size)) => *size += column.compressed_size(),
                    None => sizes.push((name, column.compressed_size())),
                }
            }
        }
    }
    println!("\n| column | B a row |\n|---|---|");
    for (name, size) in sizes {
        println!("| {name} | {:.3} |", size as f64 / rows as f64);
    }
    Ok(())
}

fn load(path: &PathBuf) -> Result<Vec<RecordBatch>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(1 << 16);
    Ok(reader.build()?.collect::<Result<_, _>>()?)
}

fn write(batches: &[RecordBatch], properties: &WriterProperties) -> Result<Vec<u8>> {
    let schema = batches.first().context("an empty file")?.schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.clone()))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

fn sort(batches: &[RecordBatch], order: &[&str]) -> Result<Vec<RecordBatch>> {
    let all = concat_batches(&batches.first().context("an empty file")?.schema(), batches)?;
    let by = order.iter().map(|name| SortColumn {
        values: all.column_by_name(name).expect("a column of refs").clone(),
        options: None,
    });
    let indices = lexsort_to_indices(&by.collect::<Vec<_>>(), None)?;
    Ok(vec![take_record_batch(&all, &indices)?])
}

struct Questions {
    path: Between,
    path_name: String,
    path_rows: u64,
    addr: Between,
    low: u64,
    high: u64,
}

impl Questions {
    /// A path with about one in a hundred of the rows; addresses of another one in a hundred.
    fn new(files: &[Vec<RecordBatch>]) -> Result<Self> {
        let mut paths: HashMap<String, u64> = HashMap::new();
        let (mut addrs, mut rows) = (Vec::new(), 0);
        for batch in files.iter().flatten() {
            rows += batch.num_rows() as u64;
            let path = batch.column_by_name("path").context("no path")?;
            let path = path.as_dictionary::<Int32Type>();
            let names = path.values().as_string::<i32>();
            for key in path.keys().iter().flatten() {
                *paths.entry(names.value(key as usize).into()).or_default() += 1;
            }
            let addr = batch.column_by_name("addr").context("no addr")?;
            addrs.extend(addr.as_primitive::<UInt64Type>().iter().flatten());
        }
        let (path_name, path_rows) = paths
            .into_iter()
            .min_by_key(|(name, count)| (count.abs_diff(rows / 100), name.clone()))
            .context("no path at all")?;
        addrs.sort_unstable();
        let at = |part: usize| addrs.get(addrs.len() * part / 100).copied();
        let (low, high) = (at(60).context("no addr")?, at(61).context("no addr")?);
        let text: ArrayRef = Arc::new(StringArray::from(vec![path_name.clone()]));
        let number = |n: u64| -> ArrayRef { Arc::new(UInt64Array::from(vec![n])) };
        Ok(Self {
            path: Between::new("path", text.clone(), text),
            path_name,
            path_rows,
            addr: Between::new("addr", number(low), number(high)),
            low,
            high,
        })
    }
}

fn trial(
    name: &str,
    properties: &WriterProperties,
    files: &[Vec<RecordBatch>],
    questions: &Questions,
    runs: u32,
) -> Result<()> {
    let (write_s, written) = timed(runs, || {
        files
            .iter()
            .map(|f| write(f, properties))
            .collect::<Result<Vec<_>>>()
    })?;
    let rows: usize = files.iter().flatten().map(RecordBatch::num_rows).sum();
    let bytes: usize = written.iter().map(Vec::len).sum();
    let written: Vec<Counted> = written.into_iter().map(Counted::new).collect();
    let question = |columns: &[&str], condition: Option<&Between>| {
        timed(runs, || {
            let mut sum = Answer::default();
            for file in &written {
                sum += ask(file, columns, condition)?;
            }
            Ok(sum)
        })
    };
    let few = ["seq", "ts", "pid", "page", "access"];
    let (scan_s, _) = question(&["seq", "object_id", "page"], None)?;
    let (path_s, path) = question(&few, Some(&questions.path))?;
    let (addr_s, addr) = question(&few, Some(&questions.addr))?;
    anyhow::ensure!(
        path.rows == questions.path_rows,
        "{name}: rows of the path are wrong"
    );
    println!(
        "| {name} | {:.2} | {:.2} | {scan_s:.3} | {}, {:.0} | {}, {:.0} |",
        bytes as f64 / rows as f64,
        rows as f64 / write_s / 1e6,
        path.bytes >> 10,
        path_s * 1e3,
        addr.bytes >> 10,
        addr_s * 1e3,
    );
    Ok(())
}

/// Least processor time of some runs in seconds, and what the last one gave.
fn timed<T>(runs: u32, mut run: impl FnMut() -> Result<T>) -> Result<(f64, T)> {
    let mut least = f64::INFINITY;
    let mut last = None;
    for _ in 0..runs.max(1) {
        let before = cpu_seconds()?;
        last = Some(run()?);
        least = least.min(cpu_seconds()? - before);
    }
    Ok((least, last.expect("at least one run")))
}

/// Processor time of this thread so far (everything here runs on one).
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(ns / 1e9)
}
