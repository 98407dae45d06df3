//! How fast a recording is read, decoded and merged, without anything behind it, and what the machine's memory can do.
//!
//! Writes a JSON list of {metric, value, unit} to standard output. Every figure is the best of `--runs`, on `--threads`
//! threads; a record is anything with a sequence number, references and marks alike.
//!
//! ```text
//! cargo run --release -p pgtrace-ingest --example decode_merge -- RAW --threads 1
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use pgtrace_capture::chunk::BlockKind;
use pgtrace_capture::record::Record;
use pgtrace_capture::wire::Item;
use pgtrace_ingest::merge::{Merge, Next};
use pgtrace_ingest::source::{self, ChannelReader, Piece};
use pgtrace_ingest::survey::survey;

/// Measures reading, decoding and merging.
#[derive(Parser)]
struct Args {
    /// Chunks, or folders of them.
    #[arg(required = true)]
    raw: Vec<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The best of so many runs counts.
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

/// More than any cache holds.
const COPIED: usize = 256 << 20;
/// Copied so often a run, so that processor time is long against its grain.
const TIMES: usize = 16;

fn main() -> Result<()> {
    let args = Args::parse();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build()?;
    let results = pool.install(|| measure(&args))?;
    println!("{}", serde_json::to_string_pretty(&results)?);
    Ok(())
}

fn measure(args: &Args) -> Result<Vec<serde_json::Value>> {
    let from = vec![1u8; COPIED];
    let mut to = vec![0u8; COPIED];
    let (copy, ()) = best(args.runs, || {
        for _ in 0..TIMES {
            to.copy_from_slice(black_box(&from));
            black_box(&to);
        }
        Ok(())
    })?;
    let words: Vec<u64> = vec![1; COPIED / 8];
    let (sum, ()) = best(args.runs, || {
        for _ in 0..TIMES {
            black_box(black_box(&words).iter().sum::<u64>());
        }
        Ok(())
    })?;
    drop((from, to, words));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let find = || Ok(source::find(&args.raw, false, runtime.handle())?);
    let (found_in, found) = best(args.runs, find)?;
    let bytes: u64 = found.recordings.iter().map(|r| r.bytes()).sum();

    let (surveyed_in, records) = best(args.runs, || {
        let mut records = 0;
        for recording in &found.recordings {
            records += survey(recording, &|_| {})?.records;
        }
        Ok(records)
    })?;
    let (decoded_in, decoded) = best(args.runs, || {
        let mut decoded = 0;
        for recording in &found.recordings {
            for chunks in recording.cpus.values() {
                decoded += decode(chunks)?;
            }
        }
        Ok(decoded)
    })?;
    let (merged_in, merged) = best(args.runs, || {
        let mut merged = 0;
        for recording in &found.recordings {
            merged += merge(recording)?;
        }
        Ok(merged)
    })?;
    ensure!(merged > 0 && decoded > 0, "nothing to measure");

    let mut lines = Vec::new();
    let mut line = |metric: &str, value: f64, unit: &str| {
        lines.push(serde_json::json!({"metric": metric, "value": value, "unit": unit, "threads": args.threads}));
    };
    let giga = |bytes: u64, seconds: f64| bytes as f64 / seconds / 1e9;
    line("raw bytes", bytes as f64, "B");
    line("records", records as f64, "records");
    let all = (COPIED * TIMES) as u64;
    let copying = giga(all, copy.cpu);
    line("memory copied, a core", copying, "GB/s");
    line("memory read, a core", giga(all, sum.cpu), "GB/s");
    line(
        "identify (read, BLAKE3)",
        giga(bytes, found_in.wall),
        "GB/s",
    );
    line(
        "identify (read, BLAKE3), a core",
        giga(bytes, found_in.cpu),
        "GB/s",
    );
    let both = Took {
        wall: surveyed_in.wall + merged_in.wall,
        cpu: surveyed_in.cpu + merged_in.cpu,
    };
    for (what, count, took) in [
        ("survey", records, surveyed_in),
        ("decode alone (read, CRC, decode)", decoded, decoded_in),
        ("decode and merge", merged, merged_in),
        ("survey, then decode and merge", merged, both),
    ] {
        line(what, count as f64 / took.wall / 1e6, "M records/s");
        line(
            &format!("{what}, a core"),
            count as f64 / took.cpu / 1e6,
            "M records/s",
        );
    }
    // A recording is read from memory once; copying reads and writes.
    let merging = giga(bytes, merged_in.cpu);
    line("decode and merge, bytes, a core", merging, "GB/s");
    line(
        "decode and merge, share of copying bandwidth",
        merging / copying,
        "",
    );
    Ok(lines)
}

/// What a run took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    /// By the clock on the wall.
    wall: f64,
    /// Of processors, all threads together: what counts where others use the machine, too.
    cpu: f64,
}

/// The least of `runs`, and what the last one gave.
fn best<T>(runs: u32, mut run: impl FnMut() -> Result<T>) -> Result<(Took, T)> {
    let mut least = Took {
        wall: f64::INFINITY,
        cpu: f64::INFINITY,
    };
    let mut last = None;
    for _ in 0..runs.max(1) {
        let (started, before) = (Instant::now(), cpu_seconds()?);
        last = Some(run()?);
        least.wall = least.wall.min(started.elapsed().as_secs_f64());
        least.cpu = least.cpu.min((cpu_seconds()? - before).max(0.01));
    }
    Ok((least, last.expect("at least one run")))
}

/// Processor time of this program so far; its grain is 10 ms.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th field behind it.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .map(|f| f.parse().unwrap_or(0.0))
        .sum();
    Ok(ticks / 100.0)
}

/// Decodes all blocks of references of one CPU, and forgets them.
fn decode(chunks: &[source::Chunk]) -> Result<u64> {
    let mut reader = ChannelReader::new(chunks);
    let (mut decoded, mut sum) = (0, 0u64);
    while let Some(piece) = reader.next_piece()? {
        if !matches!(piece, Piece::Block(BlockKind::Refs)) {
            continue;
        }
        for item in reader.decode(0) {
            if let Item::Record(record) = item? {
                decoded += 1;
                // Every field that a row keeps has to be there.
                if let Record::Ref(r) = &record {
                    let small = u64::from(r.object) ^ u64::from(r.tid) ^ u64::from(r.uid);
                    sum = sum.wrapping_add(r.addr ^ r.page ^ r.ip ^ r.stamp.time_ns ^ small);
                }
            }
        }
    }
    black_box(sum);
    Ok(decoded)
}

/// Merges a recording, and forgets it.
fn merge(recording: &source::Recording) -> Result<u64> {
    let cpus = recording.cpus.iter().map(|(cpu, c)| (*cpu, c.as_slice()));
    let mut merge = Merge::new(cpus)?;
    let (mut merged, mut sum) = (0, 0u64);
    while let Some(next) = merge.next_run()? {
        match next {
            Next::Rows { rows, .. } => {
                merged += rows.len() as u64;
                for r in rows {
                    sum = sum.wrapping_add(r.addr ^ r.page ^ r.ip ^ r.time_ns ^ u64::from(r.cpu));
                }
            }
            Next::Mark(_) => merged += 1,
        }
    }
    black_box(sum);
    Ok(merged)
}
